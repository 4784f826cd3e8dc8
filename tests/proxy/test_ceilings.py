"""What one client may have of a node: connections, requests a second, and patience for its slowness."""

from __future__ import annotations

import os
import socket
import time

import pytest
from harness.backend import ok
from harness.wait import eventually
from harness.worker import backend, route

DRIP = 0.02  # seconds between two bytes: far below every timeout of silence here
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def refused(plane):
    return plane.node.lane_stats()[0]["refused_connections"]


def test_connections_of_a_client_have_a_ceiling(make_plane, make_backend, connect):
    plane = make_plane(core={"maxConnectionsPerClient": 2})
    plane.publish(route("/**", backend(make_backend().url)))
    first, second = connect(plane), connect(plane)
    assert [first.get().status, second.get().status] == [200, 200]
    assert connect(plane).closed()
    assert connect(plane, source="127.0.0.2").get().status == 200
    assert refused(plane) == {"worker": 0, "client": 1, "proxy": 0}
    first.sock.close()
    eventually(lambda: plane.server.connections == 2)
    assert connect(plane).get().status == 200
    assert second.get().status == 200


def test_a_worker_has_a_ceiling_of_connections(make_plane, make_backend, connect):
    plane = make_plane(max_connections=2)
    plane.publish(route("/**", backend(make_backend().url)))
    clients = [connect(plane, source=f"127.0.0.{n}") for n in (2, 3)]
    assert [client.get().status for client in clients] == [200, 200]
    assert connect(plane, source="127.0.0.4").closed()
    assert refused(plane) == {"worker": 1, "client": 0, "proxy": 0}
    clients[0].sock.close()
    eventually(lambda: plane.server.connections == 1)
    assert connect(plane).get().status == 200


def test_requests_of_a_client_have_a_ceiling(make_plane, make_backend, connect):
    plane = make_plane(core={"maxRequestsPerSecondPerClient": 3})
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    client = connect(plane)
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    answers = [client.read() for _ in range(20)]
    passed = [answer.status for answer in answers].count(200)
    assert 3 <= passed < 20
    assert {answer.status for answer in answers} == {200, 429}
    assert {answer.header("Retry-After") for answer in answers if answer.status == 429} == {"1"}
    assert connect(plane, source="127.0.0.2").get().status == 200
    assert len(server.requests) == passed + 1
    (row,) = [row for row in plane.node.series_stats() if row["routeId"] == ""]
    assert row["limited"] == 20 - passed
    eventually(lambda: client.get().status == 200)


def drip(client, data):
    """Send byte by byte until the gateway has had enough; returns whether it had."""
    client.sock.settimeout(DRIP)
    for byte in data:
        try:
            client.send(bytes([byte]))
            client.buffer += client.sock.recv(65536)
            return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_a_head_that_drips_is_cut(make_plane, connect):
    """Slowloris."""
    plane = make_plane(header_timeout=0.3)
    client = connect(plane)
    assert drip(client, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50)
    client.sock.settimeout(10)
    assert client.read().status == 408
    assert client.closed()


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_a_body_that_drips_is_cut(make_plane, make_raw, connect, framing):
    """R-U-Dead-Yet: never silent for long, and never done."""
    plane = make_plane(body_timeout=0.3, min_transfer_rate=2000)
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    client = connect(plane)
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
    assert drip(client, b"1\r\nx\r\n" * 150)
    client.sock.settimeout(10)
    assert client.read("POST").status == 408
    assert client.closed()
    server.wait(lambda: server.ended == 1)


def test_an_extension_of_a_chunk_is_no_progress(make_plane, make_raw, connect):
    plane = make_plane(body_timeout=0.3, min_transfer_rate=1)
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    client = connect(plane)
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    assert drip(client, b"x" * 300)
    client.sock.settimeout(10)
    assert client.read("POST").status in (400, 408)


def test_a_body_that_is_slow_but_fast_enough_passes(make_plane, make_backend, connect):
    plane = make_plane(body_timeout=0.3, min_transfer_rate=1)
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    client = connect(plane)
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n")
    assert not drip(client, b"x" * 59)
    client.sock.settimeout(10)
    client.send(b"x")
    assert client.read("POST").status == 200
    assert server.requests[0].body == b"x" * 60


def test_a_backend_that_takes_a_body_slowly_is_not_the_clients_fault(make_plane, make_raw, connect):
    size = 6 << 20

    def script(peer):
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        peer.read_head()
        time.sleep(1)  # longer than any of the client's times
        peer.read(size)
        peer.send(ok())

    plane = make_plane(body_timeout=0.3, min_transfer_rate=1 << 30)
    plane.publish(route("/**", backend(make_raw(script).url), maxRequestBody=None))
    client = connect(plane)
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    client.send(bytes(size))
    assert client.read("POST").status == 200


def small_send_buffers(plane):
    """Of the connections that it accepts from now on: what a client does not take waits in the gateway."""
    with socket.socket(fileno=os.dup(plane._fd)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def sip(plane, most):
    """Ask, and read a little now and then; returns how much came until ``most`` or the end."""
    taken = 0
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before the window is told
        sock.settimeout(10)
        sock.connect(("127.0.0.1", plane.port))
        sock.sendall(GET)
        try:
            while taken < most and (part := sock.recv(2048)):
                taken += len(part)
                time.sleep(DRIP)
        except ConnectionResetError:
            pass
    return taken


@pytest.mark.parametrize("rate", [0, 1 << 30])
def test_an_answer_that_is_sipped_is_cut(make_plane, make_backend, rate):
    """Slow read: all of the answer is here, and its reader takes it by the kilobyte."""
    size = 250_000
    plane = make_plane(write_timeout=0.3, min_transfer_rate=rate)
    plane.publish(route("/**", backend(make_backend(lambda _: ok(bytes(size))).url)))
    small_send_buffers(plane)
    assert (sip(plane, size) < size) == bool(rate)


def test_a_stream_that_is_sipped_ends_with_the_time_of_its_request(make_plane, make_raw):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 20))
        peer.send(bytes(1 << 20))

    plane = make_plane()
    plane.publish(route("/**", backend(make_raw(script).url), timeoutMs=500))
    small_send_buffers(plane)
    assert sip(plane, 1 << 20) < 1 << 20
