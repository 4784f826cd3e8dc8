"""A strict load that outlives what is done to the gateway: whatever was no whole, right answer is noted."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple

import uvloop

TIMEOUT = 15.0
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: test.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Failure(NamedTuple):
    """``kind`` of client, what went wrong, the local port of its connection, when (monotonic)."""

    kind: str
    what: str
    port: int
    at: float


class Load:
    """Clients of some kinds, each with one request at a time, until the end of the ``with`` block.

    get, post: keep-alive; once: a connection for each request; slow: a GET that is answered after 100 ms;
    websocket: an upgraded connection with an echo each few milliseconds.
    """

    def __init__(
        self, port: int, clients: Mapping[str, int], path: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self._port, self._clients, self._path, self._tls = port, clients, path, tls
        self._thread = threading.Thread(target=lambda: uvloop.run(self._main()))
        self._warm = threading.Event()
        self._stop = False
        self.answers: Counter[str] = Counter()
        self.failures: list[Failure] = []

    def __enter__(self) -> Load:
        self._thread.start()
        assert self._warm.wait(30), "every client has had an answer"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        self._thread.join(60)
        assert not self._thread.is_alive()

    def failed(self, *kinds: str) -> list[str]:
        """What failed for clients of these kinds (none given: of all)."""
        return [f"{one.kind}: {one.what}" for one in self.failures if not kinds or one.kind in kinds]

    def run_on(self, answers: int = 200, within: float = 20.0) -> None:
        """Wait until so many more answers have come."""
        wanted = self.answers.total() + answers
        deadline = time.monotonic() + within
        while self.answers.total() < wanted:
            assert time.monotonic() < deadline, f"the load goes on: {self.failures[-3:]}"
            time.sleep(0.01)

    async def _main(self) -> None:
        self._left = sum(self._clients.values())
        async with asyncio.TaskGroup() as group:
            for kind, count in self._clients.items():
                for _ in range(count):
                    group.create_task(self._client(kind))

    async def _client(self, kind: str) -> None:
        one = _Client(self._port, kind, self._path, self._tls)
        first = True
        while not self._stop:
            try:
                async with asyncio.timeout(TIMEOUT):
                    what = await one.turn()
            except TimeoutError:
                what = "no answer in time"
            except (OSError, EOFError, ValueError) as error:
                what = f"{type(error).__name__} {error}".strip()
            if what:
                self.failures.append(Failure(kind, what, one.local_port, time.monotonic()))
                one.close()
                await asyncio.sleep(0.01)
            else:
                self.answers[kind] += 1
            if first:
                first = False
                self._left -= 1
                if not self._left:
                    self._warm.set()
        one.close()


class _Client:
    def __init__(self, port: int, kind: str, path: str, tls: ssl.SSLContext | None) -> None:
        self._port, self._kind, self._tls = port, kind, tls
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.local_port = 0
        self._request, self._wanted = {
            "post": (_head("POST", path or "/post", 5000) + bytes(5000), b"5000"),
            "slow": (_head("GET", "/wait/100"), b"0"),
            "websocket": (b"ping", b"ping"),
        }.get(kind, (_head("GET", path or "/get", more="Connection: close" if kind == "once" else ""), b"0"))

    async def turn(self) -> str:
        """One request and its answer; what was wrong with it, or nothing."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls)
            self.local_port = self._writer.get_extra_info("sockname")[1]
            if self._kind == "websocket":
                self._writer.write(UPGRADE)
                if not (head := await self._reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101"):
                    return head.split(b"\r\n")[0].decode()
        assert self._reader is not None
        self._writer.write(self._request)
        if self._kind == "websocket":
            echoed = await self._reader.readexactly(len(self._wanted))
            await asyncio.sleep(0.005)
            return "" if echoed == self._wanted else f"another echo: {echoed!r}"
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        body = await self._reader.readexactly(int(length[1]) if length else 0)
        if not head.startswith(b"HTTP/1.1 200 "):
            return head.split(b"\r\n")[0].decode()
        if body != self._wanted:
            return f"another body: {body!r}"
        if b"\r\nconnection: close\r\n" in head.lower():
            self.close()
        return ""

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _head(method: str, path: str, length: int | None = None, more: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test.example"]
    lines += [f"Content-Length: {length}"] if length is not None else []
    lines += [more] if more else []
    return "\r\n".join([*lines, "", ""]).encode()
