"""The new process's side of a hand-over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotswap_proxy import __version__
from hotswap_proxy.control import channel
from hotswap_proxy.control.filewatch import Signature
from hotswap_proxy.control.handover.line import Line, LineClosedError

PATIENCE = 10.0  # seconds for the bequest, which is on its way


class BequestError(RuntimeError):
    """What the predecessor gave is of no use."""


@dataclass(slots=True)
class Bequest:
    """``sockets``: by the names of ``servicemanager.SOCKET_NAMES``. ``file``: the configuration file as it
    was applied last; None while that is not certain. ``standing``: see ``handover.standing``.
    """

    lock: int = -1
    data_dir: Path = Path()
    sockets: dict[str, list[socket.socket]] = field(default_factory=dict)
    file: Signature = None
    standing: list[dict[str, Any]] = field(default_factory=list)


class Predecessor:
    """The process that started this one to go on with its node."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._sock = socket.socket(fileno=fd)
        self._line: Line | None = None
        self._hearing: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()
        self.bequest = Bequest()

    def receive(self) -> Bequest:
        """All that it gives, before the event loop runs. Raises :class:`BequestError`."""
        self._sock.settimeout(PATIENCE)
        bequest = self.bequest
        try:
            while True:
                message, fds = channel.receive(self._sock)
                if "handOver" in message:
                    (bequest.lock,) = fds
                    bequest.data_dir = Path(message["dataDir"])
                    bequest.file = tuple(message["file"]) if message.get("file") else None
                elif "sockets" in message:
                    bequest.sockets.setdefault(message["sockets"], []).extend(_sockets(fds))
                elif message.get("complete"):
                    return bequest
                else:
                    bequest.standing.append(message)
        except (OSError, ValueError, KeyError, channel.ChannelClosedError) as error:
            raise BequestError(f"the process that hands over does not: {error!r}") from error

    def refuse(self, lines: Sequence[str]) -> None:
        """This process cannot go on with the node. Before the event loop runs, or after it has."""
        with contextlib.suppress(OSError):
            self._sock.settimeout(1.0)
            channel.send(self._sock, {"refused": [line[:500] for line in lines[:20]]})

    async def prepared(self) -> None:
        await self._tell({"prepared": True, "pid": os.getpid(), "version": __version__})

    async def take_over(self) -> list[dict[str, Any]] | None:
        """Wait for the word, and return the newest standing; None: the predecessor died."""
        standing = []
        with contextlib.suppress(LineClosedError):
            while "takeOver" not in (message := await self._open().receive()):
                standing.append(message)
            return standing
        self.gone.set()
        return None

    async def serving(self) -> None:
        """Our workers accept. Returns when its do not any more and have closed what was idle, or it died."""
        await self._tell({"serving": True})
        try:
            while "retired" not in await self._open().receive():
                pass
        except LineClosedError:
            self.gone.set()

    async def in_charge(self) -> None:
        """It may end now; ``gone`` is set when it has."""
        await self._tell({"inCharge": True})
        self._hearing = asyncio.create_task(self._hear())

    async def hurry(self) -> None:
        """It is to end at once."""
        await self._tell({"hurry": True})

    def close(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()
        self._sock.close()

    async def _hear(self) -> None:
        with contextlib.suppress(LineClosedError):
            while True:
                await self._open().receive()
        self.gone.set()

    async def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(LineClosedError):  # it died: who waits for its answer learns it
            await self._open().send(message)

    def _open(self) -> Line:
        if self._line is None:
            self._line = Line(self._sock)
        return self._line


def _sockets(fds: Sequence[int]) -> list[socket.socket]:
    sockets = [socket.socket(fileno=fd) for fd in fds]
    for sock in sockets:
        sock.setblocking(False)
        sock.set_inheritable(False)
    return sockets
