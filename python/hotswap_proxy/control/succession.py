"""Taking over from a control process that died: its workers' listening sockets first, then they may go.

Workers without a control process (orphans) go on. A new control process that opened listening sockets of its
own beside theirs would lose connections when theirs close: what stands in the queue of a closing socket, or
is in the middle of its handshake, is reset. So the orphans hand their sockets over (SCM_RIGHTS), our workers
accept on the same ones, and an orphan that drains only gives up its copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from hotswap_proxy.worker.protocol import DRAIN, LISTENING, SUCCESSOR_SOCKET, UPGRADE

log = logging.getLogger("hotswap_proxy.control")

# An orphan looks for us each quarter of a second; one that is stopped must not keep the node from starting.
PATIENCE = 2.0
_MAX_SOCKETS = 16  # of one orphan
_WORD_TIMEOUT = 5.0  # seconds for whoever connects to say what it is

# Answers a request to be upgraded, until it is done.
Asked = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Fits = Callable[[socket.socket], bool]
Enough = Callable[[list[socket.socket]], bool]


class Succession:
    """Where orphans find us: the Unix socket in the data directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / SUCCESSOR_SOCKET
        self._listener: socket.socket | None = None
        self._met: list[socket.socket] = []
        self._offered: list[socket.socket] = []  # listening sockets of theirs that nobody has claimed
        self._deadline: float | None = None
        self._server: asyncio.Server | None = None
        self._upgrade: Asked | None = None
        with contextlib.suppress(OSError):
            self._path.unlink()  # of a predecessor, which is gone: its lock is ours
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._path))
            listener.listen(128)
        except OSError as error:  # for one, a path too long for a Unix socket
            listener.close()
            reason = str(error)
            log.warning(
                "cannot listen for orphaned workers", extra={"path": str(self._path), "reason": reason}
            )
        else:
            self._listener = listener

    def gather(self, fits: Fits, enough: Enough) -> list[socket.socket]:
        """The listening sockets that fit, of the orphans that come, until they are ``enough`` or the patience
        ends, which is one for all calls. They become the caller's; others wait for the next call.
        """
        if self._deadline is None:
            self._deadline = time.monotonic() + PATIENCE
        while self._listener is not None and not enough(self._fitting(fits)):
            left = self._deadline - time.monotonic()
            if left <= 0:
                log.warning(
                    "not every orphaned worker has handed over its socket",
                    extra={"sockets": len(self._fitting(fits))},
                )
                break
            self._listener.settimeout(left)
            with contextlib.suppress(TimeoutError):
                orphan, _ = self._listener.accept()
                self._met.append(orphan)
                self._offered += _received(orphan, left)
        found = self._fitting(fits)
        self._offered = [sock for sock in self._offered if sock not in found]
        return found

    def _fitting(self, fits: Fits) -> list[socket.socket]:
        return [sock for sock in self._offered if fits(sock)]

    async def relieve(self, upgrade: Asked | None = None) -> None:
        """Tell the orphans to drain, those that come later too. Call when our workers are serving. Who asks
        for an upgrade is handed to ``upgrade``.
        """
        self._refuse()
        if self._listener is None:
            return
        for orphan in self._met:
            with contextlib.suppress(OSError):
                orphan.send(DRAIN)
            orphan.close()
        if self._met:
            log.info("orphaned workers are told to drain", extra={"workers": len(self._met)})
        self._met.clear()
        self._listener.setblocking(False)
        self._upgrade = upgrade
        self._server = await asyncio.start_unix_server(self._meet, sock=self._listener)

    def close(self) -> None:
        """Orphans that were told nothing go on, and look for the next one."""
        self._refuse()
        for orphan in self._met:
            orphan.close()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            if self._server is not None:
                self._server.close()
            self._listener.close()
            self._listener = None

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whoever comes when our workers serve."""
        word = b""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_WORD_TIMEOUT):
                word = await reader.read(1)
        try:
            if word == LISTENING:
                log.info("a worker of an earlier control process is told to drain")
                writer.write(DRAIN)
                await writer.drain()
            elif word == UPGRADE and self._upgrade is not None:
                await self._upgrade(reader, writer)
        except OSError:
            pass  # it is gone
        except Exception:
            log.exception("a request on the private socket failed")
        finally:
            writer.close()

    def _refuse(self) -> None:
        """Give up what is of no use here: it is theirs, and closes with them."""
        for sock in self._offered:
            sock.close()
        self._offered.clear()


def _received(orphan: socket.socket, within: float) -> list[socket.socket]:
    orphan.settimeout(within)
    try:
        word, fds, _flags, _address = socket.recv_fds(orphan, 1, _MAX_SOCKETS)
    except OSError:
        return []
    sockets = [socket.socket(fileno=fd) for fd in fds]
    for each in sockets:
        each.setblocking(False)
        each.set_inheritable(False)
    return sockets if word == LISTENING else []
