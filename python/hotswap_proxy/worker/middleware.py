"""Runs the middleware of a worker's routes: one task for each request, only where a route asks for it.

Imported only by workers of a node that has middleware.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from hotswap_proxy.middleware import CallNext, Headers, Middleware, Request, Response

log = logging.getLogger("hotswap_proxy.worker")

# The gateway's to write: they delimit the message or belong to the connection (RFC 9110 section 7.6.1).
_OURS = frozenset(
    {
        *("connection", "content-length", "expect", "http2-settings", "keep-alive", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade", "x-request-id"),
    }
)


class Call(Protocol):
    """One request in the worker's hands (``_wire.Call``)."""

    @property
    def description(self) -> bytes: ...
    @property
    def body(self) -> bytes: ...
    @property
    def open(self) -> bool: ...
    def send(self, head: bytes, body: bytes, /) -> asyncio.Future[bytes]: ...
    def answer(self, head: bytes, body: bytes, /) -> bool: ...
    def fail(self) -> None: ...


class MiddlewareError(Exception):
    """A middleware that the settings name cannot be used."""


def load(settings: Sequence[str]) -> dict[str, Middleware]:
    """The functions that ``NAME=package.module:function`` items name; MiddlewareError: one cannot be had."""
    functions: dict[str, Middleware] = {}
    for item in settings:
        name, _, place = item.partition("=")
        module_name, _, attribute = place.partition(":")
        try:
            function = importlib.import_module(module_name)
            for part in attribute.split("."):
                function = getattr(function, part)
        except Exception as error:
            raise MiddlewareError(f"--middleware {item}: {type(error).__name__}: {error}") from error
        if not callable(function):
            raise MiddlewareError(f"--middleware {item}: {attribute} is not a function")
        functions[name] = function
    return functions


class Runner:
    """Starts the middleware of a request; what ``_wire.Server`` takes as ``middleware``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, functions: Mapping[str, Middleware]) -> None:
        self._loop = loop
        self._functions = functions

    def __call__(self, call: Call) -> asyncio.Task[None]:
        return self._loop.create_task(self._run(call))

    async def _run(self, call: Call) -> None:
        described = json.loads(call.description)
        names = described.pop("middleware")
        route, request_id = described["route"], described["request_id"]
        try:
            missing = next((name for name in names if name not in self._functions), None)
            if missing is not None:
                raise LookupError(f"this node has no middleware {missing}")
            request = _request(described, call.body)
            response = await self._link(names, 0, call)(request)
            head, body = _written(response, request.method)
        except asyncio.CancelledError:
            call.fail()  # no effect when it was cancelled because the exchange is over
            raise
        except BaseException as error:  # SystemExit too: one request must not end a worker
            log.error("a middleware failed", exc_info=error, extra={"route": route, "requestId": request_id})
            call.fail()
            return
        if not call.answer(head, body):
            log.error("a middleware's answer cannot be sent", extra={"route": route, "requestId": request_id})

    def _link(self, names: Sequence[str], index: int, call: Call) -> CallNext:
        """``call_next`` of the middleware before number ``index``."""
        called = False

        async def call_next(request: Request) -> Response:
            nonlocal called
            if called:
                raise RuntimeError("call_next may be called once")
            called = True
            if not isinstance(request, Request):
                raise TypeError(f"call_next takes a Request, not {type(request).__name__}")
            if index == len(names):
                return _response(await call.send(_target(request), request.body), request.method)
            response = await self._functions[names[index]](request, self._link(names, index + 1, call))
            if not isinstance(response, Response):
                given = type(response).__name__
                raise TypeError(f"the middleware {names[index]} returned {given}, not a Response")
            return response

        return call_next


def _request(described: dict[str, object], body: bytes) -> Request:
    described["query"] = described["query"] or ""
    described["headers"] = Headers(described["headers"])  # type: ignore[arg-type]
    return Request(body=body, **described)  # type: ignore[arg-type]


def _target(request: Request) -> bytes:
    """The head that a request is sent on with."""
    target = f"{request.path}?{request.query}" if request.query else request.path
    version = "1.1" if "host" in request.headers else "1.0"  # which needs none: the backend's own is put in
    lines = [f"{request.method} {target} HTTP/{version}", *_fields(request.headers)]
    if request.body or request.method not in ("GET", "HEAD", "DELETE", "OPTIONS", "TRACE"):
        lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _response(message: bytes, method: str) -> Response:
    """An answer as the worker captured it. It has been checked there."""
    head, _, body = message.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
    status = int(first.split(" ", 2)[1])
    described = method == "HEAD" or status == 304  # Content-Length then tells what the body would be
    hidden = _OURS - {"content-length"} if described else _OURS
    return Response(status, [field for field in fields if field[0].lower() not in hidden], body)


def _written(response: Response, method: str) -> tuple[bytes, bytes]:
    """Head and body of the answer to a request with this method."""
    response.check()  # its fields may have been set since it was made
    length: str | None = str(len(response.body))
    if (method == "HEAD" or response.status == 304) and not response.body:
        length = response.headers.get("content-length")
    if response.status == 204:
        length = None
    lines = [f"HTTP/1.1 {response.status} {_PHRASES.get(response.status, '')}", *_fields(response.headers)]
    if length is not None and length.isascii() and length.isdigit():
        lines.append(f"Content-Length: {length}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head, response.body


def _fields(headers: Headers) -> list[str]:
    return [f"{name}: {value}" for name, value in headers.items() if name.lower() not in _OURS]


def _phrases() -> dict[int, str]:
    from http import HTTPStatus

    return {status.value: status.phrase for status in HTTPStatus}


_PHRASES = _phrases()
