"""What every answer carries: its request id and the headers that keep browsers careful, unless the answer has
others.
"""

from __future__ import annotations

import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotswap_proxy.observe.structured import call

_ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class AnswerHeaders:
    """Keeps a caller's X-Request-ID if it is a plausible one, else makes one; it is the answer's traceId as
    well.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        trace_id = given if _ACCEPTED_ID.fullmatch(given) else secrets.token_hex(16).encode()
        scope["trace_id"] = trace_id.decode()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                added = [header for header in _SECURITY_HEADERS if header[0] not in there]
                message["headers"] = [*message["headers"], (b"x-request-id", trace_id), *added]
            await send(message)

        with call(trace_id.decode()):
            await self._app(scope, receive, send_with_headers)
