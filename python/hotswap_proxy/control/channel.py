"""Framed messages with file descriptors over a Unix stream socket.

A frame is a 4-byte big-endian length and that many bytes of JSON. Descriptors ride (SCM_RIGHTS) on the first
byte of their frame; the kernel never merges bytes across them, so they arrive with the read that returns the
length. SOCK_SEQPACKET would keep the boundaries by itself, but macOS has none for Unix sockets.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_LENGTH = struct.Struct(">I")
MAX_FDS = 8
MAX_FRAME = 1 << 20


class ChannelClosedError(Exception):
    """The other side is gone."""


def frame(message: dict[str, Any]) -> bytes:
    """A message as it is sent."""
    body = json.dumps(message).encode()
    return _LENGTH.pack(len(body)) + body


def send(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message and, with it, duplicates of ``fds``; raises OSError when the other side is gone."""
    data = frame(message)
    sent = socket.send_fds(sock, [data], fds) if fds else sock.send(data)
    if sent < len(data):
        sock.sendall(data[sent:])


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message of a blocking socket, with its descriptors, which now belong to the caller."""
    data, fds, _flags, _address = socket.recv_fds(sock, _LENGTH.size, MAX_FDS)
    length = _LENGTH.unpack(data + _exactly(sock, _LENGTH.size - len(data)) if data else _closed())[0]
    if length > MAX_FRAME:
        raise ChannelClosedError
    message: dict[str, Any] = json.loads(_exactly(sock, length))
    return message, fds


def _exactly(sock: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(size - len(parts))
        if not part:
            _closed()
        parts += part
    return bytes(parts)


def _closed() -> bytes:
    raise ChannelClosedError


class Decoder:
    """Cuts a byte stream without descriptors into messages, for a reader that must not block."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that ``data`` completes."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                break
            messages.append(json.loads(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
        return messages
