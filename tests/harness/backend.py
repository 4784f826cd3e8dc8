"""A scripted HTTP backend on real sockets: strict about what it gets (h11), free in what it answers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import h11

RECV = 65536


@dataclass
class Received:
    """One request as the backend got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int  # which connection it came on, from 0

    def header(self, name: str) -> str | None:
        values = [v for k, v in self.headers if k.lower() == name.lower()]
        return ", ".join(values) if values else None


Answer = bytes | Iterable[bytes] | None
Script = Callable[[Received], Answer]


def ok(body: bytes = b"hello", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = b"".join(h + b"\r\n" for h in headers)
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, lines, len(body), body)


@dataclass
class Backend:
    """Answers each request with what ``script(request)`` returns; None closes the connection."""

    script: Script = field(default=lambda _request: ok())
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    closed: int = 0  # connections whose end was seen
    protocol_errors: list[str] = field(default_factory=list)
    keep_reading: bool = True
    wanted_port: int = 0
    tls: ssl.SSLContext | None = None  # its connections speak TLS
    handshakes_failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.wanted_port), backlog=512)
        self.port: int = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.stop_listening()
        self.drop_connections()

    def stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def drop_connections(self) -> None:
        with self.lock:
            for sock in self.open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def wait(self, condition: Callable[[], bool], timeout: float = 10) -> None:
        """Wait until ``condition`` holds; it is checked whenever something happens here."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout), "the backend waited in vain"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.changed:
                number = self.connections
                self.connections += 1
                self.open.add(sock)
                self.changed.notify_all()
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            if self.tls is not None:
                sock = self._shake_hands(sock)
            self._converse(sock, number)
        except OSError:
            pass
        except h11.RemoteProtocolError as error:
            self.protocol_errors.append(str(error))
        finally:
            with self.changed:
                self.closed += 1
                self.open.discard(sock)
                self.changed.notify_all()
            sock.close()

    def _shake_hands(self, sock: socket.socket) -> socket.socket:
        assert self.tls is not None
        try:
            spoken = self.tls.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
        except OSError as error:
            with self.changed:
                self.handshakes_failed.append(str(error))
                self.changed.notify_all()
            raise
        with self.changed:
            self.open.discard(sock)  # it has been detached
            self.open.add(spoken)
        return spoken

    def _converse(self, sock: socket.socket, number: int) -> None:
        peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        while True:
            request = self._read(sock, peer, number)
            if request is None:
                return
            with self.changed:
                self.requests.append(request)
                self.changed.notify_all()
            answer = self.script(request)
            if answer is None:
                return
            for part in [answer] if isinstance(answer, bytes) else answer:
                sock.sendall(part)
            # h11 must follow our side to take the next request.
            peer.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            peer.send(h11.EndOfMessage())
            if peer.our_state is h11.MUST_CLOSE:
                return
            peer.start_next_cycle()

    @staticmethod
    def _read(sock: socket.socket, peer: h11.Connection, number: int) -> Received | None:
        head: h11.Request | None = None
        body = b""
        while True:
            event = peer.next_event()
            if event is h11.NEED_DATA:
                data = sock.recv(RECV)
                if not data:  # between two requests, or the gateway cuts one that it refuses
                    return None
                peer.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                fields = [(k.decode(), v.decode("latin-1")) for k, v in head.headers.raw_items()]
                return Received(head.method.decode(), head.target.decode(), fields, body, number)
            else:
                return None
