"""The old process's side of a hand-over: the new process and the line to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hotswap_proxy import __version__
from hotswap_proxy.control import channel
from hotswap_proxy.control.handover.line import Line, LineClosedError
from hotswap_proxy.control.handover.words import UpgradeError
from hotswap_proxy.control.servicemanager import for_successor

log = logging.getLogger("hotswap_proxy.control")

GIVE_TIMEOUT = 10.0
END_TIMEOUT = 2.0  # seconds between SIGTERM and SIGKILL


class Successor:
    """Started by the constructor, which raises OSError if there is no such program."""

    def __init__(self, program: str) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603  as this process was started, see cli.run
                [program, "-P", "-m", "hotswap_proxy.control", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=for_successor(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._sock = ours
        self._line: Line | None = None
        self.version = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    async def give(
        self,
        about: Mapping[str, Any],
        lock: int,
        sockets: Mapping[str, Sequence[socket.socket]],
        standing: Iterable[dict[str, Any]],
    ) -> None:
        """Hand duplicates over, without waiting on the event loop for a process that does not read."""

        def work() -> None:
            self._sock.settimeout(GIVE_TIMEOUT)
            first = {"handOver": 1, "version": __version__, **about}
            channel.send(self._sock, first, (lock,))
            for name, each in sockets.items():
                for start in range(0, len(each), channel.MAX_FDS):
                    fds = tuple(sock.fileno() for sock in each[start : start + channel.MAX_FDS])
                    channel.send(self._sock, {"sockets": name}, fds)
            for message in (*standing, {"complete": True}):
                channel.send(self._sock, message)

        try:
            await asyncio.to_thread(work)
        except TimeoutError:
            raise UpgradeError("the new process does not take the listening sockets") from None
        except OSError:
            raise UpgradeError(await self._fate()) from None
        self._line = Line(self._sock)

    async def wait_for(self, word: str) -> dict[str, Any]:
        """The message with this word. UpgradeError: the new process refused, or has ended."""
        assert self._line is not None
        try:
            while word not in (message := await self._line.receive()):
                if "refused" in message:
                    raise UpgradeError("the new process refused: " + "; ".join(message["refused"]))
        except LineClosedError:
            raise UpgradeError(await self._fate()) from None
        self.version = message.get("version", self.version)
        return message

    async def tell(self, *messages: dict[str, Any]) -> None:
        """UpgradeError: the new process has ended."""
        assert self._line is not None
        try:
            for message in messages:
                await self._line.send(message)
        except LineClosedError:
            raise UpgradeError(await self._fate()) from None

    def terminate(self) -> None:
        """It is to end in order."""
        self._process.terminate()

    async def end(self) -> None:
        """It has ended when this returns. What it leaves behind are workers that look for us."""
        self._process.terminate()
        if await self.wait(END_TIMEOUT) is None:
            self._process.kill()
            await self.wait(None)
        self.close()

    async def wait(self, within: float | None) -> int | None:
        """Its exit status; None if it has not ended in time."""
        try:
            return await asyncio.to_thread(self._process.wait, within)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()

    async def _fate(self) -> str:
        status = await self.wait(1.0)
        if status is None:
            return "the new process does not answer"
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"the new process {how}; its messages are on this node's standard error"
