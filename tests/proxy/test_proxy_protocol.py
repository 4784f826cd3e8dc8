"""Connections that begin with a PROXY header: who may send one, and whom it makes the client."""

from __future__ import annotations

import socket
import struct

import pytest
from harness.wait import eventually
from harness.worker import backend, route

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, family: int, payload: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload)) + payload


TCP4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 4711, 80)
TCP6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(16) + struct.pack("!HH", 4711, 80)


@pytest.fixture
def server(make_backend):
    return make_backend()


@pytest.fixture
def start(make_plane, server):
    def begin(*, core=None, **settings):
        plane = make_plane(proxy_protocol=1, core=core, **settings)
        plane.publish(route("/**", backend(server.url)))
        return plane

    return begin


def refused(plane):
    return plane.node.lane_stats()[0]["refused_connections"]


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (V1, "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (v2(0x21, 0x11, TCP4), "203.0.113.7"),
        (v2(0x21, 0x21, TCP6), "2001:db8::7"),
        (v2(0x21, 0x11, TCP4 + b"\x04\x00\x03abc"), "203.0.113.7"),
        (v2(0x20, 0x00, b""), "127.0.0.1"),
        (v2(0x20, 0x11, TCP4), "127.0.0.1"),
        (v2(0x21, 0x31, bytes(216)), "127.0.0.1"),
        (v2(0x21, 0x00, b""), "127.0.0.1"),
    ],
)
def test_the_header_names_the_client(start, server, connect, header, client):
    plane = start()
    connection = connect(plane)
    connection.send(header + GET)
    assert connection.read().status == 200
    assert connection.get().status == 200  # the next request has none
    assert [request.header("X-Forwarded-For") for request in server.requests] == [client, client]


@pytest.mark.parametrize("header", [V1, v2(0x21, 0x21, TCP6 + bytes(100))])
def test_a_header_may_come_byte_by_byte(start, server, connect, header):
    plane = start()
    connection = connect(plane)
    for byte in header:
        connection.send(bytes([byte]))
    connection.send(GET)
    assert connection.read().status == 200
    assert server.requests[0].header("X-Forwarded-For") in ("203.0.113.7", "2001:db8::7")


@pytest.mark.parametrize(
    "bad",
    [
        GET,
        b"PROXY TCP4 203.0.113.7\r\n" + GET,
        b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 99999\r\n" + GET,
        b"PROXY UNKNOWN " + b"x" * 200,
        v2(0x21, 0x11, TCP4[:-1]) + GET,
        v2(0x21, 0x55, TCP4) + GET,
        v2(0x21, 0x00, bytes(5000))[:100],
        b"\0",
    ],
)
def test_what_is_no_header_is_closed_without_an_answer(start, server, connect, bad):
    plane = start()
    connection = connect(plane)
    connection.send(bad)
    assert connection.closed()
    assert refused(plane) == {"worker": 0, "client": 0, "proxy": 1}
    assert server.requests == []
    assert plane.totals()["accepted"] == 0


def test_a_second_header_is_a_bad_request(start, connect):
    plane = start()
    connection = connect(plane)
    connection.send(V1 + V1 + GET)
    assert connection.read().status == 400


def test_only_trusted_proxies_may_speak_for_others(start, server, connect):
    plane = start(core={"trustedProxies": ["127.0.0.2/32"]})
    stranger = connect(plane)
    assert stranger.closed()  # before it has said anything
    assert refused(plane) == {"worker": 0, "client": 0, "proxy": 1}
    proxy = connect(plane, source="127.0.0.2")
    proxy.send(V1 + GET)
    assert proxy.read().status == 200
    assert server.requests[0].header("X-Forwarded-For") == "203.0.113.7"


def test_the_client_of_a_header_is_believed_only_if_it_is_trusted_itself(start, server, connect):
    plane = start(core={"trustedProxies": ["127.0.0.0/8", "198.51.100.0/24"]})
    for address in (b"203.0.113.7", b"198.51.100.7"):
        connection = connect(plane)
        connection.send(b"PROXY TCP4 %b 192.0.2.1 4711 80\r\n" % address)
        assert connection.get("/", "X-Forwarded-Proto: https").status == 200
    assert [request.header("X-Forwarded-Proto") for request in server.requests] == ["http", "https"]


def test_connections_are_counted_for_the_client_of_the_header(start, connect):
    plane = start(core={"maxConnectionsPerClient": 1})
    first, second, other = connect(plane), connect(plane), connect(plane)
    first.send(V1 + GET)
    assert first.read().status == 200
    second.send(V1 + GET)
    assert second.closed()
    other.send(V1.replace(b"113.7", b"113.8") + GET)
    assert other.read().status == 200
    assert refused(plane) == {"worker": 0, "client": 1, "proxy": 0}
    first.sock.close()
    eventually(lambda: plane.server.connections == 1)
    again = connect(plane)
    again.send(V1 + GET)
    assert again.read().status == 200


def test_a_header_has_the_time_of_a_head(start, connect):
    plane = start(header_timeout=0.2)
    silent, slow = connect(plane), connect(plane)
    slow.send(V1[:20])
    assert silent.closed()
    assert slow.closed()
    assert plane.totals()["accepted"] == 0


def test_a_client_that_leaves_within_its_header(start, connect):
    plane = start()
    for part in (b"", V1[:20], SIGNATURE + b"\x21"):
        connection = connect(plane)
        connection.send(part)
        connection.sock.shutdown(socket.SHUT_WR)
        assert connection.closed()
    eventually(lambda: plane.server.connections == 0)


def test_draining_does_not_wait_for_headers(start, connect):
    plane = start()
    connection = connect(plane)
    connection.send(V1[:20])
    eventually(lambda: plane.server.connections == 1)
    plane.call(lambda: plane.server.drain())
    assert connection.closed()
