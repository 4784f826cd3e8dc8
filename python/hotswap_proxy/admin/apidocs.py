"""``/openapi.json``, and Swagger UI at ``/swagger`` from an installed package: nothing of another host.

The document is made by a process of its own, at the first request: what it takes (the models of all answers,
their schemas) would stay in the control process's heap for good. Only the bytes are kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from hotswap_proxy.errors import GatewayError, NotFound, Unavailable
from hotswap_proxy.settings import environment_without_secrets

from .routing import error_response

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "hotswap_proxy.admin.openapi")
TIMEOUT = 60.0
# Its Python module is never imported: that would be Flask.
PACKAGE = "flask_swagger_ui"
FILES = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>hotswap-proxy admin API</title>
<link rel="stylesheet" href="swagger/swagger-ui.css">
<link rel="icon" type="image/png" href="swagger/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="swagger/swagger-ui-bundle.js"></script>
<script src="swagger/start.js"></script>
</body>
</html>
"""
# validatorUrl: by default the document's address is sent to a validator of other people's.
START = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  docExpansion: "list",
  tryItOutEnabled: true,
});
"""
# Swagger UI sets styles in its markup; scripts are files of this origin only, and nothing is evaluated.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REVALIDATE = "no-cache"  # kept, but asked for again: another version is another document


class ApiDocs:
    """The document and the page of one app."""

    def __init__(self) -> None:
        self._document = b""
        self._making = asyncio.Lock()

    def routes(self) -> list[Route]:
        return [
            Route("/openapi.json", self._openapi),
            Route("/swagger", self._page),
            Route("/swagger/start.js", self._start),
            Route("/swagger/{name}", self._file),
        ]

    async def _openapi(self, request: Request) -> Response:
        try:
            if not self._document:
                async with self._making:
                    self._document = self._document or await _make()
        except GatewayError as error:
            log.error("the OpenAPI document cannot be made: %s", error)
            return error_response(error, request)
        return _cached(request, Response(self._document, media_type="application/json"))

    async def _page(self, request: Request) -> Response:
        answer = HTMLResponse(PAGE)
        answer.headers["content-security-policy"] = POLICY
        return _cached(request, answer)

    async def _start(self, request: Request) -> Response:
        return _cached(request, Response(START, media_type="text/javascript"))

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        directory = assets()
        if name not in FILES or directory is None:
            return error_response(NotFound(f"there is no {request.url.path}"), request)
        stat = (directory / name).stat()
        answer = FileResponse(directory / name, media_type=FILES[name], stat_result=stat)
        return _not_modified(request, answer)


def assets() -> Path | None:
    """Where Swagger UI's files are; None if the package is not installed."""
    found = find_spec(PACKAGE)
    places = found.submodule_search_locations if found is not None else None
    return Path(next(iter(places))) / "dist" if places else None


def _cached(request: Request, answer: Response) -> Response:
    answer.headers["etag"] = f'"{hashlib.sha256(bytes(answer.body)).hexdigest()[:32]}"'
    return _not_modified(request, answer)


def _not_modified(request: Request, answer: Response) -> Response:
    """The answer, or 304 for who has it already (RFC 9110 section 13.1.2)."""
    answer.headers["cache-control"] = REVALIDATE
    tags = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if not tags & {"*", answer.headers["etag"]}:
        return answer
    kept = {name: answer.headers[name] for name in ("etag", "cache-control")}
    return Response(status_code=304, headers=kept)


async def _make() -> bytes:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            env=environment_without_secrets(),
        )
    except OSError as error:
        raise Unavailable(f"no process for the document: {error.strerror}") from error
    try:
        async with asyncio.timeout(TIMEOUT):
            document, problems = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"the document takes more than {TIMEOUT:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        log.error("the document failed: %s", problems.decode(errors="replace")[-2000:])
        raise Unavailable("the document failed; the log says why")
    return document
