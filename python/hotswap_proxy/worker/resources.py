"""What a worker gets from the control process as descriptors: at its start, and again whenever it changes."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping

from hotswap_proxy.worker.protocol import BEGIN, HELD, HOLD, RESOURCES, STOP

log = logging.getLogger("hotswap_proxy.worker")

# Uses what a descriptor is of, or raises; the descriptor is closed afterwards.
Use = Callable[[int], None]


def hear(control: socket.socket) -> tuple[bytes, int | None]:
    """The next word and the descriptor that came with it, if any; an empty word is the end of file.

    One byte at a time: a longer read could not tell which of the words a descriptor belongs to.
    """
    word, fds, _flags, _address = socket.recv_fds(control, 1, 1)
    return word, fds[0] if fds else None


def contents(fd: int) -> bytes:
    """All of a file, whose offset is shared with other workers and left alone."""
    parts = []
    offset = 0
    while part := os.pread(fd, 1 << 20, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


class Resources:
    """Hands each resource to whom it concerns. ``uses`` has an entry for each kind this worker needs."""

    def __init__(self, uses: Mapping[bytes, Use]) -> None:
        self._uses = uses

    def take_first(self, control: socket.socket) -> bool:
        """Wait for all that is there at the start; False when the worker is not wanted any more.

        What cannot be used is an error: a worker must not accept connections it cannot serve.
        """
        while True:
            word, fd = hear(control)
            if fd is not None:
                self._use(word, fd)
            elif word == HOLD:
                control.send(HELD)
            elif word == BEGIN:
                return True
            elif word in (STOP, b""):
                return False

    def renew(self, kind: bytes, fd: int) -> None:
        """Use a changed resource; when that fails, the one before stays in use."""
        try:
            self._use(kind, fd)
        except Exception:
            log.exception(
                "a changed resource cannot be used", extra={"kind": kind.decode("ascii", "replace")}
            )

    def _use(self, kind: bytes, fd: int) -> None:
        try:
            if kind in RESOURCES and kind in self._uses:
                self._uses[kind](fd)
        finally:
            os.close(fd)
