"""Tells webhooks when a backend flips. Never in the way: a queue of its own for each URL, with a bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from hotswap_proxy import __version__
from hotswap_proxy.store.times import now

from .machine import STATUS, Health, State
from .registry import Target

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("hotswap_proxy.control")

QUEUE = 1000  # alerts that wait for one URL; the oldest is given up for a new one
ATTEMPTS = 3
TIMEOUT = 5.0  # seconds for one attempt, from the name to the status
PAUSE = 0.5  # before the second attempt; doubled for each further one


class Alerts:
    """``send`` returns at once. Delivery is tried ``ATTEMPTS`` times, in order for each URL."""

    def __init__(self, urls: tuple[str, ...], about: Mapping[str, str], *, pause: float = PAUSE) -> None:
        self._about = dict(about)
        self._pause = pause
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

    def send(self, target: Target, before: Health, after: Health) -> None:
        """A backend flipped."""
        assert target.last is not None
        self.tell(
            "backend.healthy" if after.state is State.UP else "backend.unhealthy",
            target.address,
            backends=[{"backendId": id, "name": name} for id, name in target.names()],
            previousStatus=STATUS[before.state].name.capitalize(),
            healthStatus=STATUS[after.state].name.capitalize(),
            reason=target.last.reason,
        )

    def tell(self, event: str, address: str, **more: Any) -> None:
        """Something happened to the backend at ``scheme://host:port``."""
        if not self._hooks:
            return
        body = orjson.dumps({"event": event, "at": now(), **self._about, "address": address, **more})
        for hook in self._hooks:
            if hook.queue.full():
                hook.queue.get_nowait()
                self.results["dropped"] += 1
            hook.queue.put_nowait(body)

    async def _deliver(self, hook: _Hook) -> None:
        well = True
        while True:
            body = await hook.queue.get()
            reason = await self._attempt(hook, body)
            self.results["failed" if reason else "delivered"] += 1
            if reason and well:
                # The host only: the path of a webhook is often its password.
                log.warning("alert not delivered", extra={"webhook": hook.host, "reason": reason})
            well = not reason

    async def _attempt(self, hook: _Hook, body: bytes) -> str | None:
        """Why it could not be delivered, or None."""
        reason = None
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(self._pause * 2 ** (attempt - 1))
            try:
                async with asyncio.timeout(TIMEOUT):
                    status = await hook.post(body)
            except TimeoutError:
                reason = "no answer in time"
            except (OSError, ValueError) as error:
                reason = str(error) or type(error).__name__
            else:
                if 200 <= status < 300:
                    return None
                reason = f"status {status}"
                if 400 <= status < 500 and status not in (408, 429):
                    return reason  # it will not like it the next time either
        return reason


class _Hook:
    """One URL. A POST on raw streams: an HTTP client library would take megabytes for these few lines."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE)
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._head = (
            f"POST {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nConnection: close\r\n"
            f"User-Agent: hotswap-proxy/{__version__}\r\nContent-Type: application/json\r\nContent-Length: "
        )
        self._context: ssl.SSLContext | None = None

    async def post(self, body: bytes) -> int:
        """The status of the answer. Redirects are not followed."""
        reader, writer = await asyncio.open_connection(self.host, self._port, ssl=self._ssl(), limit=16384)
        try:
            writer.write(f"{self._head}{len(body)}\r\n\r\n".encode() + body)
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
