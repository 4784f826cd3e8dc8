"""The line between two control processes: JSON frames in both directions on a Unix stream socket."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from hotswap_proxy.control import channel


class LineClosedError(Exception):
    """The other side is gone."""


class Line:
    """For use on the event loop, when what comes with descriptors has been received."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._decoder = channel.Decoder()
        self._waiting: list[dict[str, Any]] = []

    async def send(self, message: dict[str, Any]) -> None:
        """Raises :class:`LineClosedError`."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._sock, channel.frame(message))
        except OSError as error:
            raise LineClosedError from error

    async def receive(self) -> dict[str, Any]:
        """The next message; raises :class:`LineClosedError`."""
        while not self._waiting:
            try:
                data = await asyncio.get_running_loop().sock_recv(self._sock, 65536)
            except OSError as error:
                raise LineClosedError from error
            if not data:
                raise LineClosedError
            self._waiting += self._decoder.feed(data)
        return self._waiting.pop(0)

    def close(self) -> None:
        self._sock.close()
