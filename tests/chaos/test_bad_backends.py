"""Backends that break the rules, each on a route of its own; the route of a sound one must not feel them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from chaos.load import Load
from harness.client import Client
from harness.raw import Peer, RawBackend

EARLY = 1 << 20  # bytes of a body that is answered before it has come
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def stalls(peer: Peer) -> None:
    peer.read_head()
    peer.ended()


def resets_at_once(peer: Peer) -> None:
    peer.read_head()
    peer.reset()


def resets_within_the_head(peer: Peer) -> None:
    peer.read_head()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    time.sleep(0.05)  # a reset right behind would take the bytes back
    peer.reset()


def resets_within_the_body(peer: Peer) -> None:
    peer.read_head()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
    time.sleep(0.05)
    peer.reset()


def closes_within_a_chunk(peer: Peer) -> None:
    peer.read_head()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly")


def answers_garbage(peer: Peer) -> None:
    peer.read_head()
    peer.send(b"\x15\x03\x01 this is no HTTP\r\n\r\n")


def sends_two_lengths(peer: Peer) -> None:
    peer.read_head()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")


def sends_an_endless_head(peer: Peer) -> None:
    peer.read_head()
    peer.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        peer.send(b"X-More: %b\r\n" % (b"x" * 1000))


def drips(peer: Peer) -> None:
    """Never silent for long enough to time out, never done: the route's timeout ends it."""
    peer.read_head()
    for byte in HELLO * 10:
        peer.send(bytes([byte]))
        time.sleep(0.25)


def never_reads(peer: Peer) -> None:
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    released.wait(30)


def closes_without_saying_so(peer: Peer) -> None:
    peer.read_head()
    peer.send(HELLO)


def answers_before_the_body(peer: Peer) -> None:
    """Where the body has come whole all the same, the connection is used again."""
    while True:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        peer.read(EARLY)


def answers_twice(peer: Peer) -> None:
    """The second answer belongs to nobody, least of all to the next client."""
    while True:
        peer.read_head()
        peer.send(HELLO + HELLO.replace(b"hello", b"OTHER"))


def sends_before_it_is_asked(peer: Peer) -> None:
    """What crosses with the first request looks like its answer; what follows it is nobody's."""
    peer.send(HELLO.replace(b"hello", b"early"))
    while True:
        peer.read_head()
        peer.send(HELLO)


released = threading.Event()


class Case(NamedTuple):
    """What each of ten requests may get: statuses, or ``cut`` for an answer that ends before its end."""

    script: Callable[[Peer], None]
    outcomes: set[int | str]
    post: int = 0  # bytes of body of a POST


CASES = [
    Case(stalls, {504}),
    Case(resets_at_once, {502}),
    Case(resets_within_the_head, {502}),
    Case(resets_within_the_body, {"cut"}),
    Case(closes_within_a_chunk, {"cut"}),
    Case(answers_garbage, {502}),
    Case(sends_two_lengths, {502}),
    Case(sends_an_endless_head, {502}),
    Case(drips, {504, "cut"}),
    Case(never_reads, {504}, post=8 << 20),
    Case(closes_without_saying_so, {200}),
    Case(answers_before_the_body, {413}, post=EARLY),
    Case(answers_twice, {200}),
    Case(sends_before_it_is_asked, {200, 502}),
]


@pytest.fixture(scope="module")
def cases() -> Iterator[dict[str, RawBackend]]:
    released.clear()
    made = {case.script.__name__: RawBackend(case.script) for case in CASES}
    yield made
    released.set()
    for backend in made.values():
        backend.close()


def configuration(cases: dict[str, RawBackend], sound: str) -> dict[str, Any]:
    timeouts = {"connectTimeout": "1s", "readTimeout": "1s", "writeTimeout": "1s"}
    routes = [
        {
            "name": name,
            "path": f"/{name}",
            "timeoutSeconds": 2,
            "backends": [{"name": name, "url": backend.url, "timeouts": timeouts}],
        }
        for name, backend in cases.items()
    ]
    routes.append({"name": "sound", "path": "/**", "backends": [{"name": "sound", "url": sound}]})
    return {"version": "1", "routes": routes}


def outcome(port: int, name: str, post: int) -> int | str:
    with Client(port) as client:
        try:
            if not post:
                answer = client.get(f"/{name}")
            else:
                sending = threading.Thread(target=_send, args=(client, name, post))
                sending.start()
                answer = client.read("POST")
        except (ConnectionError, TimeoutError) as error:
            return "cut" if not isinstance(error, TimeoutError) else "no answer"
        finally:
            if post:
                with contextlib.suppress(OSError):
                    client.sock.shutdown(socket.SHUT_RDWR)
                sending.join(10)
        if answer.status == 200:
            assert answer.body in (b"hello", b"early" if "before" in name else b""), "never another's answer"
        return answer.status


def _send(client: Client, name: str, size: int) -> None:
    with contextlib.suppress(OSError):
        client.send(f"POST /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        client.send(bytes(size))


def test_each_bad_backend_has_its_answer_and_a_sound_one_feels_nothing(nodes, victims, cases, tmp_path):
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps(configuration(cases, victims[0].url)))
    node = nodes.start("--config", str(file))
    found: dict[str, set[int | str]] = {}

    def ask_for(case: Case) -> None:
        name = case.script.__name__
        found[name] = {outcome(nodes.port, name, case.post) for _ in range(2)}

    with Load(nodes.port, {"get": 4, "post": 2, "once": 2}) as load:
        askers = [threading.Thread(target=ask_for, args=(case,)) for case in CASES]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(40)
        load.run_on()
    assert load.failed() == []
    wrong = {case.script.__name__: found[case.script.__name__] - case.outcomes for case in CASES}
    assert {name: outcomes for name, outcomes in wrong.items() if outcomes} == {}
    assert [failure for backend in cases.values() for failure in backend.failures] == []
    assert node.health()["status"] == "Healthy"
