"""Upgrades: WebSocket by a library on both ends, and what else may follow a request to switch protocols."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from harness.backend import ok
from harness.wait import eventually
from harness.worker import backend, route
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as ws_connect
from websockets.sync.server import ServerConnection, serve

UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n"


@pytest.fixture
def echo() -> Iterator[int]:
    """A WebSocket server that echoes, and closes when it is told to; yields its port."""

    def handler(socket_: ServerConnection) -> None:
        for message in socket_:
            if message == "close":
                socket_.close(4001, "told to")
                return
            socket_.send(message)

    with serve(handler, "127.0.0.1", 0, max_size=None, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.socket.getsockname()[1]
        server.shutdown()


def web_socket(plane, **options) -> ClientConnection:
    return ws_connect(f"ws://127.0.0.1:{plane.port}/", max_size=None, compression=None, **options)


def test_messages_both_ways(plane, echo):
    plane.publish(route("/**", backend(f"http://127.0.0.1:{echo}")))
    with web_socket(plane) as client:
        for message in ("hello", b"\x00\xff", "", "ü" * 1000):
            client.send(message)
            assert client.recv(10) == message
        assert client.ping().wait(10)
        assert plane.totals()["inflight"] == 1
    eventually(lambda: plane.totals()["inflight"] == 0)
    assert plane.totals()["completed"] == 1


def test_large_frames(plane, echo):
    plane.publish(route("/**", backend(f"http://127.0.0.1:{echo}"), maxRequestBody=10, maxResponseBody=10))
    with web_socket(plane) as client:
        message = bytes(range(256)) * 40_000
        client.send(message)
        assert client.recv(20) == message
        client.send([message[:5_000_000], message[5_000_000:]])
        assert client.recv(20) == message


def test_both_sides_may_close(plane, echo):
    plane.publish(route("/**", backend(f"http://127.0.0.1:{echo}")))
    with web_socket(plane) as client:
        client.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(10)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "told to")
    with web_socket(plane) as client:
        client.close(4002, "own will")
        assert client.close_code == 4002
    eventually(lambda: plane.totals()["completed"] == 2)


def test_many_at_once_and_a_change_below_them(plane, echo):
    plane.publish(route("/**", backend(f"http://127.0.0.1:{echo}")))
    with ExitStack() as stack:
        clients = [stack.enter_context(web_socket(plane)) for _ in range(20)]
        plane.publish()  # no route is left
        plane.node.reclaim()
        for n, client in enumerate(clients):
            client.send(f"{n}")
        assert [client.recv(10) for client in clients] == [f"{n}" for n in range(20)]
        with pytest.raises(InvalidStatus), web_socket(plane):
            pass


def test_an_idle_one_outlives_the_times_of_requests(make_plane, echo):
    plane = make_plane(header_timeout=0.2, keepalive_timeout=0.2, write_timeout=0.2, body_timeout=0.2)
    times = {"connectMs": 5000, "readMs": 200, "writeMs": 200}
    plane.publish(route("/**", backend(f"http://127.0.0.1:{echo}", timeouts=times), timeoutMs=200))
    passed = threading.Event()
    with web_socket(plane) as client:
        plane.call(lambda: plane.loop.call_later(1.0, passed.set) and None)
        assert passed.wait(10)
        client.send("still there?")
        assert client.recv(10) == "still there?"


def test_an_idle_one_is_closed_in_the_end(make_plane, make_raw, connect):
    plane = make_plane(stream_idle_timeout=0.2)
    server = make_raw(lambda peer: (peer.read_head(), peer.send(SWITCH), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    client = connect(plane)
    client.send(UPGRADE)
    assert b"101" in client.read_to_end()
    server.wait(lambda: server.ended == 1)


def test_bytes_around_the_switch_are_not_lost(plane, make_raw, connect):
    """The client may send before it has seen the 101, the backend in the same packet."""

    def script(peer):
        head = peer.read_head()
        assert b"\r\nUpgrade: own\r\n" in head
        assert b"\r\nConnection: upgrade\r\n" in head
        peer.send(SWITCH + b"welcome\0")
        peer.send(peer.read(5)[::-1])
        peer.send(peer.read(5)[::-1])

    plane.publish(route("/**", backend(make_raw(script).url)))
    client = connect()
    client.send(UPGRADE + b"early")
    data = b""
    while not data.endswith(b"ylrae"):
        data += client.sock.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    assert rest == b"welcome\0ylrae"
    client.send(b"later")
    assert client.read_to_end() == b"retal"


def test_a_half_closed_tunnel_still_brings_the_answer(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(SWITCH)
        got = b""
        while part := peer.sock.recv(65536):
            got += part
        peer.send(b"%d bytes" % len(got))

    plane.publish(route("/**", backend(make_raw(script).url)))
    client = connect()
    client.send(UPGRADE)
    client.send(bytes(3_000_000))
    client.sock.shutdown(socket.SHUT_WR)
    assert client.read_to_end().endswith(b"\r\n\r\n3000000 bytes")


def test_refused_it_goes_on_as_http(plane, make_backend, connect):
    server = make_backend(lambda request: ok(request.target.encode()))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(UPGRADE + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.read().body == b"/"
    assert client.read().body == b"/next"
    assert client.get("/last").body == b"/last"


def test_refused_with_426(plane, make_backend, connect):
    refusal = ok(b"", b"Upgrade: other", b"Connection: upgrade", status=b"426 Upgrade Required")
    server = make_backend(lambda _: refusal)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(UPGRADE)
    answer = client.read()
    assert (answer.status, answer.header("Upgrade")) == (426, "other")
    assert client.get().status == 426


def test_a_cut_tunnel_is_cut_on_the_other_side(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(SWITCH)
        if peer.number == 0:
            peer.read(1)
            peer.reset()
        else:
            peer.ended()

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(UPGRADE)
    assert b"101" in client.sock.recv(65536)
    client.send(b"x")
    assert client.closed()
    client = connect()
    client.send(UPGRADE)
    assert b"101" in client.sock.recv(65536)
    client.reset()
    server.wait(lambda: server.ended == 2)


def test_changes_of_other_routes_and_backends_leave_it_alone(plane, make_backend, echo):
    socket_route = route("/ws", backend(f"http://127.0.0.1:{echo}"))
    other = make_backend()
    with ExitStack() as stack:
        plane.publish(socket_route, route("/other", backend(other.url, "b2")))
        client = stack.enter_context(ws_connect(f"ws://127.0.0.1:{plane.port}/ws", compression=None))
        for turn in range(30):
            plane.publish(socket_route, route("/other", backend(other.url, "b2"), timeoutMs=1000 + turn))
            plane.publish(socket_route)
            plane.node.reclaim()
            client.send(f"{turn}")
            assert client.recv(10) == f"{turn}"
        assert plane.totals()["inflight"] == 1


def test_least_connections_counts_streams(plane, make_backend, connect, echo):
    """Who holds streams gets no requests while another has none."""
    other = make_backend(lambda _: ok(b"other"))
    both = (backend(f"http://127.0.0.1:{echo}", "b1"), backend(other.url, "b2"))
    plane.publish(route("/**", both[0], strategy="LeastConnections"))
    with web_socket(plane) as client, web_socket(plane):
        assert plane.active(f"http://127.0.0.1:{echo}") == 2
        plane.publish(route("/**", *both, strategy="LeastConnections"))
        asker = connect()
        assert [asker.get("/").body for _ in range(6)] == [b"other"] * 6
        client.send("still here")
        assert client.recv(10) == "still here"
    eventually(lambda: plane.active(f"http://127.0.0.1:{echo}") == 0)


def test_draining_waits_for_a_tunnel(plane, echo):
    plane.publish(route("/**", backend(f"http://127.0.0.1:{echo}")))
    with web_socket(plane) as client:
        client.send("before")
        assert client.recv(10) == "before"
        drained = threading.Thread(target=lambda: plane.call(plane.server.drain), daemon=True)
        drained.start()
        eventually(lambda: plane.server.draining)
        client.send("while draining")
        assert client.recv(10) == "while draining"
        assert drained.is_alive()
    drained.join(10)
    assert not drained.is_alive()
