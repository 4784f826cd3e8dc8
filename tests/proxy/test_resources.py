"""What connections cost is given back: objects, descriptors, memory."""

from __future__ import annotations

import gc

import pytest
from harness.backend import ok
from harness.client import Client
from harness.wait import eventually
from harness.worker import backend, route

from hotswap_proxy import _wire

CONNECTIONS = 10_000
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SLACK = 2 << 20  # what an allocator may keep
CROWD = 300
HEAD = 20_000


@pytest.fixture
def process(make_process):
    return make_process()


def test_connections_leave_nothing_behind(process, make_backend):
    process.ask("publish", [route("/**", backend(make_backend().url))])

    def churn(count: int) -> None:
        for n in range(count):
            with Client(process.port) as client:
                if n % 10 == 0:
                    client.reset()
                elif n % 10 == 1:
                    client.send(GET[:20])
                else:
                    client.send(GET)
                    client.read_to_end()
        eventually(lambda: process.ask("connections") == 0)
        assert process.ask("clients") == 0

    churn(500)
    memory, files = process.memory(), process.descriptors()
    for _ in range(10):
        churn(CONNECTIONS // 10)
    assert process.ask("upstreams") <= 10
    assert process.descriptors() <= files
    assert process.memory() - memory < SLACK


def test_backend_connections_leave_nothing_behind(process, make_raw):
    def script(peer):
        peer.read_head()
        if peer.number % 3 == 0:
            peer.send(ok())  # and close: the pooled connection is dropped
        elif peer.number % 3 == 1:
            peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        else:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")

    server = make_raw(script)
    process.ask("publish", [route("/**", backend(server.url))])
    with Client(process.port) as client:
        client.get("/")
        files = process.descriptors()
        for n in range(1, 300):
            assert client.get().status == (502 if n % 3 == 2 else 200)
            server.wait(lambda n=n: server.ended == n + 1)
        eventually(lambda: process.descriptors() <= files)
        assert process.ask("upstreams") == 0


def test_many_open_connections_give_their_memory_back(process, make_backend):
    process.ask("publish", [route("/**", backend(make_backend().url))])
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * HEAD

    def crowd(count: int) -> None:
        clients = [Client(process.port) for _ in range(count)]
        for client in clients:
            client.send(head)
        for client in clients:
            client.send(b"\r\n\r\n")
        for client in clients:
            assert client.read().status == 200
            client.sock.close()
        eventually(lambda: process.ask("connections") == 0)
        assert process.ask("clients") == 0

    crowd(CROWD)
    memory = process.memory()
    for _ in range(5):
        crowd(CROWD)
    assert process.memory() - memory < CROWD * HEAD  # of five times as much


def test_an_idle_connection_costs_little(process, make_backend):
    process.ask("publish", [route("/**", backend(make_backend().url))])
    clients = [Client(process.port) for _ in range(800)]
    for client in clients[:400]:
        assert client.get().status == 200
    memory = process.memory()
    for client in clients[400:]:
        assert client.get().status == 200
    per_connection = (process.memory() - memory) / 400
    for client in clients:
        client.sock.close()
    assert per_connection < 1500


def test_a_closed_server_lets_go_of_everything(make_plane, make_raw, connect):
    plane = make_plane()
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    clients = [connect(plane) for _ in range(10)]
    for client in clients[:5]:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: plane.totals()["inflight"] == 5 and plane.server.connections == 10)
    plane.call(plane.server.close)
    assert all(client.closed() for client in clients)
    server.wait(lambda: server.ended == 5)
    assert plane.server.connections == 0
    assert plane.totals()["aborted"] == 5
    plane.call(plane.server.close)  # again: nothing left to do
    gc.collect()
    assert not any(type(thing) is _wire.Client for thing in gc.get_objects())
