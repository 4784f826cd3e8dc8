"""A backend on bare sockets, for what no well-behaved server does: a script drives each connection."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable

from harness.backend import RECV

ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection


class Peer:
    """One connection from the gateway, as the script sees it."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.buffer = b""
        self.heads: list[bytes] = []

    def read_head(self) -> bytes:
        """The next request head, empty line included; ``ConnectionError`` when none comes."""
        while b"\r\n\r\n" not in self.buffer:
            self._fill()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.heads.append(head + b"\r\n\r\n")
        return self.heads[-1]

    def read(self, n: int) -> bytes:
        while len(self.buffer) < n:
            self._fill()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def _fill(self) -> None:
        data = self.sock.recv(RECV)
        if not data:
            raise ConnectionError("the gateway closed")
        self.buffer += data

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self.sock.close()

    def ended(self) -> bool:
        """Wait for the end of the connection, dropping what comes before it."""
        try:
            while self.sock.recv(RECV):
                pass
        except ConnectionResetError:
            pass
        return True


class RawBackend:
    """Runs ``script(peer)`` for each connection, which is closed when it returns."""

    def __init__(
        self, script: Callable[[Peer], None], backlog: int = 512, tls: ssl.SSLContext | None = None
    ) -> None:
        self.script = script
        self.tls = tls
        self.peers: list[Peer] = []
        self.failures: list[BaseException] = []
        self.changed = threading.Condition()
        self.ended = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port: int = self.listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(20)
            with self.changed:
                peer = Peer(sock, len(self.peers))
                self.peers.append(peer)
                self.changed.notify_all()
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: Peer) -> None:
        try:
            if self.tls is not None:
                peer.sock = self.tls.wrap_socket(peer.sock, server_side=True, suppress_ragged_eofs=False)
            self.script(peer)
        except OSError:
            pass  # the gateway has hung up: the script is over
        except BaseException as error:
            self.failures.append(error)
        finally:
            peer.sock.close()
            with self.changed:
                self.ended += 1
                self.changed.notify_all()

    def wait(self, condition: Callable[[], bool], timeout: float = 10) -> None:
        """Wait until ``condition`` holds; it is checked when a connection comes or ends."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout), "the backend waited in vain"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
