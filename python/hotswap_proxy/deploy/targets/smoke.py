"""The smoke test of a route's version: each of its backends is asked, before requests of clients come.

A backend's own health check is made once (type Http or Tcp; Custom commands are left to the schedule), else
a connection is. Then come the deployment's own requests. All backends must pass; those that take no traffic
(disabled, weight 0) are not asked.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hotswap_proxy.control.health.http import MAX_ANSWER, judge
from hotswap_proxy.control.health.spec import AGENT, CheckSpec, check_of, read_spec
from hotswap_proxy.control.health.tls import Contexts
from hotswap_proxy.control.health.tls import explain as explain_tls
from hotswap_proxy.control.resolver import Resolution
from hotswap_proxy.deploy.facts import Smoke
from hotswap_proxy.deploy.record import SmokeTest
from hotswap_proxy.model import duration_ms, parse_url
from hotswap_proxy.store import Store, backends

ATTEMPTS = 3  # of each request: one lost packet is no reason to stop a rollout
PAUSE = 0.3  # seconds between them
CONCURRENCY = 16
TOTAL_SECONDS = 60.0


class Asked(NamedTuple):
    """One request to one backend. Without ``request`` a connection is enough. Times are seconds."""

    what: str
    request: bytes
    status: int
    body: bytes | None
    timeout: float
    has_body: bool = True  # the answer to HEAD has none, whatever it says


class Names(Protocol):
    """What is needed of ``control.resolver.Resolver``."""

    async def resolve(self, authorities: Iterable[str]) -> Resolution: ...


@dataclass(frozen=True, slots=True)
class SmokeTester:
    store: Store
    names: Names
    tls_files: Path

    async def run(self, route: Mapping[str, Any], tests: Sequence[SmokeTest]) -> Smoke:
        """Never raises; ends within about ``TOTAL_SECONDS``."""
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                return await self._run(route, tests)
        except TimeoutError:
            return Smoke(False, f"the smoke test did not end within {TOTAL_SECONDS:g} s")
        except Exception as error:  # whatever it is, nobody may wait for it for ever
            return Smoke(False, f"the smoke test could not be made ({type(error).__name__}: {error})")

    async def _run(self, route: Mapping[str, Any], tests: Sequence[SmokeTest]) -> Smoke:
        found: list[dict[str, Any]] = []
        for backend in route["backends"]:
            if "url" not in backend:
                stored = await self.store.read(backends.get, backend["backendId"])
                if stored is None:
                    return Smoke(False, f"backend {backend['backendId']} is not registered any more")
                backend = stored.document | {key: backend[key] for key in ("weight",) if key in backend}
            if backend["isEnabled"] and backend["weight"]:
                found.append(backend)
        if not found:
            return Smoke(False, "no backend of the version takes traffic")
        slots = asyncio.Semaphore(CONCURRENCY)
        contexts = Contexts(self.tls_files)

        async def ask(backend: dict[str, Any]) -> str | None:
            async with slots:
                return await self._ask_all(backend, tests, contexts)

        for backend, reason in zip(found, await asyncio.gather(*map(ask, found)), strict=True):
            if reason is not None:
                return Smoke(False, f"smoke test of backend {backend['name']}: {reason}")
        return Smoke(True, f"smoke test passed on {len(found)} backend{'s' if len(found) > 1 else ''}")

    async def _ask_all(
        self, backend: dict[str, Any], tests: Sequence[SmokeTest], contexts: Contexts
    ) -> str | None:
        """Why the backend does not pass; None: it does."""
        url = parse_url(backend["url"])
        host, port = url.host, url.port
        if url.is_name:
            resolution = await self.names.resolve([url.authority])
            if url.authority not in resolution.addresses:
                return resolution.errors.get(url.authority, "the name has no address")
            address = resolution.addresses[url.authority][0]
            host, _, digits = address.rpartition(":")
            host, port = host.strip("[]"), int(digits)
        context, server_name = None, None
        if url.scheme == "https":
            tls = backend.get("tls", {})
            # The same settings as those of a check, whose reader fills in the defaults.
            spec = read_spec(_CONNECT | {"tls": tls}).tls
            assert spec is not None
            try:
                context = contexts.get(spec)
            except (OSError, ValueError) as error:
                return f"its TLS settings cannot be used: {error}"
            server_name = spec.server_name or url.host
        for asked in _questions(backend, url.authority, tests):
            reason: str | None = None
            for attempt in range(ATTEMPTS):
                if attempt:
                    await asyncio.sleep(PAUSE)
                reason = await _answered(asked, host, port, context, server_name)
                if reason is None:
                    break
            if reason is not None:
                return f"{asked.what}: {reason}"
        return None


_CONNECT = {
    "type": "Tcp",
    "interval": "5s",
    "timeout": "3s",
    "unhealthyThreshold": 1,
    "healthyThreshold": 1,
    "expectedStatusCode": 200,
    "initialState": "Up",
    "endpoint": "/",
    "headers": {},
}


def _questions(backend: dict[str, Any], authority: str, tests: Sequence[SmokeTest]) -> list[Asked]:
    check = check_of(backend)
    spec: CheckSpec | None = read_spec(check) if check is not None else None
    if spec is not None and spec.type == "Http":
        head = spec.request(authority.encode())
        asked = [Asked("health check", head, spec.status, spec.body, spec.timeout)]
    else:
        asked = [Asked("connection", b"", 0, None, spec.timeout if spec is not None else 5.0)]
    return asked + [_request(test, authority) for test in tests]


def _request(test: SmokeTest, authority: str) -> Asked:
    headers = dict(test.headers or {})
    given = {name.lower() for name in headers}
    own = {"Host": authority, "Connection": "close", "User-Agent": AGENT, "Accept": "*/*"}
    lines = {name: value for name, value in own.items() if name.lower() not in given} | headers
    if test.method in ("POST", "PUT"):
        lines["Content-Length"] = "0"
    head = f"{test.method} {test.path} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    body = test.expected_response_body
    return Asked(
        f"{test.method} {test.path}",
        head.encode(),
        test.expected_status_code,
        None if body is None else body.encode(),
        duration_ms(test.timeout) / 1000,
        test.method != "HEAD",
    )


async def _answered(
    asked: Asked, host: str, port: int, context: ssl.SSLContext | None, server_name: str | None
) -> str | None:
    """Why the answer is not the one expected; None: it is."""
    try:
        async with asyncio.timeout(asked.timeout):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=server_name if context is not None else None
            )
            try:
                return await _exchange(asked, reader, writer)
            finally:
                writer.close()
    except TimeoutError:
        return f"no answer within {asked.timeout:g} s"
    except ssl.SSLError as error:
        return explain_tls(error)
    except OSError as error:
        return error.strerror.lower() if error.strerror else "the connection failed"


async def _exchange(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
    if not asked.request:
        return None
    writer.write(asked.request)
    await writer.drain()
    answer = bytearray()
    while True:
        data = await reader.read(16384)
        answer += data
        ended = not data
        if not asked.has_body and b"\r\n\r\n" in answer:
            # As if it said that nothing follows: the answer to a HEAD describes a body that is not sent.
            line = bytes(answer[: answer.find(b"\r\n")])
            verdict = judge(line + b"\r\ncontent-length: 0\r\n\r\n", True, asked.status, None)
        else:
            verdict = judge(answer, ended, asked.status, asked.body)
        if verdict is not None:
            return None if verdict[0] else verdict[1]
        if ended or len(answer) > MAX_ANSWER:
            return "the answer is not complete"
