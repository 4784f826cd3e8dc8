"""What backends do to connections, and what their clients may see of it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest
from harness.backend import ok
from harness.raw import Peer
from harness.wait import eventually
from harness.worker import backend, route


def failures(plane) -> int:
    return sum(row["failed"] for row in plane.node.backend_stats())


def test_a_backend_that_is_not_there_is_a_502(plane, connect):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        plane.publish(route("/**", backend(f"http://127.0.0.1:{port}")))
        client = connect()
        assert [client.get().status for _ in range(3)] == [502] * 3
    assert failures(plane) == 3


@pytest.mark.parametrize("how", ["close", "reset", "half a head"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_fresh_connection_that_brings_no_answer_is_a_502(plane, make_raw, connect, how, method):
    def script(peer):
        peer.read_head()
        if how == "reset":
            peer.reset()
        elif how == "half a head":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    assert client.get(method=method, body=b"" if method == "POST" else None).status == 502
    assert len(server.peers) == 1  # a connection that was never good is not tried again
    assert client.get(method=method, body=b"" if method == "POST" else None).status == 502
    assert failures(plane) == 2


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
def test_a_cut_answer_does_not_look_whole(plane, make_raw, connect, how, framing):
    body = b"5\r\nhello\r\n" if b"chunked" in framing else b"hello"
    seen = threading.Event()

    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + body)
        assert seen.wait(10)
        if how == "reset":
            peer.reset()

    plane.publish(route("/**", backend(make_raw(script).url)))
    client = connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.sock.recv(65536).endswith(b"\r\n\r\n" + body)
    seen.set()
    assert client.read_to_end() == b""
    assert failures(plane) == 1


def test_a_cut_answer_does_not_look_whole_to_a_1_0_client(plane, make_raw, connect):
    """It knows the end of a body by the end of the connection: that end has to be a reset."""

    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert seen.wait(10)

    seen = threading.Event()
    plane.publish(route("/**", backend(make_raw(script).url)))
    client = connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert client.sock.recv(65536).endswith(b"\r\n\r\nhello")
    seen.set()
    with pytest.raises(ConnectionResetError):
        client.read_to_end()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/3.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    ],
    ids=lambda garbage: repr(garbage[:40]),
)
def test_garbage_is_a_502(plane, make_raw, connect, garbage):
    server = make_raw(lambda peer: (peer.read_head(), peer.send(garbage), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    assert client.get().status == 502
    server.wait(lambda: server.ended == 1)  # that connection is of no more use
    assert client.get("/elsewhere").status == 502


@pytest.mark.parametrize("together", [True, False])
def test_bytes_after_an_answer_reach_nobody(plane, make_raw, connect, together):
    def script(peer):
        peer.read_head()
        answer, extra = ok(b"mine"), ok(b"poison")
        peer.send(answer + extra if together else answer)
        if not together:
            first.wait(10)
            peer.send(extra)
        peer.ended()

    first = threading.Event()
    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    assert connect().get().body == b"mine"
    first.set()
    server.wait(lambda: server.ended == 1)
    assert connect().get().body == b"mine"
    assert len(server.peers) == 2


def test_a_body_where_none_may_be_reaches_nobody(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison")
        peer.ended()

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    for turn in range(1, 4):
        assert client.get().status == 204
        server.wait(lambda turn=turn: server.ended == turn)


def test_an_answer_to_head_with_a_body_reaches_nobody(plane, make_raw, connect):
    server = make_raw(lambda peer: (peer.read_head(), peer.send(ok(b"poison")), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    for turn in range(1, 4):
        assert client.get(method="HEAD").header("Content-Length") == "6"
        server.wait(lambda turn=turn: server.ended == turn)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_pooled_connection_that_was_closed_is_not_used(plane, make_raw, connect, method):
    server = make_raw(lambda peer: (peer.read_head(), peer.send(ok())))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    for turn in range(1, 5):
        assert client.get(method=method, body=b"x" if method == "POST" else None).status == 200
        server.wait(lambda turn=turn: server.ended == turn)
    assert len(server.peers) == 4
    assert failures(plane) == 0


@pytest.mark.parametrize("how", ["close", "reset"])
def test_closed_at_the_very_moment_a_get_arrives(plane, make_raw, connect, how):
    """The race that keep-alive brings: repeated once, on a new connection (RFC 9112 section 9.3.1)."""

    def script(peer):
        peer.read_head()
        peer.send(ok(b"from %d" % peer.number))
        peer.read_head()
        if how == "reset":
            peer.reset()

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    assert [client.get(f"/{n}").body for n in range(3)] == [b"from 0", b"from 1", b"from 2"]
    assert [b"GET /1 " in peer.heads[-1] for peer in server.peers] == [True, False, False]
    assert failures(plane) == 0


def test_a_put_is_repeated_with_its_body(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        bodies.append(peer.read(5))
        peer.send(ok(peer.heads[-1].split()[1]))
        peer.read_head()

    bodies: list[bytes] = []
    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    assert client.get("/1", method="PUT", body=b"first").body == b"/1"
    assert client.get("/2", method="PUT", body=b"again").body == b"/2"
    assert bodies == [b"first", b"again"]
    assert len(server.peers) == 2


def test_closed_at_the_very_moment_a_post_arrives(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(ok())
        peer.read_head()

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    assert client.get().status == 200
    assert client.get("/charge", method="POST", body=b"").status == 502
    assert sum(b"/charge" in head for peer in server.peers for head in peer.heads) == 1
    assert len(server.peers) == 1


def test_a_get_that_fails_twice_is_a_502(plane, make_raw, connect):
    def script(peer):
        if peer.number == 0:
            peer.read_head()
            peer.send(ok())
        peer.read_head()

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    assert [client.get().status for _ in range(2)] == [200, 502]
    assert len(server.peers) == 2


@pytest.mark.parametrize("then", ["reads on", "closes", "resets"])
def test_a_final_answer_while_the_upload_goes_on(plane, make_raw, connect, then):
    def script(peer):
        peer.read_head()
        peer.send(ok(b"too much", b"Connection: close", status=b"413 Content Too Large"))
        if then == "reads on":
            peer.ended()
        elif then == "resets":
            assert answered.wait(10)
            peer.reset()

    answered = threading.Event()
    server = make_raw(script)
    plane.publish(route("/**", backend(server.url), maxRequestBody=None))
    client = connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
    client.send(bytes(1 << 20))
    answer = client.read("POST")
    answered.set()
    assert (answer.status, answer.body, answer.header("Connection")) == (413, b"too much", "close")
    server.wait(lambda: server.ended == 1)
    eventually(lambda: plane.totals()["completed"] == 1)


def gateway_end(peer: Peer) -> socket.socket:
    """The other end of a backend's connection, which is open in this very process."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            sock = socket.socket(fileno=os.dup(int(entry.name)))
            if sock.family == socket.AF_INET and sock.getsockname() == peer.sock.getpeername():
                return sock
            sock.close()
    raise AssertionError("no such connection")


def test_an_answer_before_the_upload_is_sent_ends_the_connection(plane, make_raw, connect):
    """All of the body has left the client, but the backend has not taken it: its connection is not clean."""

    def script(peer):
        peer.read_head()
        peer.send(ok(b"%d" % peer.number))
        if peer.number == 0:
            assert uploaded.wait(10)
            peer.send(ok(b"denied", status=b"401 Unauthorized"))
            assert answered.wait(10)
            peer.ended()  # what it takes now is nobody's any more

    uploaded, answered = threading.Event(), threading.Event()
    server = make_raw(script)
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    assert client.get().body == b"0"
    with gateway_end(server.peers[0]) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    upload = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n" + bytes(40_000)
    plane.call(lambda: client.send(upload))  # the worker gets it in one piece
    plane.call(lambda: None)
    uploaded.set()
    answer = client.read("POST")
    assert (answer.status, answer.header("Connection")) == (401, None)
    answered.set()
    server.wait(lambda: server.ended == 1)
    assert client.get().body == b"1"


@pytest.mark.parametrize("size", [10, 6_000])  # the latter is more than what is kept to be sent again
def test_a_put_on_a_connection_that_closes_in_the_same_batch(plane, make_raw, connect, size):
    def script(peer):
        while True:
            head = peer.read_head()
            peer.read(size if head.startswith(b"PUT") else 0)
            peer.send(ok(b"%d" % peer.number))

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    assert client.get().body == b"0"

    def both():  # the worker finds the request before the end of the connection, and both at once
        client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        server.peers[0].sock.shutdown(socket.SHUT_RDWR)

    plane.call(both)
    assert client.read("PUT").body == b"1"
    assert failures(plane) == 0


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_unsolicited_bytes_in_the_same_batch_reach_nobody(plane, make_raw, connect, method):
    def script(peer):
        while True:
            peer.read_head()
            peer.send(ok(b"%d" % peer.number))

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    assert connect().get().body == b"0"
    victim = connect()
    eventually(lambda: plane.server.connections == 2)

    def both():
        victim.send(method + b" / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        server.peers[0].send(ok(b"poison"))

    plane.call(both)
    assert victim.read(method.decode()).body == b"1"
    server.wait(lambda: server.ended == 1)
