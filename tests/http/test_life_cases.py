"""Connections that are cut, left, held and switched: every row of the table of lives, step by step.

The client's steps: ``send``, ``shut`` (its sending side), ``close``, ``reset``; what it must see: ``read``
(an answer of that status), ``part`` (these bytes next, wherever they begin), ``closed``, ``open`` (another
request is served). The backend's: ``backend`` (read a request unless one is under way, send this),
``backend-begins`` (a head has come, send this), ``backend-again`` (on a second connection),
``backend-close``; what it must see: ``arrived``, ``backend-gets``, ``backend-ended``, ``backend-cut`` (the
connection ended in the middle of a request), ``nothing-more``.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from cases import life
from harness.raw import Peer, RawBackend
from harness.wait import eventually
from harness.worker import Plane, backend, route
from peers import RESET, Caller, lines_of, value_of
from table import Life

CASES = [pytest.param(case, id=case.id) for case in life.CASES]


class Talk:
    """One client, and the backend's end of its request; the test's thread plays both."""

    def __init__(self, port: int, server: RawBackend) -> None:
        self.client = Caller(port)
        self.server = server
        self.under_way = False  # a request whose answer has begun

    @property
    def peer(self) -> Peer:
        self.server.wait(lambda: bool(self.server.peers))
        return self.server.peers[-1]

    def step(self, verb: str, value: object) -> None:
        getattr(self, verb.replace("-", "_"))(value)

    def send(self, data: bytes) -> None:
        self.client.send(data)

    def shut(self, _: object) -> None:
        self.client.sock.shutdown(socket.SHUT_WR)

    def close(self, _: object) -> None:
        self.client.sock.close()

    def reset(self, _: object) -> None:
        self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.client.sock.close()

    def read(self, status: int) -> None:
        got = self.client.read()
        assert (got.status, got.whole) == (status, True)
        self.under_way = False

    def part(self, data: bytes) -> None:
        got = self.client.reader.until(data)
        assert got.endswith(data)

    def closed(self, _: object) -> None:
        assert self.client.closed()

    def open(self, _: object) -> None:
        self.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.backend(b"HTTP/1.1 299 X\r\nContent-Length: 0\r\n\r\n")
        self.read(299)

    def arrived(self, _: object) -> None:
        self.peer.read_head()
        self.under_way = True

    def backend_begins(self, answer: bytes | None) -> None:
        self.arrived(None)
        self.peer.send(answer or b"")

    def backend(self, answer: bytes) -> None:
        if not self.under_way:
            self.arrived(None)
        length = value_of(lines_of(self.peer.heads[-1])[1], b"content-length")
        if length and int(length) and not self.peer.buffer.startswith(b"hello"):
            assert self.peer.read(int(length)) == b"hello"
        self.peer.send(answer)

    def backend_again(self, answer: bytes) -> None:
        """On a new connection."""
        self.server.wait(lambda: len(self.server.peers) > 1)
        self.backend(answer)

    def backend_gets(self, data: bytes) -> None:
        assert self.peer.read(len(data)) == data

    def backend_close(self, _: object) -> None:
        self.peer.sock.shutdown(socket.SHUT_RDWR)

    def backend_ended(self, _: object) -> None:
        assert self.peer.ended()

    def backend_cut(self, _: object) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                self.peer.read(len(self.peer.buffer) + 1)
        assert not self.peer.buffer.endswith(b"0\r\n\r\n")

    def nothing_more(self, _: object) -> None:
        assert self.peer.buffer == b""


Make = Callable[..., Talk]


@pytest.fixture
def talk(codec: str) -> Iterator[Make]:
    made: list[tuple[Plane, RawBackend, Talk]] = []
    over = threading.Event()  # until then the test's thread plays the backend

    def make(**settings: float) -> Talk:
        plane = Plane(codec, **settings)
        server = RawBackend(lambda peer: over.wait(60) and None)
        plane.publish(route("/**", backend(server.url)))
        talk = Talk(plane.port, server)
        made.append((plane, server, talk))
        return talk

    yield make
    over.set()
    for plane, server, talk in made:
        talk.client.sock.close()
        server.close()
        eventually(lambda plane=plane: plane.totals()["inflight"] == 0)
        totals = plane.totals()
        assert totals["accepted"] == totals["completed"] + totals["aborted"], totals
        assert plane.server.illegal_moves == 0
        plane.close()


@pytest.mark.parametrize("case", CASES)
def test_life(talk, case: Life):
    conversation = talk(**dict(case.settings))
    for verb, value in case.steps:
        conversation.step(verb, value)


def test_ids_are_unique_and_rules_are_named():
    assert len({case.id for case in life.CASES}) == len(life.CASES)
    assert all(case.rule for case in life.CASES)
