"""A client on a plain socket: sends exactly the bytes it is told to, reads answers strictly (h11)."""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass

import h11


@dataclass
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    interim: list[int]
    version: str

    def header(self, name: str) -> str | None:
        values = [v for k, v in self.headers if k.lower() == name.lower()]
        return ", ".join(values) if values else None


class Client:
    """One connection to the gateway."""

    def __init__(
        self,
        port: int,
        timeout: float = 15,
        tls: ssl.SSLContext | None = None,
        name: str | None = None,
        session: ssl.SSLSession | None = None,
        source: str = "",
    ) -> None:
        """``name`` is asked for in the handshake and looked for in the certificate. ``source``: the client's
        own address, any of the loopback network.
        """
        own = (source, 0) if source else None
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout, source_address=own)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is sent apart arrives apart
        if tls is not None:
            try:
                self.sock = tls.wrap_socket(
                    self.sock, server_hostname=name, suppress_ragged_eofs=False, session=session
                )
            except BaseException:
                self.sock.close()
                raise
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """Leave without a word."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def get(self, path: str = "/", *headers: str, method: str = "GET", body: bytes | None = None) -> Response:
        """One request on this connection, and its answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: test.example", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        return self.read(method)

    def read(self, method: str = "GET") -> Response:
        """The next answer; ``method`` is that of its request."""
        peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        peer.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        peer.send(h11.EndOfMessage())
        if self.buffer:
            peer.receive_data(self.buffer)
        self.buffer = b""
        interim: list[int] = []
        head: h11.Response | None = None
        body = b""
        while True:
            try:
                event = peer.next_event()
            except h11.RemoteProtocolError as error:
                raise ConnectionError(f"no whole answer: {error}") from error
            if event is h11.NEED_DATA:
                peer.receive_data(self.sock.recv(65536))
            elif isinstance(event, h11.InformationalResponse):
                interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                self.buffer = peer.trailing_data[0]
                fields = [(k.decode(), v.decode("latin-1")) for k, v in head.headers.raw_items()]
                return Response(head.status_code, fields, body, interim, head.http_version.decode())
            else:
                raise ConnectionError("closed before an answer")

    def read_to_end(self) -> bytes:
        """Everything until the gateway closes."""
        data = self.buffer
        while part := self.sock.recv(65536):
            data += part
        return data

    def closed(self) -> bool:
        """Whether the gateway closes the connection (waits for it)."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
