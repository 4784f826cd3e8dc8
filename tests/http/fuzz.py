"""Fuzzing for a given time; ``make fuzz`` runs it for long, ``test_fuzz`` shortly.

Three targets: requests and responses through both codecs, side by side, each also read by h11 as the strict
peer that gets what goes on; and a running worker between a client and a backend that send anything.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator

import h11
import mutate
from core import Core, Message, Reading
from harness.raw import Peer, RawBackend
from harness.wait import eventually
from harness.worker import CODECS, Plane, backend, route

from hotswap_proxy.worker.codec import RequestCodec, ResponseCodec

OWN = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id", b"via", b"date")
ASKS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n",
]
MEMORY = 200 << 20  # bytes that a live worker's process may grow by


class FoundError(AssertionError):
    """An input that breaks a rule; it is kept in the corpus by whoever runs this."""

    def __init__(self, kind: str, data: bytes, what: str) -> None:
        super().__init__(f"{kind}: {what}\n{data!r}")
        self.kind, self.data = kind, data


def fields_of(headers: object) -> list[tuple[bytes, bytes]]:
    pairs = [(bytes(k).lower(), bytes(v)) for k, v in headers]  # type: ignore[attr-defined]
    return sorted((k, v) for k, v in pairs if k not in OWN)


def read_request(message: Message) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    """The request as h11 understands the bytes for the backend.

    Raises:
        h11.RemoteProtocolError: it does not take them.
    """
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    peer.receive_data(message.sent)
    head = peer.next_event()
    assert isinstance(head, h11.Request), head
    body = b""
    while isinstance(event := peer.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    assert peer.trailing_data[0] == b"", peer.trailing_data
    return bytes(head.method), bytes(head.target), fields_of(head.headers), body


def read_response(message: Message, method: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    peer.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(b"".join(message.interim) + message.sent)
    if message.until_close:
        peer.receive_data(b"")
    head = peer.next_event()
    while isinstance(head, h11.InformationalResponse):
        head = peer.next_event()
    assert isinstance(head, h11.Response), head
    body = b""
    while isinstance(event := peer.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    assert message.until_close or peer.trailing_data[0] == b"", peer.trailing_data
    return head.status_code, fields_of(head.headers), body


class Parsers:
    """Both codecs without sockets."""

    def __init__(self) -> None:
        self.core = Core()

    def canonical(self, codec: RequestCodec | ResponseCodec, data: bytes, cut: int) -> bytes:
        out = b""
        for part in (data[:cut], data[cut:]):
            try:
                out += codec.feed(part)
            except ValueError:
                out += b"\0\r\n\r\n"
        while isinstance(codec, RequestCodec) and codec.passing and codec.held:
            out += codec.resume()  # no backend here switches protocols
        return out

    def requests(self, random: random.Random, data: bytes) -> None:
        native = self.core.requests(data)
        codec = RequestCodec()
        other = self.core.requests(self.canonical(codec, data, random.randrange(len(data) + 1)))
        other.unfinished |= codec.in_head and bool(codec.head or getattr(codec, "line", b""))
        try:
            self._same_requests(native, other)
        except (AssertionError, h11.ProtocolError) as error:
            raise FoundError("request", data, f"{type(error).__name__} {error}") from error

    def _same_requests(self, native: Reading, other: Reading) -> None:
        ours = [read_request(message) for message in native.messages]
        theirs = [read_request(message) for message in other.messages]
        for message, read in zip(native.messages, ours, strict=True):
            assert message.body == read[3], "h11 reads another body"
        assert theirs == ours[: len(theirs)], (ours, theirs)
        # The reference is two parsers: it may be the stricter one, and then it has refused.
        assert len(theirs) == len(ours) or other.refused, "a request is missing"
        assert not native.refused or other.refused or other.unfinished, "only the native codec refuses"
        assert self.core.balanced()

    def responses(self, random: random.Random, data: bytes) -> None:
        ask = random.choice(ASKS)
        native = self.core.response(ask, data)
        codec = ResponseCodec()
        codec.begin()
        other = self.core.response(ask, self.canonical(codec, data, random.randrange(len(data) + 1)))
        other.unfinished |= codec.in_head and bool(codec.head or getattr(codec, "line", b""))
        try:
            self._same_responses(native, other, ask.split(b" ")[0])
        except (AssertionError, h11.ProtocolError) as error:
            raise FoundError("response", data, f"{type(error).__name__} {error} {ask!r}") from error

    def _same_responses(self, native: Reading, other: Reading, method: bytes) -> None:
        assert not native.refused or other.refused or other.unfinished, "only the native codec refuses"
        for reading in (native, other):
            for message in reading.messages:
                if message.status == 101:
                    continue
                status, _, body = read_response(message, method)
                expected = b"" if message.head_request else message.body
                assert (status, body) == (message.status, expected), "h11 reads another answer"
        if native.messages and other.messages and native.messages[0].status != 101:
            ours = read_response(native.messages[0], method)
            assert ours == read_response(other.messages[0], method)
        assert bool(native.messages) or not other.messages, "only the reference codec lets it pass"
        assert self.core.balanced()


class Live:
    """A worker between a client and a backend that send anything, and one of each that are well-behaved."""

    def __init__(self, codec: str, random: random.Random) -> None:
        self.random = random
        self.answer = b""
        self.good = RawBackend(self._serve)
        self.wild = RawBackend(self._misbehave)
        times = {"connectMs": 2000, "readMs": 300, "writeMs": 300}
        settings = {
            "body_timeout": 0.3,
            "header_timeout": 0.3,
            "stream_idle_timeout": 0.3,
            "keepalive_timeout": 0.5,
        }
        self.plane = Plane(codec, **settings)
        self.plane.publish(
            route("/healthy", backend(self.good.url), priority=50),
            route("/**", backend(self.wild.url, "b2", timeouts=times)),
        )
        self.healthy = socket.create_connection(("127.0.0.1", self.plane.port), timeout=10)
        self.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def _serve(self, peer: Peer) -> None:
        while True:
            peer.read_head()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def _misbehave(self, peer: Peer) -> None:
        peer.sock.recv(65536)
        answer = self.answer
        cut = len(answer) // 2
        peer.send(answer[:cut])
        peer.send(answer[cut:])

    def round(self, data: bytes, answer: bytes) -> None:
        self.answer = answer
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.plane.port), 5) as sock,
        ):
            cut = self.random.randrange(len(data) + 1)
            sock.sendall(data[:cut])
            if self.random.random() < 0.3:
                sock.settimeout(0.001)
                with contextlib.suppress(TimeoutError):
                    sock.recv(65536)
                sock.settimeout(5)
            sock.sendall(data[cut:])
            if self.random.random() < 0.6:
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass

    def check(self, data: bytes, answer: bytes) -> None:
        """The worker is alive, and serves those who behave."""
        try:
            self._ask()
            assert self.plane.server.illegal_moves == 0, "an illegal move"
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.memory) << 10
            assert grown < MEMORY, f"{grown >> 20} MiB more memory"
        except (AssertionError, OSError) as error:
            raise FoundError("live", data + b"\n--- answer ---\n" + answer, str(error)) from error

    def _ask(self) -> None:
        request = b"GET /healthy HTTP/1.1\r\nHost: x\r\n\r\n"
        got = b""
        try:
            self.healthy.sendall(request)
            while not got.endswith(b"ok"):
                data = self.healthy.recv(65536)
                if not data:
                    raise ConnectionResetError
                got += data
        except (ConnectionResetError, BrokenPipeError):  # idle for too long: on a new connection it must work
            assert not got
            self.healthy = socket.create_connection(("127.0.0.1", self.plane.port), timeout=10)
            self.healthy.sendall(request)
            got = self.healthy.recv(65536)
        assert got.startswith(b"HTTP/1.1 200") and got.endswith(b"ok"), got

    def close(self) -> None:
        self.healthy.close()
        eventually(lambda: self.plane.totals()["inflight"] == 0)
        totals = self.plane.totals()
        assert totals["accepted"] == totals["completed"] + totals["aborted"], totals
        assert self.plane.server.illegal_moves == 0
        self.plane.close()
        self.good.close()
        self.wild.close()


def until(seconds: float) -> Iterator[int]:
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
        yield rounds


def fuzz_parsers(kind: str, seconds: float, seed: int) -> int:
    """Returns the number of inputs."""
    rng = random.Random(seed)
    parsers = Parsers()
    target: Callable[[random.Random, bytes], None] = getattr(parsers, kind)
    make: Callable[[random.Random], bytes] = getattr(mutate, kind)
    known = mutate.corpus(kind.removesuffix("s"))
    for data in known:
        target(rng, data)
    rounds = 0
    for rounds in until(seconds):  # noqa: B007
        data = make(rng)
        if known and rng.random() < 0.1:
            data = mutate.damage(rng, rng.choice(known))
        target(rng, data)
    return rounds


def fuzz_live(codec: str, seconds: float, seed: int) -> int:
    rng = random.Random(seed)
    live = Live(codec, rng)
    rounds = 0
    try:
        for rounds in until(seconds):  # noqa: B007
            data, answer = mutate.requests(rng), mutate.responses(rng)
            live.round(data, answer)
            live.check(data, answer)
    finally:
        live.close()
    return rounds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=time.time_ns() % (1 << 32))
    options = parser.parse_args()
    share = options.seconds / 4
    print(f"fuzz: seed {options.seed}, {options.seconds:g} s")
    try:
        for kind in ("requests", "responses"):
            print(f"  {kind}: {fuzz_parsers(kind, share, options.seed)} inputs", flush=True)
        for codec in CODECS:
            print(
                f"  live worker, {codec}: {fuzz_live(codec, share, options.seed)} conversations", flush=True
            )
    except FoundError as found:
        name = f"{found.kind}-{hashlib.sha256(found.data).hexdigest()[:12]}.bin"
        (mutate.CORPUS / name).write_bytes(found.data)
        print(f"fuzz: {found}\nkept as {mutate.CORPUS / name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
