"""Bodies of both directions, in every framing there is."""

from __future__ import annotations

import hashlib
import re
import threading

from harness.backend import ok
from harness.worker import backend, route

POST = b"POST /x HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def echo(request):
    return ok(request.body)


def chunks(body: bytes, *sizes: int) -> bytes:
    """``body`` in chunks of the given sizes, the last of them repeated."""
    out, at, turn = b"", 0, 0
    while at < len(body):
        size = min(sizes[min(turn, len(sizes) - 1)], len(body) - at)
        out += b"%x\r\n%b\r\n" % (size, body[at : at + size])
        at, turn = at + size, turn + 1
    return out + b"0\r\n\r\n"


def test_small_bodies_with_a_length(plane, make_backend, connect):
    server = make_backend(echo)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    for body in (b"", b"x", b"hello", bytes(range(256)) * 20):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert client.get("/", method=method, body=body).body == body
    assert server.connections == 1


def test_five_megabytes_there_and_back(plane, make_backend, connect):
    server = make_backend(echo)
    plane.publish(route("/**", backend(server.url)))
    body = bytes(range(256)) * 20_480
    answer = connect().get("/", method="POST", body=body)
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()


def test_a_request_that_arrives_byte_by_byte(plane, make_backend, connect):
    server = make_backend(echo)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    for request in (
        POST + b"Content-Length: 11\r\n\r\nhello world",
        CHUNKED + b"3;a=b\r\nhel\r\n8;c\r\nlo world\r\n0\r\nX-Sum: 1\r\n\r\n",
    ):
        for at in range(len(request)):
            client.send(request[at : at + 1])
        assert client.read("POST").body == b"hello world"


def test_chunks_of_odd_sizes(plane, make_backend, connect):
    server = make_backend(echo)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    body = bytes(range(251)) * 1200
    for sizes in ((1, 2, 3, 4095, 4096, 4097), (131_072,), (65_535, 97), (7_919,)):
        client.send(CHUNKED + chunks(body, *sizes))
        assert client.read("POST").body == body
    assert all(r.header("Transfer-Encoding") == "chunked" for r in server.requests)


def test_extensions_end_here_and_trailers_go_on(plane, make_raw, connect):
    got = []

    def script(peer):
        head = peer.read_head()
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        while b"\r\n\r\n" not in peer.buffer:
            peer._fill()
        got.append(peer.buffer)
        peer.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'3;name="value"\r\nabc\r\n0\r\nX-Back: 2\r\nHost: evil\r\n\r\n'
        )

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(CHUNKED + b"5;ext=1\r\nhello\r\n0\r\nX-There: 1\r\nHost: evil\r\n\r\n")
    data = b""
    while not data.endswith(b"2\r\n\r\n"):
        data += client.sock.recv(65536)
    assert re.search(rb"\r\n\r\n3\r\nabc\r\n0\r\nX-Back: ?2\r\n\r\n$", data)
    assert re.fullmatch(rb"5\r\nhello\r\n0\r\nX-There: ?1\r\n\r\n", got[0])


def test_an_answer_that_ends_with_its_connection(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\npart one, ")
        peer.send(b"part two")

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    for _ in range(3):  # the client's own connection goes on
        answer = client.get()
        assert answer.header("Transfer-Encoding") == "chunked"
        assert answer.body == b"part one, part two"
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    head, _, body = client.read_to_end().partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert b"\r\nConnection: close" in head
    assert body == b"part one, part two"
    assert len(server.peers) == 4


def test_empty_answers(plane, make_raw, connect):
    def script(peer):
        for answer in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ):
            peer.read_head()
            peer.send(answer)

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    for _ in range(6):
        assert client.get().body == b""
    assert len(server.peers) == 2


def test_a_post_and_the_next_request_in_one_packet(plane, make_backend, connect):
    server = make_backend(echo)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    get = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
    for body in (b"hello", b"x" * 10_000):
        client.send(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body + get)
        assert client.read("POST").body == body
        assert client.read().body == b""
        client.send(CHUNKED + chunks(body, 1000) + get)
        assert client.read("POST").body == body
        assert client.read().body == b""
    assert [r.target for r in server.requests] == ["/x", "/next"] * 4


def test_an_answer_in_single_bytes(plane, make_raw, connect):
    """A head in pieces belongs to one exchange only: the next on the same connection starts anew."""

    def script(peer):
        for number in range(4):
            peer.read_head()
            for byte in ok(b"answer %d" % number):
                peer.send(bytes([byte]))

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    for number in range(4):
        client = connect()
        assert client.get().body == b"answer %d" % number
        assert client.sock.recv(0) == b""
    assert len(server.peers) == 1


def test_chunked_answers_in_single_bytes(plane, make_raw, connect):
    def script(peer):
        while True:
            peer.read_head()
            for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(b"hello world", 3):
                peer.send(bytes([byte]))

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    assert [client.get().body for _ in range(3)] == [b"hello world"] * 3
    assert len(server.peers) == 1


def test_expect_100_continue(plane, make_raw, connect):
    asked = threading.Event()

    def script(peer):
        head = peer.read_head()
        assert b"\r\nExpect: 100-continue\r\n" in head
        assert peer.buffer == b""
        asked.set()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.send(ok(peer.read(5)))

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert asked.wait(10)
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += client.sock.recv(1024)
    assert data.startswith(b"HTTP/1.1 100")
    client.send(b"hello")
    answer = client.read("POST")
    assert (answer.status, answer.body) == (200, b"hello")


def test_a_final_answer_instead_of_100(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(ok(b"no", status=b"417 Expectation Failed"))
        peer.ended()

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    answer = client.read("POST")
    assert (answer.status, answer.body) == (417, b"no")
    # The body may or may not follow: the connection is not fit for another request.
    assert answer.header("Connection") == "close"
    assert client.closed()
    server.wait(lambda: server.ended == 1)
