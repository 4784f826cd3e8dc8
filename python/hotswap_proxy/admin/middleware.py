"""What every answer carries: its request id and the headers that keep browsers careful, unless the answer has
others.
"""

from __future__ import annotations

import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotswap_proxy.observe.structured import call

from .tracing import answered, traced

_ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class AnswerHeaders:
    """Keeps a caller's X-Request-ID if it is a plausible one, else makes one. It is the answer's traceId as
    well, unless calls are traced: then that is the id of the call's trace.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given if _ACCEPTED_ID.fullmatch(given) else secrets.token_hex(16).encode()
        with traced(scope) as (span, trace_id):
            scope["trace_id"] = trace_id or request_id.decode()

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    answered(span, message["status"])
                    there = {name for name, _ in message["headers"]}
                    added = [header for header in _SECURITY_HEADERS if header[0] not in there]
                    message["headers"] = [*message["headers"], (b"x-request-id", request_id), *added]
                await send(message)

            with call(scope["trace_id"]):
                await self._app(scope, receive, send_with_headers)
