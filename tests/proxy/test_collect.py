"""Request bodies that are read whole before a backend is chosen, for a JSON Schema that takes anything."""

from __future__ import annotations

import json
import time

import pytest
from harness.backend import ok
from harness.wait import eventually
from harness.worker import backend, route

from tests.proxy.test_bodies import chunks, echo

ANYTHING = {"validation": {"jsonSchema": "{}"}}
POST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
MEGABYTE = 1 << 20


def with_length(body):
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def text(size):
    return json.dumps("x" * (size - 2)).encode()


@pytest.fixture
def server(plane, make_backend):
    server = make_backend(echo)
    plane.publish(route("/**", backend(server.url), policy=ANYTHING))
    return server


def test_bodies_of_every_framing_and_size_reach_the_backend_with_a_length(server, connect):
    client = connect()
    sizes = (2, 100, 3_900, 4_100, 70_000, MEGABYTE)
    for size in sizes:
        body = text(size)
        client.send(with_length(body))
        assert client.read("POST").body == body
        client.send(CHUNKED + chunks(body, 1, 7, 1000, 8192))
        assert client.read("POST").body == body
    assert [r.header("Content-Length") for r in server.requests] == [str(n) for n in sizes for _ in range(2)]
    assert all(r.header("Transfer-Encoding") is None for r in server.requests)
    assert server.connections == 1


def test_byte_by_byte(server, connect):
    client = connect()
    for request in (with_length(b'{"a": 1}'), CHUNKED + b"3;a=b\r\n[1,\r\n2\r\n2]\r\n0\r\nX-Sum: 1\r\n\r\n"):
        for at in range(len(request)):
            client.send(request[at : at + 1])
        assert client.read("POST").status == 200
    assert [r.body for r in server.requests] == [b'{"a": 1}', b"[1,2]"]
    assert server.requests[1].header("X-Sum") is None


def test_requests_behind_a_collected_one_keep_their_order(server, connect):
    client = connect()
    small, large = text(100), text(300_000)
    client.send(
        with_length(small) + GET + CHUNKED + chunks(small, 10) + GET + with_length(large) + with_length(small)
    )
    bodies = [client.read("POST").body for _ in range(6)]
    assert bodies == [small, b"", small, b"", large, small]


def test_a_body_that_is_too_large(plane, server, connect):
    for request in (
        POST + b"Content-Length: %d\r\n\r\n" % (MEGABYTE + 1),
        CHUNKED + chunks(b"1" * (MEGABYTE + 1), 65536),
    ):
        client = connect()
        client.send(request)
        answer = client.read("POST")
        assert (answer.status, answer.header("Connection")) == (413, "close")
        assert client.closed()
    plane.publish(route("/**", backend(server.url), policy=ANYTHING, maxRequestBody=10))
    client = connect()
    client.send(CHUNKED + chunks(text(11), 5))
    assert client.read("POST").status == 413
    assert server.requests == []


def test_the_gateway_itself_asks_for_the_body(server, connect):
    client = connect()
    for length in (b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"):
        client.send(POST + b"Expect: 100-continue\r\n" + length + b"\r\n")
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += client.sock.recv(1024)
        assert data == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert server.connections <= 1
        client.send(b"1234" if b"Length" in length else b"4\r\n1234\r\n0\r\n\r\n")
        assert client.read("POST").body == b"1234"
    assert all(r.header("Expect") is None for r in server.requests)


def test_who_sends_the_body_at_once_is_not_asked_for_it(server, connect):
    client = connect()
    client.send(POST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n1234")
    answer = client.read("POST")
    assert (answer.interim, answer.body) == ([], b"1234")


def test_who_is_refused_is_not_asked_for_the_body(server, connect):
    client = connect()
    client.send(POST + b"Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n")
    answer = client.read("POST")
    assert (answer.status, answer.interim) == (413, [])


def test_a_body_that_does_not_come(make_plane, make_backend, connect):
    plane = make_plane(body_timeout=0.3)
    server = make_backend()
    plane.publish(route("/**", backend(server.url), policy=ANYTHING))
    client = connect(plane)
    client.send(POST + b"Content-Length: 10\r\n\r\n1234")
    assert client.read("POST").status == 408
    assert client.closed()
    assert server.connections == 0


def test_the_time_of_the_whole_request_includes_its_body(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/**", backend(server.url), policy=ANYTHING, timeoutMs=500))
    client = connect()
    client.send(POST + b"Content-Length: 1000\r\n\r\n")
    started = time.monotonic()
    client.sock.settimeout(0.05)
    while time.monotonic() - started < 20:  # always some progress, so the body's own time never runs out
        try:
            client.send(b"1")
            if data := client.sock.recv(20):
                break
        except TimeoutError:
            continue
    assert data.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("leave", ["reset", "close"])
def test_a_client_that_leaves_in_its_body(plane, server, connect, leave):
    client = connect()
    client.send(POST + b"Content-Length: 100000\r\n\r\n" + b"1" * 50_000)
    eventually(lambda: plane.totals()["inflight"] == 1)
    client.reset() if leave == "reset" else client.sock.close()
    eventually(lambda: plane.totals()["inflight"] == 0)
    assert plane.totals()["aborted"] == 1
    assert server.connections == 0


def test_malformed_chunks(server, connect):
    client = connect()
    client.send(CHUNKED + b"5\r\nhelloXX")
    assert client.read("POST").status == 400
    assert client.closed()
    assert server.connections == 0


def test_a_collected_body_of_any_size_is_sent_again_on_a_stale_connection(plane, make_raw, connect):
    bodies = []

    def script(peer):
        head = peer.read_head()
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        bodies.append(peer.read(length))
        peer.send(ok())
        if len(bodies) == 1:
            peer.read_head()  # takes the next request, and closes without a word

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url), policy=ANYTHING))
    client = connect()
    for body in (text(10), text(50_000)):
        client.send(with_length(body).replace(b"POST", b"PUT", 1))
        assert client.read("PUT").status == 200
    assert bodies == [text(10), text(50_000)]


def test_a_configuration_changes_while_a_body_is_collected(plane, make_backend, connect):
    old, new = make_backend(lambda _: ok(b"old")), make_backend(lambda _: ok(b"new"))
    plane.publish(route("/**", backend(old.url), policy=ANYTHING))
    client = connect()
    client.send(POST + b"Content-Length: 4\r\n\r\n12")
    eventually(lambda: plane.totals()["inflight"] == 1)
    for _ in range(5):
        plane.publish(route("/**", backend(new.url, "b2"), policy=ANYTHING))
        plane.node.reclaim()
    client.send(b"34")
    assert client.read("POST").body == b"old"
    client.send(with_length(b"1"))
    assert client.read("POST").body == b"new"


def test_draining_waits_for_a_body(plane, server, connect):
    client = connect()
    client.send(POST + b"Content-Length: 4\r\n\r\n12")
    eventually(lambda: plane.totals()["inflight"] == 1)
    plane.loop.call_soon_threadsafe(
        lambda: setattr(plane, "drain", plane.loop.create_task(plane.server.drain()))
    )
    eventually(lambda: plane.server.draining)
    client.send(b"34")
    answer = client.read("POST")
    assert (answer.status, answer.header("Connection")) == (200, "close")
    eventually(lambda: plane.drain.done())


RETRY = {
    "retryPolicy": {
        "maxAttempts": 3,
        "initialDelayMs": 1,
        "maxDelayMs": 1,
        "backoffMultiplier": 1.0,
        "retryableStatusCodes": [503],
    }
}


def test_a_collected_body_of_any_size_is_retried(plane, make_backend, connect):
    good = make_backend(echo)
    bad = make_backend(lambda _: ok(b"later", status=b"503 Service Unavailable"))
    both = [backend(bad.url, "b1"), backend(good.url, "b2")]
    plane.publish(route("/**", *both, strategy="Direct", policy=ANYTHING | RETRY))
    client = connect()
    body = text(300_000)
    client.send(CHUNKED.replace(b"POST", b"PUT", 1) + chunks(body, 9999))
    answer = client.read("PUT")
    assert (answer.status, answer.body) == (200, body)
    assert [len(server.requests) for server in (bad, good)] == [1, 1]
    assert bad.requests[0].body == body
    assert good.requests[0].header("Content-Length") == "300000"
    client.send(with_length(body))  # not idempotent
    assert client.read("POST").status == 503


def test_a_collected_request_goes_to_another_backend_when_one_cannot_be_reached(plane, make_backend, connect):
    good = make_backend(echo)
    gone = make_backend()
    gone.close()
    both = [backend(gone.url, "b1"), backend(good.url, "b2")]
    plane.publish(route("/**", *both, strategy="Direct", policy=ANYTHING))
    client = connect()
    client.send(CHUNKED + chunks(text(50_000), 4000))
    assert client.read("POST").body == text(50_000)
    assert good.requests[0].header("Content-Length") == "50000"
