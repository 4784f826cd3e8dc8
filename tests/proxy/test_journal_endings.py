"""What is told of requests whose backend, client or middleware fails, and of tunnels."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from harness.backend import ok
from harness.wait import eventually
from harness.worker import backend, route

from hotswap_proxy.middleware import Response
from tests.proxy.attempts import breaker, nobody, publish
from tests.proxy.journaled import outcome
from tests.proxy.test_protocol_upgrade import SWITCH, UPGRADE

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
JSON = "Content-Type: application/json"


@pytest.fixture
def plane(make_told_plane):
    """One whose requests are told of."""
    return make_told_plane()


# ---- backends that fail ----


def test_nobody_is_there(plane, told, connect):
    with nobody() as gone:
        publish(plane, gone)
        assert connect().get().status == 502
    line = told.one()
    assert outcome(line) == (502, ["UF"])
    assert (line["backend"], line["attempts"], line["upstreamMs"]) == ("b0", 1, None)


def test_no_backend_is_fit(plane, told, make_backend, connect):
    server = make_backend()
    publish(plane, server.url)
    plane.node.set_backend_status(server.url, 2)
    assert connect().get().status == 503
    line = told.one()
    assert outcome(line) == (503, ["UH"])
    assert (line["route"], line["backend"], line["attempts"]) == ("/**", None, 0)


def test_a_circuit_that_is_open(plane, told, make_backend, connect):
    server = make_backend(lambda _: ok(status=b"503 No"))
    publish(plane, server.url, policy=breaker(1))
    client = connect()
    client.get()
    assert outcome(told.one()) == (503, [])
    client.get()
    line = told.one()
    assert outcome(line) == (503, ["UCB"])
    assert line["attempts"] == 0


def test_a_pool_that_is_full(plane, told, make_raw, connect):
    go_on = threading.Event()

    def script(peer):
        peer.read_head()
        assert go_on.wait(10)
        peer.send(ok())

    member = backend(make_raw(script).url, pool={"minSize": 1, "maxSize": 1, "waitMs": 100})
    plane.publish(route("/**", member))
    holder = connect()
    holder.send(GET)
    eventually(lambda: plane.totals()["inflight"] == 1)
    assert connect().get().status == 503
    line = told.one()
    assert outcome(line) == (503, ["UO"])
    assert (line["backend"], line["attempts"]) == ("b1", 1)
    go_on.set()
    assert holder.read().status == 200
    assert outcome(told.one()) == (200, [])


@pytest.mark.parametrize(
    ("sends", "status", "flag"),
    [
        (b"", 502, "UC"),
        (b"HTTP/1.1 200", 502, "UC"),
        (b"nonsense\r\n\r\n", 502, "UPE"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", 502, "RSL"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", 200, "UC"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", 200, "UPE"),
    ],
)
def test_a_backend_that_breaks_off_or_speaks_nonsense(plane, told, make_raw, connect, sends, status, flag):
    def script(peer):
        peer.read_head()
        head, end, body = sends.partition(b"\r\n\r\n")
        if status == 200:
            # First the head and a part of the body: what is sound has gone to the client.
            peer.send(head + end + body[: -len(b"zz\r\n")] if flag == "UPE" else sends)
            if flag == "UPE":
                assert begun.wait(10)
                peer.send(b"zz\r\n")
                peer.ended()
        else:
            peer.send(sends)
            if flag in ("UPE", "RSL"):
                peer.ended()

    begun = threading.Event()
    plane.publish(route("/**", backend(make_raw(script).url), maxResponseBody=50))
    client = connect()
    client.send(GET)
    seen = client.sock.recv(65536)
    assert seen.startswith(b"HTTP/1.1 %d" % status)
    begun.set()
    line = told.one()
    assert outcome(line) == (status, [flag])
    assert line["attempts"] == 1


def test_a_backend_that_is_silent(plane, told, make_raw, connect):
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", backend(server.url, timeouts={"readMs": 100})))
    assert connect().get().status == 504
    line = told.one()
    assert outcome(line) == (504, ["UT"])
    assert line["durationMs"] >= 100


def test_a_backend_that_falls_silent(plane, told, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")
        peer.ended()

    plane.publish(route("/**", backend(make_raw(script).url, timeouts={"readMs": 100})))
    client = connect()
    client.send(GET)
    assert client.read_to_end().endswith(b"short")
    line = told.one()
    assert outcome(line) == (200, ["UT"])
    assert line["bytesOut"] == 5


def test_a_handshake_that_fails(plane, told, make_raw, connect):
    server = make_raw(lambda peer: peer.send(b"no TLS here"))
    plane.publish(route("/**", backend(server.url.replace("http:", "https:"))))
    assert connect().get().status == 502
    assert outcome(told.one()) == (502, ["UTF"])


# ---- clients that fail ----


def test_a_client_that_leaves(plane, told, make_raw, connect):
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(GET)
    eventually(lambda: server.peers and server.peers[0].heads)
    client.reset()
    line = told.one()
    assert outcome(line) == (499, ["DC"])
    assert (line["backend"], line["upstreamMs"]) == ("b1", None)


def test_a_client_that_leaves_in_the_middle_of_its_answer(plane, told, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        peer.ended()

    plane.publish(route("/**", backend(make_raw(script).url)))
    client = connect()
    client.send(GET)
    client.sock.recv(100)
    client.reset()
    line = told.one()
    assert outcome(line) == (200, ["DC"])
    assert line["bytesOut"] == 1000


def test_a_client_that_does_not_take_its_answer(make_told_plane, told, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 26))
        try:
            for _ in range(1 << 10):
                peer.send(b"x" * (1 << 16))
        except OSError:
            pass

    plane = make_told_plane(write_timeout=0.3)
    plane.publish(route("/**", backend(make_raw(script).url), maxResponseBody=1 << 30))
    client = connect(plane)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.send(GET)
    line = told.one()
    assert outcome(line) == (200, ["DTO"])
    assert 0 < line["bytesOut"] < 1 << 26


def test_a_client_that_does_not_send_its_body(make_told_plane, told, make_backend, connect):
    plane = make_told_plane(body_timeout=0.2)
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect(plane)
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    assert b" 408 " in client.read_to_end()
    line = told.one()
    assert outcome(line) == (408, ["DTO"])
    assert line["bytesIn"] == 3


# ---- tunnels, interim answers, the end of the worker ----


def tunnel(plane, make_raw, connect, then=lambda peer: peer.ended()) -> Any:
    """A client with an open tunnel; what the backend does ``then``."""
    server = make_raw(lambda peer: (peer.read_head(), peer.send(SWITCH + b"hello"), then(peer)))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(UPGRADE)
    seen = b""
    while not seen.endswith(b"hello"):
        seen += client.sock.recv(65536)
    return client


def test_a_tunnel(plane, told, make_raw, connect):
    client = tunnel(plane, make_raw, connect)
    client.send(b"to the backend")
    client.sock.shutdown(socket.SHUT_WR)
    assert client.closed()
    line = told.one()
    assert outcome(line) == (101, [])
    assert (line["bytesIn"], line["bytesOut"], line["attempts"]) == (14, 5, 1)


def test_a_tunnel_that_is_idle(make_told_plane, told, make_raw, connect):
    plane = make_told_plane(stream_idle_timeout=0.3)
    client = tunnel(plane, make_raw, lambda: connect(plane))
    assert client.closed()
    assert outcome(told.one()) == (101, ["SI"])


def test_a_tunnel_whose_backend_is_gone(plane, told, make_raw, connect):
    client = tunnel(plane, make_raw, connect, lambda peer: (peer.read(2), peer.reset()))
    client.send(b"go")
    assert client.closed()
    assert outcome(told.one()) == (101, ["UC"])


def test_interim_answers_are_no_answers(plane, told, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        peer.send(ok())

    plane.publish(route("/**", backend(make_raw(script).url)))
    assert connect().get().interim == [103]
    assert outcome(told.one()) == (200, [])


def test_a_worker_that_ends(plane, told, make_raw, connect):
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(GET)
    eventually(lambda: server.peers and server.peers[0].heads)
    plane.call(plane.server.close)
    assert outcome(told.one()) == (499, ["STOP"])


# ---- middleware ----


async def through(request, call_next):
    return await call_next(request)


async def ours(_request, _call_next):
    return Response(202, body=b"own")


async def broken(_request, _call_next):
    raise RuntimeError("no")


async def twice(request, call_next):
    answer = await call_next(request)
    return Response(answer.status, body=answer.body * 2)


async def slow(_request, _call_next):
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("function", "status", "flags", "attempts", "size"),
    [
        (through, 200, [], 1, 5),
        (twice, 200, [], 1, 10),
        (ours, 202, [], 0, 3),
        (broken, 500, ["MWF"], 0, None),
        (slow, 504, ["MWT"], 0, None),
    ],
)
def test_middleware(make_told_plane, told, make_backend, connect, function, status, flags, attempts, size):
    plane = make_told_plane(middleware={"m": function})
    timeout = 300 if function is slow else 30_000
    plane.publish(route("/**", backend(make_backend().url), policy={"middleware": ["m"]}, timeoutMs=timeout))
    answer = connect(plane).get("/", method="POST", body=b"abc")
    assert answer.status == status
    line = told.one()
    assert outcome(line) == (status, flags)
    assert (line["attempts"], line["bytesIn"], line["bytesOut"]) == (attempts, 3, len(answer.body))
    assert size is None or size == len(answer.body)


def test_a_middleware_whose_backend_fails(make_told_plane, told, connect):
    plane = make_told_plane(middleware={"through": through})
    with nobody() as gone:
        plane.publish(route("/**", backend(gone), policy={"middleware": ["through"]}))
        assert connect(plane).get().status == 502
    line = told.one()
    assert outcome(line) == (502, ["UF"])
    assert line["attempts"] == 1
