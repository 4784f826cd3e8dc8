"""Taking over from a control process that died: its workers' listening sockets first, then the workers' leave.

Workers without a control process (orphans) go on. A new control process that opened listening sockets of its own
beside theirs would lose connections when theirs close: what stands in the queue of a closing socket, or is in
the middle of its handshake, is reset. So the orphans hand their sockets over (SCM_RIGHTS), our workers accept on the
same ones, and an orphan that drains only gives up its copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path

from hotswap_proxy.worker.protocol import DRAIN, LISTENING, SUCCESSOR_SOCKET

log = logging.getLogger("hotswap_proxy.control")

# An orphan looks for us each quarter of a second; one that is stopped must not keep the node from starting.
PATIENCE = 2.0
_MAX_SOCKETS = 16  # of one orphan


class Succession:
    """Where orphans find us: the Unix socket in the data directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / SUCCESSOR_SOCKET
        self._listener: socket.socket | None = None
        self._met: list[socket.socket] = []
        self._server: asyncio.Server | None = None
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

    def gather(self, enough: Callable[[list[socket.socket]], bool]) -> list[socket.socket]:
        """The listening sockets of the orphans that come, until they are ``enough`` or the patience ends."""
        found: list[socket.socket] = []
        deadline = time.monotonic() + PATIENCE
        while self._listener is not None and not enough(found):
            left = deadline - time.monotonic()
            if left <= 0:
                log.warning(
                    "not every orphaned worker has handed over its socket", extra={"sockets": len(found)}
                )
                break
            self._listener.settimeout(left)
            with contextlib.suppress(TimeoutError):
                orphan, _ = self._listener.accept()
                self._met.append(orphan)
                found += _received(orphan, left)
        return found

    async def relieve(self) -> None:
        """Tell the orphans to drain, those that come later too. Call when our workers are serving."""
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
        self._server = await asyncio.start_unix_server(_send_home, sock=self._listener)

    def close(self) -> None:
        """Orphans that were told nothing go on, and look for the next one."""
        for orphan in self._met:
            orphan.close()
        if self._server is not None:
            self._server.close()
        if self._listener is not None:
            self._listener.close()
            with contextlib.suppress(OSError):
                self._path.unlink()


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


async def _send_home(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    log.info("a worker of an earlier control process is told to drain")
    with contextlib.suppress(OSError):
        writer.write(DRAIN)
        await writer.drain()
    writer.close()
