"""What connections cost is given back: objects, descriptors, memory."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.backend import ok
from harness.client import Client
from harness.wait import eventually
from harness.worker import backend, route

from hotswap_proxy import _wire

CONNECTIONS = 10_000
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def alive(*types: type) -> int:
    return sum(type(thing) in types for thing in gc.get_objects())


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only reference counts free anything."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_connections_leave_nothing_behind(plane, codec, make_backend, no_collector):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))

    def churn(count: int) -> None:
        for n in range(count):
            with Client(plane.port) as client:
                if n % 10 == 0:
                    client.reset()
                elif n % 10 == 1:
                    client.send(GET[:20])
                else:
                    client.send(GET)
                    client.read_to_end()
        eventually(lambda: plane.server.connections == 0)
        if codec == "httptools":
            gc.collect()  # httptools' parsers refer to themselves

    churn(1000)
    memory, files = resident(), len(os.listdir("/proc/self/fd"))
    churn(CONNECTIONS)
    assert len(os.listdir("/proc/self/fd")) <= files
    assert alive(_wire.Client) == 0
    assert alive(_wire.Upstream) <= 10
    assert resident() - memory < 4 << 20


def test_backend_connections_leave_nothing_behind(plane, codec, make_raw, connect, no_collector):
    def script(peer):
        peer.read_head()
        if peer.number % 3 == 0:
            peer.send(ok())  # and close: the pooled connection is dropped
        elif peer.number % 3 == 1:
            peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        else:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    files = len(os.listdir("/proc/self/fd"))
    for n in range(300):
        assert client.get().status == (502 if n % 3 == 2 else 200)
        server.wait(lambda n=n: server.ended == n + 1)
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= files)
    if codec == "httptools":
        gc.collect()
    assert alive(_wire.Upstream) <= 1


def test_many_open_connections_give_their_memory_back(plane, make_backend, no_collector):
    plane.publish(route("/**", backend(make_backend().url)))

    def crowd(count: int) -> int:
        clients = [Client(plane.port) for _ in range(count)]
        before = resident()
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + bytes(20_000).replace(b"\0", b"x"))
        for client in clients:
            client.send(b"\r\n\r\n")
        for client in clients:
            assert client.read().status == 200
        peak = resident() - before
        for client in clients:
            client.sock.close()
        eventually(lambda: plane.server.connections == 0)
        return peak

    crowd(200)
    before = resident()
    for _ in range(5):
        crowd(200)
    assert resident() - before < 4 << 20


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
    assert alive(_wire.Client) == 0
