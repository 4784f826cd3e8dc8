"""What tests of real processes share: waiting without guessing times, asking the kernel who holds what."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def eventually(probe: Callable[[], T], what: str, within: float = 15.0) -> T:
    """Ask again and again until the answer is true; fails, naming ``what``, when it does not become so."""
    deadline = time.monotonic() + within
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def socket_inodes(pid: int) -> set[str]:
    """The sockets that a process has open, as ``socket:[inode]``."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def listening_inodes(port: int) -> set[str]:
    """The sockets that listen on an IPv4 port."""
    return {
        f"socket:[{fields[9]}]" for fields in _tcp_table() if fields[3] == "0A" and _port(fields[1]) == port
    }


def peer_inode(client: socket.socket) -> str:
    """The server's end of a client's accepted connection on this machine; empty while it is not accepted."""
    here, there = client.getsockname()[1], client.getpeername()[1]
    for fields in _tcp_table():
        if _port(fields[1]) == there and _port(fields[2]) == here and fields[9] != "0":
            return f"socket:[{fields[9]}]"
    return ""


def _tcp_table() -> list[list[str]]:
    return [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def connect(port: int) -> socket.socket:
    """A client connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=15)


def ask(client: socket.socket, path: str = "/") -> bytes:
    """Send a request and return the whole answer; empty when the connection was closed instead."""
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: test.local\r\n\r\n".encode())
    return read_answer(client)


def read_answer(client: socket.socket) -> bytes:
    """One answer with a Content-Length."""
    answer = b""
    while True:
        head, end, body = answer.partition(b"\r\n\r\n")
        if end:
            length = re.search(rb"content-length: *(\d+)", head.lower())
            assert length, head
            if len(body) >= int(length[1]):
                return answer
        piece = client.recv(65536)
        if not piece:
            return answer
        answer += piece
