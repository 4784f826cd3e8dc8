"""Tells webhooks what happens on this node. Never in the way: each URL has a queue of its own, with a bound.

Signature: ``v1=`` and the hexadecimal HMAC-SHA256 (RFC 2104) of ``<timestamp>.<body>``. The timestamp is in
seconds since 1970, that of the attempt, and signed with the body, so that a receiver can refuse what was
recorded long ago; ``eventId`` in the body is the same in all attempts, so that it knows what it has seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from hotswap_proxy import __version__
from hotswap_proxy.store.times import now

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("hotswap_proxy.control")

QUEUE = 1000  # events that wait for one URL; the oldest is given up for a new one
ATTEMPTS = 3
TIMEOUT = 5.0  # seconds for one attempt, from the name to the status
PAUSE = 0.5  # before the second attempt; doubled for each further one


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of ``X-Hotswap-Signature``."""
    return "v1=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Message(NamedTuple):
    event_id: str
    body: bytes


class Webhooks:
    """``event`` returns at once. Delivery is tried ``ATTEMPTS`` times, in order for each URL; what waits is
    in memory only. ``about`` says in each event who speaks; with ``secret`` each is signed.
    """

    def __init__(
        self,
        urls: tuple[str, ...],
        about: Mapping[str, str],
        *,
        secret: str | None = None,
        pause: float = PAUSE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._about = dict(about)
        self._secret = secret.encode() if secret else None
        self._pause = pause
        self._clock = clock
        self._hooks = [_Hook(url) for url in urls]
        self._tasks: list[asyncio.Task[None]] = []
        self.results = {"delivered": 0, "failed": 0, "dropped": 0}

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._deliver(hook)) for hook in self._hooks]

    async def stop(self) -> None:
        """What has not been delivered is given up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def event(self, name: str, /, **fields: Any) -> None:
        """Tell that ``name`` (``<what>.<happened>``) happened. ``fields``: JSON values without secrets; they
        come after ``event``, ``eventId``, ``at`` and ``about``.
        """
        if not self._hooks:
            return
        event_id = f"evt-{secrets.token_hex(16)}"
        told = {"event": name, "eventId": event_id, "at": now(), **self._about, **fields}
        try:
            body = orjson.dumps(told, str)
        except TypeError:
            log.exception("an event is no JSON", extra={"event_name": name})
            return
        for hook in self._hooks:
            if hook.queue.full():
                hook.queue.get_nowait()
                self.results["dropped"] += 1
            hook.queue.put_nowait(Message(event_id, body))

    async def _deliver(self, hook: _Hook) -> None:
        well = True
        while True:
            message = await hook.queue.get()
            reason = await self._attempt(hook, message)
            self.results["failed" if reason else "delivered"] += 1
            if reason and well:
                # The host only: the path of a webhook is often its password.
                log.warning("webhook not delivered", extra={"webhook": hook.host, "reason": reason})
            well = not reason

    async def _attempt(self, hook: _Hook, message: Message) -> str | None:
        """Why it could not be delivered, or None."""
        reason = None
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(self._pause * 2 ** (attempt - 1))
            try:
                async with asyncio.timeout(TIMEOUT):
                    status = await hook.post(message.body, self._headers(message))
            except TimeoutError:
                reason = "no answer in time"
            except Exception as error:  # whatever it is, the next event is to be delivered
                reason = str(error) or type(error).__name__
            else:
                if 200 <= status < 300:
                    return None
                reason = f"status {status}"
                if 400 <= status < 500 and status not in (408, 429):
                    return reason  # it will not like it the next time either
        return reason

    def _headers(self, message: Message) -> dict[str, str]:
        timestamp = str(int(self._clock()))
        headers = {"X-Hotswap-Event-Id": message.event_id, "X-Hotswap-Timestamp": timestamp}
        if self._secret is not None:
            headers["X-Hotswap-Signature"] = signature(self._secret, timestamp, message.body)
        return headers


class _Hook:
    """One URL. A POST on raw streams: an HTTP client library would take megabytes for these few lines."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE)
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._head = (
            f"POST {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nConnection: close\r\n"
            f"User-Agent: hotswap-proxy/{__version__}\r\nContent-Type: application/json\r\n"
        )
        self._context: ssl.SSLContext | None = None

    async def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer. Redirects are not followed."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{self._head}{lines}Content-Length: {len(body)}\r\n\r\n"
        reader, writer = await asyncio.open_connection(self.host, self._port, ssl=self._ssl(), limit=16384)
        try:
            writer.write(head.encode() + body)
            await writer.drain()
            line = await reader.readline()
            if not line.startswith(b"HTTP/1.") or not line[9:12].isdigit():
                raise ValueError("the answer is not HTTP/1")
            return int(line[9:12])
        finally:
            writer.close()

    def _ssl(self) -> ssl.SSLContext | None:
        if not self._tls:
            return None
        if self._context is None:
            import ssl

            self._context = ssl.create_default_context()
        return self._context
