"""Sizes that are refused, with the status that says which, and how a refused message ends."""

from __future__ import annotations

import socket
import threading

import pytest
from harness.backend import ok
from harness.worker import backend, route

HEAD_LIMIT = 65_536
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def padded(size: int) -> bytes:
    """A request head of exactly ``size`` bytes."""
    fields = [b"X-%d: %b\r\n" % (n, b"v" * 1000) for n in range((size - 200) // 1010)]
    head = GET + b"".join(fields)
    return head + b"P: " + b"p" * (size - len(head) - 7) + b"\r\n\r\n"


def test_a_body_that_is_announced_too_large_is_a_413(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/**", backend(server.url), maxRequestBody=10))
    client = connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n")
    answer = client.read("POST")
    assert (answer.status, answer.header("Connection")) == (413, "close")
    assert client.closed()
    assert connect().get("/", method="POST", body=b"0123456789").status == 200
    assert [request.body for request in server.requests] == [b"0123456789"]


def test_a_body_that_grows_too_large_is_a_413(plane, make_raw, connect):
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", backend(server.url), maxRequestBody=10))
    client = connect()
    client.send(CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n")
    answer = client.read("POST")
    assert (answer.status, answer.header("Connection")) == (413, "close")
    server.wait(lambda: server.ended == 1)  # its connection is cut: the request must not look whole


def test_a_body_of_just_the_limit_passes(plane, make_backend, connect):
    server = make_backend(lambda request: ok(request.body))
    plane.publish(route("/**", backend(server.url), maxRequestBody=10, maxResponseBody=10))
    client = connect()
    client.send(CHUNKED + b"a\r\n0123456789\r\n0\r\n\r\n")
    assert client.read("POST").body == b"0123456789"


@pytest.mark.parametrize("split", [1, 25, 2047, 2048, 2049, 4096, 65_533, 65_534, 65_535, None])
def test_a_head_of_just_the_limit_split_anywhere(plane, make_backend, connect, split):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    head = padded(HEAD_LIMIT)
    assert len(head) == HEAD_LIMIT
    client.send(head[:split])
    if split:
        client.send(head[split:])
    assert client.read().status == 200
    assert server.requests[0].header("P") == head.rpartition(b": ")[2].strip().decode()


@pytest.mark.parametrize("ended", [True, False])
def test_a_head_over_the_limit_is_a_431(plane, make_backend, connect, ended):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    head = padded(HEAD_LIMIT + 2)
    client.send(head if ended else head[:-2])
    assert client.read().status == 431
    assert client.closed()


def test_a_raised_head_limit_is_heeded(make_plane, make_backend, connect):
    plane = make_plane(core={"maxHeaderBytes": 200_000})
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect(plane)
    head = padded(100_000)
    client.send(head[:70_000])
    client.send(head[70_000:])
    assert client.read().status == 200


def test_a_target_over_the_limit_is_a_414(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 8192))
    assert client.read().status == 414
    assert client.closed()
    assert connect().get("/" + "a" * 8191).status == 200


def test_too_many_fields_are_a_431(plane, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    client.send(GET + b"".join(b"X-%d: 1\r\n" % n for n in range(128)) + b"\r\n")
    assert client.read().status == 431
    client = connect()
    client.send(GET + b"".join(b"X-%d: 1\r\n" % n for n in range(127)) + b"\r\n")
    assert client.read().status == 200


def test_an_answer_that_is_announced_too_large_is_a_502(plane, make_backend, connect):
    server = make_backend(lambda _: ok(b"01234567890"))
    plane.publish(route("/**", backend(server.url), maxResponseBody=10))
    client = connect()
    answer = client.get("/", "Accept: application/json")
    assert answer.status == 502
    assert b"larger" in answer.body
    # A description of a body is not a body.
    server.script = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    assert client.get(method="HEAD").status == 200


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked\r\n", b""])
def test_an_answer_that_comes_too_large_is_a_502(plane, make_raw, connect, framing):
    """All of it is here before any of it has gone on: the client gets a proper refusal."""

    def script(peer):
        peer.read_head()
        body = b"b\r\n01234567890\r\n0\r\n\r\n" if framing else b"01234567890"
        peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + body)

    plane.publish(route("/**", backend(make_raw(script).url), maxResponseBody=10))
    assert connect().get().status == 502


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked\r\n", b""])
def test_an_answer_that_grows_too_large_never_looks_whole(plane, make_raw, connect, framing, version):
    first = threading.Event()

    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + (b"5\r\nhello\r\n" if framing else b"hello"))
        assert first.wait(10)
        peer.send(b"6\r\n world\r\n0\r\n\r\n" if framing else b" world")

    plane.publish(route("/**", backend(make_raw(script).url), maxResponseBody=10))
    client = connect()
    client.send(b"GET / HTTP/%b\r\nHost: x\r\n\r\n" % version)
    while b"hello" not in client.buffer:
        client.buffer += client.sock.recv(65536)
    first.set()
    if version == b"1.0":  # it knows the end of a body by the end of the connection
        with pytest.raises(ConnectionResetError):
            client.read_to_end()
    else:
        data = client.read_to_end()
        assert b"world" not in data
        assert not data.endswith(b"0\r\n\r\n")


def test_trailers_without_an_end_are_refused(plane, make_raw, connect):
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(CHUNKED + b"1\r\nx\r\n0\r\n")
    field = b"X-Field: " + b"v" * 1000 + b"\r\n"
    try:
        for _ in range(100):
            client.send(field)
    except OSError:
        pass  # refused already
    assert client.read("POST").status == 400


@pytest.mark.parametrize("element", ["", "x-a", " "])
def test_a_long_connection_list_is_refused(plane, make_raw, connect, element):
    """Empty elements count: each field of the message is looked up in the list."""
    field = f"Connection: {','.join([element] * 33)}"
    short = f"Connection: {','.join([element] * 32)}"

    def script(peer):
        while True:
            head = peer.read_head()
            peer.send(ok(b"", (field if b"/long" in head else short).encode()))

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    assert connect().get("/", short).status == 200
    assert connect().get("/", field).status == 400
    assert connect().get("/long").status == 502
    assert sum(len(peer.heads) for peer in server.peers) == 2


def test_the_head_of_an_answer_may_be_larger_than_the_room_before_it(make_plane, make_raw, connect):
    def script(peer):
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        peer.read_head()
        peer.send(ok(bytes(8 << 20)))  # from now on the connection holds a lot
        peer.read_head()
        asked.set()
        peer.ended()

    asked = threading.Event()
    plane = make_plane(core={"maxHeaderBytes": 1 << 20})
    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect(plane)
    assert len(client.get().body) == 8 << 20
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert asked.wait(10)
    fields = [(f"X-{n}", f"{n % 10}" * 1000) for n in range(100)]
    answer = ok(b"hello", *(f"{name}: {value}".encode() for name, value in fields))
    plane.call(lambda: server.peers[0].send(answer))  # all of it is there when the worker reads
    response = client.read()
    assert response.body == b"hello"
    assert [
        (name, value) for name, value in response.headers if name.startswith("X-") and len(value) == 1000
    ] == fields
