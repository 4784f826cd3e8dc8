"""A worker that ends: what is under way is finished, what stays idle is closed, nobody new comes in."""

from __future__ import annotations

import asyncio
import threading

import pytest
from harness.backend import ok
from harness.client import Client
from harness.wait import eventually
from harness.worker import backend, route

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def drain(plane):
    return asyncio.run_coroutine_threadsafe(plane.server.drain(), plane.loop)


def test_draining(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        assert go_on.wait(10)
        peer.send(ok(b"finished"))

    go_on = threading.Event()
    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    idle, busy, headless = connect(), connect(), connect()
    busy.send(GET + GET.replace(b" /", b" /never", 1))
    headless.send(GET[:20])
    eventually(lambda: plane.server.connections == 3 and plane.active(server.url) == 1)
    done = drain(plane)
    assert idle.closed()
    with pytest.raises(OSError):
        Client(plane.port)
    headless.send(GET[20:])
    eventually(lambda: plane.active(server.url) == 2)
    assert not done.done()
    go_on.set()
    answer = headless.read()
    assert (answer.body, answer.header("Connection")) == (b"finished", "close")
    assert headless.closed()
    answer = (
        busy.read()
    )  # begun before the drain, its head written after; what was asked behind it is not served
    assert (answer.body, answer.header("Connection")) == (b"finished", "close")
    assert busy.closed()
    for client in (idle, busy, headless):
        client.sock.close()
    done.result(10)
    assert plane.server.connections == 0
    assert plane.totals()["completed"] == plane.totals()["accepted"] == 2


def test_draining_waits_for_a_stream(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert go_on.wait(10)
        peer.send(b"6\r\n world\r\n0\r\n\r\n")

    go_on = threading.Event()
    plane.publish(route("/**", backend(make_raw(script).url)))
    client = connect()
    client.send(GET)
    data = b""
    while b"hello" not in data:
        data += client.sock.recv(65536)
    done = drain(plane)
    plane.call(lambda: None)
    assert not done.done()
    go_on.set()
    client.buffer = data
    answer = client.read()
    assert (answer.body, answer.header("Connection")) == (b"hello world", None)
    assert client.closed()
    client.sock.close()
    done.result(10)


def test_who_was_told_nothing_may_ask_once_more(plane, make_backend, connect):
    """The next request of a client may cross with the end of its connection: it is answered, and told then."""
    plane.publish(route("/**", backend(make_backend().url)))
    clients = [connect() for _ in range(20)]
    for client in clients:
        assert client.get().header("Connection") is None
    done = drain(plane)
    eventually(lambda: plane.server.draining)
    for client in clients:
        answer = client.get()
        assert (answer.status, answer.header("Connection")) == (200, "close")
        assert client.closed()
        client.sock.close()
    done.result(10)


def test_a_request_that_has_come_before_draining_is_answered(plane, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    clients = [connect() for _ in range(20)]
    for client in clients:
        assert client.get().status == 200

    async def send_and_drain():  # in one go: the worker has no chance to see the requests before it drains
        for client in clients:
            client.send(GET)
        await plane.server.drain()

    done = asyncio.run_coroutine_threadsafe(send_and_drain(), plane.loop)
    for client in clients:
        answer = client.read()
        assert (answer.status, answer.header("Connection")) == (200, "close")
        client.sock.close()
    done.result(10)


def test_draining_without_connections_is_done_at_once(plane):
    drain(plane).result(10)
    drain(plane).result(10)


def test_draining_twice(plane, make_raw, connect):
    go_on = threading.Event()
    server = make_raw(lambda peer: (peer.read_head(), go_on.wait(10), peer.send(ok())))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(GET)
    eventually(lambda: plane.active(server.url) == 1)
    both = [drain(plane), drain(plane)]
    both[0].cancel()  # whoever gives up waiting does not end it for the other
    go_on.set()
    assert client.read().status == 200
    client.sock.close()
    both[1].result(10)


def test_connections_in_the_queue_are_answered(plane, make_backend):
    """They are made and have sent requests before the worker stops accepting, but it has not seen them."""
    plane.publish(route("/**", backend(make_backend().url)))
    clients: list[Client] = []

    async def connect_and_drain():
        for _ in range(100):
            clients.append(Client(plane.port))
            clients[-1].send(GET)
        await plane.server.drain()

    done = asyncio.run_coroutine_threadsafe(connect_and_drain(), plane.loop)
    eventually(lambda: len(clients) == 100)
    for client in clients:
        with client:
            answer = client.read()
            assert (answer.status, answer.header("Connection")) == (200, "close")
    done.result(10)


def test_the_gateways_own_answer_while_draining_says_close(plane, connect):
    plane.publish()
    client = connect()
    client.send(GET[:20])
    eventually(lambda: plane.server.connections == 1)
    done = drain(plane)
    plane.call(lambda: None)
    client.send(GET[20:])
    answer = client.read()
    assert (answer.status, answer.header("Connection")) == (404, "close")
    assert client.closed()
    client.sock.close()
    done.result(10)
