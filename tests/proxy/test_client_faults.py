"""Clients that leave, half-close, or never meant HTTP."""

from __future__ import annotations

import contextlib
import random
import socket
import threading

import pytest
from harness.backend import ok
from harness.client import Client
from harness.wait import eventually
from harness.worker import backend, route

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_leaving_in_the_middle_of_an_answer(plane, make_raw, connect, how):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        peer.ended()

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(GET)
    assert client.sock.recv(65536)
    if how == "reset":
        client.reset()
    else:
        client.sock.close()
        # A closed client is known from a half-closed one by what it does with the answer.
        with contextlib.suppress(OSError):
            while server.ended == 0:
                server.peers[0].send(b"1\r\nx\r\n")
    server.wait(lambda: server.ended == 1)
    eventually(lambda: plane.totals()["aborted"] == 1)
    assert plane.node.backend_stats()[0]["failed"] == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GE",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        GET,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000),
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        GET + GET + b"GET /half",
    ],
    ids=range(8),
)
def test_a_reset_at_every_stage_of_the_request(plane, make_raw, connect, sent):
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(sent)
    if b"\r\n\r\n" in sent:
        eventually(lambda: bool(server.peers and server.peers[0].heads))
    client.reset()
    eventually(lambda: plane.server.connections == 0)
    if server.peers:
        server.wait(lambda: server.ended == 1)
        assert plane.totals()["aborted"] == 1


def test_leaving_in_the_queue_of_a_pool(plane, make_raw, connect):
    def script(peer):
        while True:
            peer.read_head()
            release.wait(10)
            peer.send(ok())

    release = threading.Event()
    server = make_raw(script)
    plane.publish(route("/**", backend(server.url, pool={"minSize": 1, "maxSize": 1})))
    clients = [connect() for _ in range(3)]
    for index, client in enumerate(clients):
        client.send(GET)
        eventually(lambda index=index: plane.totals()["inflight"] == index + 1)
    clients[1].reset()
    eventually(lambda: plane.totals()["aborted"] == 1)
    release.set()
    assert clients[0].read().status == 200
    assert clients[2].read().status == 200
    assert sum(len(peer.heads) for peer in server.peers) == 2


def test_leaving_the_queue_when_its_turn_has_come(plane, make_raw, connect):
    """Its connection is being made: leaving takes it out of the pool, and the next is served."""

    def script(peer):
        peer.read_head()
        if peer.number == 0:
            release.wait(10)  # and no answer
        elif peer.number == 1:
            peer.ended()
        else:
            peer.send(ok())

    release = threading.Event()
    server = make_raw(script)
    plane.publish(route("/**", backend(server.url, pool={"minSize": 1, "maxSize": 1})))
    clients = [connect() for _ in range(3)]
    for index, client in enumerate(clients):
        client.send(GET)
        eventually(lambda index=index: plane.totals()["inflight"] == index + 1)
    release.set()
    assert clients[0].read().status == 502
    eventually(lambda: len(server.peers) == 2 and bool(server.peers[1].heads))
    clients[1].reset()
    assert clients[2].read().status == 200


class FullQueue:
    """A backend that takes one connection, and whose queue has no room for another."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.waiting: list[socket.socket] = []

    def accept(self) -> socket.socket:
        sock, _ = self.listener.accept()
        for _ in range(4):
            self.waiting.append(socket.socket())
            self.waiting[-1].setblocking(False)
            self.waiting[-1].connect_ex(self.listener.getsockname())
        return sock

    def close(self) -> None:
        for sock in [self.listener, *self.waiting]:
            sock.close()


def test_whose_turn_has_come_waits_for_its_connection(plane, connect):
    """Out of the queue: what it waits for now is a connection, with the time of connecting."""
    server = FullQueue()
    times = {"connectMs": 300, "readMs": 30_000, "writeMs": 30_000}
    pool = {"minSize": 1, "maxSize": 1, "waitMs": 60_000}
    plane.publish(route("/**", backend(server.url, pool=pool, timeouts=times)))
    clients = [connect() for _ in range(3)]
    for index, client in enumerate(clients):
        client.send(GET)
        eventually(lambda index=index: plane.totals()["inflight"] == index + 1)
    server.accept().close()
    assert clients[0].read().status == 502
    clients[1].reset()  # it leaves while its connection is being made
    eventually(lambda: plane.totals()["aborted"] == 1)
    assert clients[2].read().status == 504
    server.close()


def test_a_half_closed_client_gets_its_answers(plane, make_backend, connect):
    server = make_backend(lambda request: ok(request.target.encode()))
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(3)))
    client.sock.shutdown(socket.SHUT_WR)
    assert [client.read().body for _ in range(3)] == [b"/0", b"/1", b"/2"]
    assert client.closed()


@pytest.mark.parametrize("framing", [b"Content-Length: 9000", b"Transfer-Encoding: chunked"])
def test_a_half_closed_client_whose_body_waits_for_a_connection(plane, make_raw, connect, framing):
    def script(peer):
        peer.read_head()
        assert go_on.wait(10)
        peer.send(ok())
        peer.read_head()
        peer.send(ok(b"%d" % len(peer.read(len(body)))))

    go_on = threading.Event()
    body = b"2328\r\n%b\r\n0\r\n\r\n" % bytes(9000) if b"chunked" in framing else bytes(9000)
    server = make_raw(script)
    plane.publish(route("/**", backend(server.url, pool={"minSize": 1, "maxSize": 1})))
    first, second = connect(), connect()
    first.send(GET)
    eventually(lambda: plane.active(server.url) == 1)
    second.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n" + body)
    second.sock.shutdown(socket.SHUT_WR)
    eventually(lambda: plane.active(server.url) == 2)
    for _ in range(3):
        plane.call(lambda: None)  # a turn of the loop: the end of the input is seen
    go_on.set()
    assert first.read().status == 200
    assert second.read("POST").body == b"%d" % len(body)


def test_an_upload_cut_by_half_closing_is_not_whole(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        cut.append(peer.ended())

    cut: list[bool] = []
    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
    eventually(lambda: bool(server.peers and server.peers[0].heads))
    client.sock.shutdown(socket.SHUT_WR)
    assert client.closed()
    server.wait(lambda: server.ended == 1)
    assert plane.totals()["aborted"] == 1


def test_a_reset_while_an_answer_is_being_flushed(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n")
        peer.send(bytes(8_000_000))

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(GET)
    assert client.sock.recv(1)
    client.reset()
    eventually(lambda: plane.totals()["inflight"] == 0)
    assert plane.totals()["aborted"] == 1


def test_random_bytes_do_no_harm(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    draw = random.Random(20)
    pieces = [b"GET ", b"POST / HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n\r\n", b"\0", b"\r", b"\n", b"5\r\n"]
    pieces += [b"Transfer-Encoding: ", b"chunked", b"Content-Length: 5\r\n", b": "]
    pieces += [b"Upgrade: x\r\nConnection: upgrade\r\n"]
    for _ in range(2000):
        client = Client(plane.port)
        noise = b"".join(
            draw.choice(pieces) if draw.random() < 0.8 else draw.randbytes(draw.randrange(30))
            for _ in range(draw.randrange(12))
        )
        with contextlib.suppress(OSError):  # refused before all of it was sent
            client.send(noise)
        if draw.random() < 0.5:
            client.reset()
        else:
            client.sock.close()
    assert connect().get().status == 200
    eventually(lambda: plane.server.connections == 1)


def test_leaving_in_the_middle_of_a_503_is_leaving(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1000000\r\n\r\nbusy")
        peer.ended()

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(GET)
    assert client.sock.recv(65536).startswith(b"HTTP/1.1 503 ")
    client.reset()
    server.wait(lambda: server.ended == 1)
    eventually(lambda: plane.totals()["aborted"] == 1)
    assert plane.totals()["completed"] == 0


@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_closes_a_stream_of_events_has_left(plane, make_raw, connect, how):
    """Silence follows, so that nothing would be sent to find out by."""

    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        peer.ended()

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    client.send(GET)
    while b"data: 1\n\n" not in client.buffer:
        client.buffer += client.sock.recv(65536)
    client.reset() if how == "reset" else client.sock.close()
    server.wait(lambda: server.ended == 1)
    eventually(lambda: plane.totals()["aborted"] == 1)
