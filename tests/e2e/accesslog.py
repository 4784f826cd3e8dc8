"""What tests of the access log share: its lines, and clients that number their requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import uvloop

from tests.processes import eventually

# Seconds between two requests of a client: a machine that is busy with other tests may leave the log alone
# for a while, and what finds no room meanwhile has no line (it is counted, but that is another test).
PAUSE = 0.008


def read(*paths: Path) -> list[dict[str, Any]]:
    """Every line of some files; each has to be whole."""
    found: list[dict[str, Any]] = []
    for path in paths:
        data = path.read_bytes()
        assert data == b"" or data.endswith(b"\n"), f"{path} ends in the middle of a line"
        found += [json.loads(line) for line in data.splitlines()]
    return found


def line_of(path: Path, request_id: str) -> dict[str, Any]:
    """Wait for the line of a request."""

    def find() -> dict[str, Any] | None:
        whole = path.read_bytes().rpartition(b"\n")[0]
        lines = map(json.loads, whole.splitlines())
        return next((line for line in lines if line["requestId"] == request_id), None)

    return eventually(find, f"the line of {request_id}") or {}


def once_each(lines: Iterable[dict[str, Any]], ids: Iterable[str]) -> tuple[set[str], set[str]]:
    """Of ``ids``: those without a line, and those with several."""
    counts = Counter(line["requestId"] for line in lines)
    wanted = set(ids)
    return wanted - counts.keys(), {one for one in wanted if counts[one] > 1}


class Numbered:
    """Keep-alive clients whose requests have ids of their own, until so many were answered or the ``with``
    block ends. ``answered``: ids of those whose whole answer came.
    """

    def __init__(
        self, port: int, clients: int = 8, most: int = 1 << 30, agent: str = "numbered", pause: float = PAUSE
    ) -> None:
        self._port, self._clients, self._most, self._agent = port, clients, most, agent
        self._pause = pause
        self._thread = threading.Thread(target=lambda: uvloop.run(self._main()))
        self._stop = False
        self.answered: list[str] = []

    def __enter__(self) -> Numbered:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self.join()

    def join(self) -> None:
        """Wait until all that was to be asked is answered."""
        self._thread.join(100)
        assert not self._thread.is_alive()

    def more(self, answers: int) -> None:
        """Wait for so many more answers."""
        wanted = len(self.answered) + answers
        eventually(lambda: len(self.answered) >= wanted, f"{answers} more answers", 60)

    async def _main(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        asked = 0
        while not self._done():
            with contextlib.suppress(OSError, EOFError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    while not self._done():
                        asked += 1
                        await self._ask(reader, writer, f"c{number}-{asked}")
                        await asyncio.sleep(self._pause)
                finally:
                    writer.close()
            if not self._done():
                await asyncio.sleep(0.02)

    def _done(self) -> bool:
        return self._stop or len(self.answered) + self._clients > self._most

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request_id: str) -> None:
        writer.write(
            f"GET /n/{request_id} HTTP/1.1\r\nHost: test.example\r\nX-Request-ID: {request_id}\r\n"
            f"User-Agent: {self._agent}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        length = next(int(field[15:]) for field in fields if field.startswith(b"content-length:"))
        await reader.readexactly(length)
        self.answered.append(request_id)
        if b"connection: close" in fields:
            raise EOFError


def rotate(path: Path, number: int, tell: Callable[[], None]) -> Path:
    """What logrotate does: rename, tell, go on when the new file is there."""
    renamed = path.with_name(f"{path.name}.{number}")
    path.rename(renamed)
    tell()
    eventually(path.exists, "the new file")
    return renamed
