"""Both ends of the gateway on bare sockets, with as much HTTP as it takes to find the end of a message."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection
OWN = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"via")


class Ended(Exception):  # noqa: N818 - no error of this program
    """The other side closed in the middle of a message; the argument is what had come of its body."""


class Reader:
    """Messages from a socket, byte for byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise Ended
        self.buffer += data

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self.fill()
        got, _, self.buffer = self.buffer.partition(mark)
        return got + mark

    def exactly(self, n: int) -> bytes:
        while len(self.buffer) < n:
            try:
                self.fill()
            except Ended:
                raise Ended(self.buffer) from None
        got, self.buffer = self.buffer[:n], self.buffer[n:]
        return got

    def chunks(self) -> tuple[bytes, bytes]:
        """A chunked body as it came, and its data."""
        raw, data = b"", b""
        try:
            while True:
                line = self.until(b"\r\n")
                raw += line
                size = int(line.strip(), 16)  # neither extensions nor anything else
                if size == 0:
                    break
                piece = self.exactly(size)
                assert self.exactly(2) == b"\r\n"
                raw += piece + b"\r\n"
                data += piece
            while True:
                line = self.until(b"\r\n")
                raw += line
                if line == b"\r\n":
                    return raw, data
        except Ended:
            raise Ended(data) from None

    def to_end(self) -> bytes:
        data, self.buffer = self.buffer, b""
        while part := self.sock.recv(65536):
            data += part
        return data


def lines_of(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The first line and the fields of a head, blanks around values aside."""
    first, *rest = head[: -len(b"\r\n\r\n")].split(b"\r\n")
    fields = []
    for line in rest:
        name, colon, value = line.partition(b":")
        assert colon and name and name.strip() == name, head
        fields.append((name, value.strip(b" \t")))
    return first, fields


def value_of(fields: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    values = [value for key, value in fields if key.lower() == name]
    assert len(values) <= 1 or name not in (b"content-length", b"transfer-encoding", b"host"), fields
    return values[0] if values else None


@dataclass
class Seen:
    """One request as the backend read it."""

    raw: bytes
    connection: int


def meaning(raw: bytes, own: bool, joined: bool) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """First line, fields and body; ``joined`` takes all chunks for one.

    The order of fields of different names means nothing (RFC 9110 section 5.3).
    """
    head, mark, body = raw.partition(b"\r\n\r\n")
    first, fields = lines_of(head + mark)
    left = (b"x-request-id",) if own else (*OWN, b"x-request-id")
    if joined and value_of(fields, b"transfer-encoding"):
        body = join(body)
    kept = [(name.lower(), value) for name, value in fields if name.lower() not in left]
    return first, sorted(kept, key=lambda field: field[0]), body


def join(chunks: bytes) -> bytes:
    data, rest = b"", chunks
    while True:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        if size == 0:
            return b"%x\r\n%b\r\n0\r\n%b" % (len(data), data, rest)
        data, rest = data + rest[:size], rest[size + 2 :]


class Recorder:
    """A backend that records what it gets and answers as ``plan`` says; ``/probe`` always gets a 200."""

    def __init__(self) -> None:
        self.plan: Callable[[Reader, bytes], str] = lambda reader, raw: "keep"
        self.seen: list[Seen] = []
        self.broken: list[bytes] = []  # beginnings of requests that were cut
        self.ended = 0
        self.changed = threading.Condition()
        self.connections = 0
        self.failures: list[BaseException] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(60)
            number = self.connections
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        reader = Reader(sock)
        try:
            while self._exchange(reader, number) == "keep":
                pass
        except (Ended, OSError):
            pass
        except BaseException as error:
            self.failures.append(error)
        finally:
            sock.close()
            with self.changed:
                self.ended += 1
                self.changed.notify_all()

    def _exchange(self, reader: Reader, number: int) -> str:
        head = reader.until(b"\r\n\r\n")
        first, fields = lines_of(head)
        body = b""
        try:
            if value_of(fields, b"transfer-encoding") is not None:
                body = reader.chunks()[0]
            elif length := value_of(fields, b"content-length"):
                body = reader.exactly(int(length))
        except Ended:
            with self.changed:
                self.broken.append(head)
                self.changed.notify_all()
            raise
        if first.startswith(b"GET /probe "):
            with self.changed:
                self.probed = number
            reader.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nprobe")
            return "keep"
        with self.changed:
            self.seen.append(Seen(head + body, number))
            self.changed.notify_all()
        then = self.plan(reader, head + body)
        if then == "reset":
            reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return then

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 10), "the backend waited in vain"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@dataclass
class Got:
    """One answer as the client read it."""

    status: int
    version: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)
    whole: bool = True
    until_close: bool = False
    chunked: bool = False


class Caller:
    """A client that reads answers as strictly as the gateway should write them."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=6)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = Reader(self.sock)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self, method: bytes = b"GET") -> Got:
        interim: list[int] = []
        while True:
            first, fields = lines_of(self.reader.until(b"\r\n\r\n"))
            version, status, *_ = first.split(b" ", 2)
            got = Got(int(status), version, fields, interim=interim)
            if got.status == 101 or got.status >= 200:
                break
            interim.append(got.status)
        length, coding = value_of(fields, b"content-length"), value_of(fields, b"transfer-encoding")
        assert length is None or coding is None, fields
        if method == b"HEAD" or got.status in (101, 204, 304):
            return got
        try:
            if coding is not None:
                assert coding == b"chunked"
                got.chunked = True
                got.body = self.reader.chunks()[1]
            elif length is not None:
                got.body = self.reader.exactly(int(length))
            else:
                got.until_close = True
                got.body = self.reader.to_end()
        except Ended as ended:
            got.whole = False
            got.body = ended.args[0] if ended.args else b""
        except ConnectionResetError:
            got.whole = False
        return got

    def probe(self) -> None:
        """The connection takes another request."""
        self.send(b"GET /probe HTTP/1.1\r\nHost: x\r\n\r\n")
        assert self.read().body == b"probe"

    def closed(self) -> bool:
        """Whether nothing more comes but the end."""
        try:
            return not self.reader.buffer and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
