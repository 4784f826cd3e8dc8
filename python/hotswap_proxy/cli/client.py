"""The admin API as the commands see it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hotswap_proxy.cli.options import EXIT_FAILED, EXIT_INVALID, CommandError, NotNow

if TYPE_CHECKING:
    import httpx

PREFIX = "/api/v1"
PAGE = 100
# The document or the command is wrong, rather than the moment or the server.
_INVALID = frozenset({400, 409, 413, 415, 422})
_NOT_NOW = frozenset({429, 502, 503, 504})
_TIMEOUT = 60.0
MOST_WAITS = 3  # of one page, for its turn


class AdminClient:
    """Calls one gateway's admin API; every failure is a :class:`CommandError`."""

    def __init__(self, url: str, token: str | None = None, *, timeout: float = _TIMEOUT) -> None:
        self.url = url.rstrip("/")
        import httpx  # not above: it takes a tenth of a second

        self._failures = httpx.HTTPError
        if not self.url.startswith(("http://", "https://")):
            raise CommandError([f"--admin-url {url!r}: must start with http:// or https://"], EXIT_INVALID)
        headers = {"authorization": f"Bearer {found}"} if (found := token or stored_token(self.url)) else {}
        try:
            # Neither the environment's proxies, which would see the token, nor .netrc, which replaces it.
            self._http = httpx.Client(
                base_url=self.url + PREFIX, headers=headers, timeout=timeout, trust_env=False
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise CommandError([f"--admin-url {url!r}: {error}"], EXIT_INVALID) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        ok: tuple[int, ...] = (),
    ) -> Any:
        """The JSON answer of a call, None for an empty one. A status in ``ok`` is an answer, whatever it
        means.
        """
        try:
            answer = self._http.request(
                method,
                path,
                params={name: _text(value) for name, value in (query or {}).items() if value is not None},
                json=body if body is not None else None,
            )
        except self._failures as error:
            raise NotNow([f"cannot reach {self.url}: {str(error) or type(error).__name__}"]) from error
        if answer.is_error and answer.status_code not in ok:
            raise _refused(answer)
        if not answer.content:
            return None
        try:
            return answer.json()
        except json.JSONDecodeError as error:
            raise CommandError([f"{self.url} does not answer like an admin API"]) from error

    def pages(self, path: str, key: str, query: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """All objects of a list, page by page: that can be more reads than a user has in a minute."""
        offset = waits = 0
        while True:
            try:
                page = self.call("GET", path, query={**(query or {}), "limit": PAGE, "offset": offset})
            except NotNow as error:
                if not error.retry_after or waits == MOST_WAITS:
                    raise
                waits += 1
                time.sleep(min(error.retry_after, _TIMEOUT))
                continue
            waits = 0
            yield from page[key]
            if not page.get("hasMore"):
                return
            offset = page["nextOffset"]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refused(answer: httpx.Response) -> CommandError:
    """An error answer in sentences: the message, then each field."""
    code = EXIT_INVALID if answer.status_code in _INVALID else EXIT_FAILED
    try:
        error = answer.json()["error"]
        lines = [f"{error['message']} ({error['code']})"]
        details = error.get("details") or []
        lines += [f"  {detail.get('field') or '-'}: {detail['message']}" for detail in details]
    except (ValueError, KeyError, TypeError):
        lines = [f"{answer.request.method} {answer.request.url}: status {answer.status_code}"]
    if answer.status_code == 401:
        lines.append("log in with `hotswap-proxy login`, or give a token by HOTSWAP_TOKEN")
    if answer.status_code in _NOT_NOW:
        refused = NotNow(lines, code)
        wait = answer.headers.get("retry-after", "")
        refused.retry_after = float(wait) if wait.isdigit() else 0.0
        return refused
    return CommandError(lines, code)


# --- tokens that `login` keeps ---------------------------------------------------------------------


def token_file() -> Path:
    """Where tokens are kept, by admin URL."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "hotswap-proxy" / "tokens.json"


def stored_token(url: str) -> str | None:
    """The token of an earlier `login`."""
    token = _tokens().get(url)
    return token if isinstance(token, str) else None


def store_token(url: str, token: str | None) -> Path:
    """Keep a token, or forget it; the file can be read by its owner only."""
    path = token_file()
    tokens = _tokens()
    if token is None:
        tokens.pop(url, None)
    else:
        tokens[url] = token
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(tokens, file)
    draft.replace(path)
    return path


def _tokens() -> dict[str, Any]:
    try:
        tokens = json.loads(token_file().read_text())
    except (OSError, ValueError):
        return {}
    return tokens if isinstance(tokens, dict) else {}
