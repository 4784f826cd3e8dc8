"""Plain forwarding: what a backend gets, what a client gets, and connections that are used again."""

from __future__ import annotations

import re

import pytest
from harness.backend import Backend, ok
from harness.client import Client
from harness.worker import backend, route


def test_a_request_reaches_its_backend_and_the_answer_its_client(plane, make_backend, connect):
    server = make_backend(lambda _: ok(b"hello", b"X-Own: 1", b"Connection: X-Hop", b"X-Hop: gone"))
    plane.publish(route("/**", backend(server.url)))
    answer = connect().get("/a/b?x=1&y=%2F", "X-Client: 1", "Connection: X-Private", "X-Private: 1", "TE: a")
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.header("X-Own") == "1"
    assert answer.header("X-Hop") is None
    assert answer.header("Via") == "1.1 hotswap"
    got = server.requests[0]
    assert (got.method, got.target) == ("GET", "/a/b?x=1&y=%2F")
    assert got.header("Host") == "test.example"
    assert got.header("X-Client") == "1"
    assert got.header("X-Private") is None
    assert got.header("TE") is None
    assert got.header("X-Forwarded-For") == "127.0.0.1"
    assert got.header("X-Forwarded-Proto") == "http"
    assert got.header("X-Forwarded-Host") == "test.example"
    assert got.header("Via") == "1.1 hotswap"
    assert re.fullmatch("[0-9a-f]{32}", got.header("X-Request-ID") or "")
    assert answer.header("X-Request-ID") == got.header("X-Request-ID")


def test_both_connections_are_used_again(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    for _ in range(10):
        assert client.get().status == 200
    assert server.connections == 1
    assert len(server.requests) == 10


def test_pipelined_requests_are_answered_in_order(plane, make_backend, connect):
    server = make_backend(lambda request: ok(request.target.encode()))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(50)))
    assert [client.read().body for _ in range(50)] == [b"/%d" % n for n in range(50)]
    assert server.connections == 1


def test_a_path_is_forwarded_as_it_was_matched(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/users/{id}", backend(server.url)))
    assert connect().get("/x/../users/%7Eme").status == 200
    assert server.requests[0].target == "/users/~me"


def test_no_route_and_no_method(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/a", backend(server.url), methods=["GET", "PUT"]))
    client = connect()
    missing = client.get("/b", "Accept: application/json")
    assert missing.status == 404
    assert b'"NOT_FOUND"' in missing.body
    wrong = client.get("/a", "Accept: text/html", method="DELETE")
    assert wrong.status == 405
    assert wrong.header("Allow") == "GET, PUT"
    assert wrong.header("Content-Type") == "text/plain; charset=utf-8"
    assert client.get("/a").status == 200  # the connection goes on


def test_http_1_0(plane, make_backend, connect):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    server = make_backend(lambda _: chunked)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    head, _, body = client.read_to_end().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"Transfer-Encoding" not in head
    assert body == b"abc"


def test_http_1_0_keep_alive(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    for _ in range(3):
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = client.read()
        assert answer.header("Connection") == "keep-alive"
        assert answer.body == b"hello"


def test_connection_close_is_heeded(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    answer = client.get("/", "Connection: close")
    assert answer.header("Connection") == "close"
    assert client.closed()


def test_an_unreachable_backend_is_a_502(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    server.close()
    answer = connect().get("/", "Accept: application/json")
    assert answer.status == 502
    assert b'"BAD_GATEWAY"' in answer.body
    assert (answer.header("X-Request-ID") or "").encode() in answer.body


def test_no_configuration_yet_is_a_503(plane, connect):
    assert connect().get().status == 503


def test_interim_answers_are_passed_on(plane, make_backend, connect):
    server = make_backend(lambda _: b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + ok())
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    answer = client.get()
    assert (answer.interim, answer.status) == ([103], 200)
    assert client.get().status == 200
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert client.read_to_end().startswith(b"HTTP/1.1 200")


def test_answers_without_a_body(plane, make_backend, connect):
    def script(request):
        return {
            "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
            "/304": b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 99\r\n\r\n',
            "/head": b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        }.get(request.target, ok())

    server: Backend = make_backend(script)
    plane.publish(route("/**", backend(server.url)))
    client: Client = connect()
    assert client.get("/204").status == 204
    assert client.get("/304").header("ETag") == '"x"'
    assert client.get("/head", method="HEAD").header("Content-Length") == "1234"
    assert client.get("/chunked", method="HEAD").status == 200
    assert client.get("/").body == b"hello"
    assert server.connections == 1


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
def test_max_forwards(plane, make_backend, connect, method):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    answer = client.get("/", "Max-Forwards: 0", "Cookie: secret=1", method=method)
    assert answer.status == {"OPTIONS": 204, "TRACE": 501}[method]
    assert b"secret" not in answer.body
    assert server.requests == []
    assert client.get("/", "Max-Forwards: 2", method=method).status == 200
    assert server.requests[0].header("Max-Forwards") == "1"
    assert client.get("/", "Max-Forwards: 0").status == 200  # says nothing about other methods


def test_options_at_its_last_hop_lists_the_methods_of_the_route(plane, make_backend, connect):
    plane.publish(route("/few", backend(make_backend().url), methods=["GET", "POST", "OPTIONS"]))
    client = connect()
    answer = client.get("/few", "Max-Forwards: 0", method="OPTIONS")
    assert (answer.status, answer.header("Allow")) == (204, "GET, POST, OPTIONS")
    assert (answer.header("Content-Length"), answer.header("Content-Type")) == (None, None)
    assert client.get("/nowhere", "Max-Forwards: 0", method="OPTIONS").status == 404
    assert client.get("*", method="OPTIONS").status == 204


def test_an_empty_body_that_nobody_reads_leaves_the_connection_usable(plane, make_backend, connect):
    plane.publish(route("/known", backend(make_backend().url)))
    client = connect()
    for _ in range(2):
        answer = client.get("/unknown", method="POST", body=b"")
        assert (answer.status, answer.header("Connection")) == (404, None)
    assert client.get("/known").status == 200
