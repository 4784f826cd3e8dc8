"""Who is silent too long, and what becomes of it. Timers are coarse: only order and effect are tested."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

from harness.backend import ok
from harness.wait import eventually
from harness.worker import backend, route

SHORT = 200  # milliseconds
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


def quick(url, **timeouts):
    return backend(url, timeouts={f"{name}Ms": ms for name, ms in timeouts.items()})


def test_a_head_that_does_not_end_is_a_408(make_plane, connect):
    plane = make_plane(header_timeout=0.2)
    client = connect(plane)
    client.send(b"GET / HTTP/1.1\r\nHost: ")
    answer = client.read()
    assert answer.status == 408
    assert answer.header("Connection") == "close"
    assert client.closed()


def test_a_later_head_that_does_not_end_is_a_408(make_plane, make_backend, connect):
    plane = make_plane(header_timeout=0.2, keepalive_timeout=60)
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect(plane)
    assert client.get().status == 200
    client.send(b"GET / HTTP/1.1\r\n")
    assert client.read().status == 408


def test_a_connection_on_which_nothing_comes_is_closed(make_plane, make_backend, connect):
    plane = make_plane(header_timeout=0.2, keepalive_timeout=0.2)
    plane.publish(route("/**", backend(make_backend().url)))
    assert connect(plane).closed()  # without an answer to what was never asked
    client = connect(plane)
    assert client.get().status == 200
    assert client.closed()
    assert plane.totals()["accepted"] == 1


def test_a_silent_backend_is_a_504(plane, make_raw, connect):
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", quick(server.url, read=SHORT)))
    client = connect()
    assert client.get().status == 504
    server.wait(lambda: server.ended == 1)
    assert client.get().status == 504  # the client's connection goes on
    assert plane.node.backend_stats()[0]["failed"] == 2


def test_a_backend_that_falls_silent_in_its_answer_is_cut(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        peer.ended()

    plane.publish(route("/**", quick(make_raw(script).url, read=SHORT)))
    client = connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.read_to_end().endswith(b"\r\n\r\nhello")


def test_the_whole_exchange_has_a_time(plane, make_raw, connect):
    def drip(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.send(b"1\r\nx\r\n")
            peer.sock.settimeout(0.02)
            try:
                peer._fill()
            except TimeoutError:
                continue

    silent = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    dripping = make_raw(drip)
    plane.publish(
        route("/silent", backend(silent.url), timeoutMs=SHORT),
        route("/drip", backend(dripping.url, "b2"), timeoutMs=SHORT),
    )
    assert connect().get("/silent").status == 504
    client = connect()
    client.send(b"GET /drip HTTP/1.1\r\nHost: x\r\n\r\n")
    assert not client.read_to_end().endswith(b"0\r\n\r\n")


def test_events_outlive_the_whole_time_but_not_silence(plane, make_raw, connect):
    quiet = threading.Event()

    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while not quiet.wait(0.05):
            peer.send(b"data: x\n\n")
        peer.ended()

    server = make_raw(script)
    plane.publish(route("/**", quick(server.url, read=600), timeoutMs=SHORT))
    client = connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    data = b""
    while data.count(b"data: x") < 20:  # a second's worth
        part = client.sock.recv(65536)
        assert part, "the stream was cut by the time of the whole request"
        data += part
    quiet.set()
    assert not client.read_to_end().endswith(b"0\r\n\r\n")
    server.wait(lambda: server.ended == 1)


def test_a_backend_that_does_not_accept_is_a_504(plane, connect):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = []
        for _ in range(4):  # fill its queue: further connections get no answer
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(address)
        plane.publish(route("/**", quick(f"http://127.0.0.1:{address[1]}", connect=SHORT)))
        answer = connect().get("/", "Accept: application/json")
        assert answer.status == 504
        assert b"did not accept" in answer.body
        for sock in waiting:
            sock.close()


def test_an_upload_that_stops_is_a_408(make_plane, make_raw, connect):
    plane = make_plane(body_timeout=0.2)
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", backend(server.url)))
    client = connect(plane)
    client.send(POST + b"hello")
    assert client.read("POST").status == 408
    assert client.closed()
    server.wait(lambda: server.ended == 1)


def test_a_client_that_waits_for_100_is_not_the_one_to_blame(make_plane, make_raw, connect):
    plane = make_plane(body_timeout=0.2)
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", quick(server.url, read=SHORT)))
    client = connect(plane)
    client.send(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert client.read("POST").status == 504


def test_a_backend_that_does_not_take_the_upload_is_a_504(plane, make_raw, connect):
    over = threading.Event()

    def script(peer):
        peer.read_head()
        over.wait(20)

    server = make_raw(script)
    plane.publish(route("/**", quick(server.url, write=SHORT), maxRequestBody=None))
    client = connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")

    def upload():
        try:
            while True:
                client.send(bytes(1 << 20))
        except OSError:
            pass

    sender = threading.Thread(target=upload)
    sender.start()
    assert client.read("POST").status == 504
    over.set()
    sender.join(10)


def test_a_client_that_does_not_take_its_answer_is_cut(make_plane, make_raw, connect):
    plane = make_plane(write_timeout=0.2)

    def script(peer):
        head = peer.read_head()
        size = 100 << 20 if b"/streamed" in head else 8 << 20
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 20):
            peer.send(bytes(1 << 20))

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url), maxResponseBody=None))
    for target in (b"/streamed", b"/flushed"):
        client = connect(plane)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)
        eventually(lambda: plane.totals()["inflight"] == 1)
        eventually(lambda: plane.totals()["inflight"] == 0)
    totals = plane.totals()
    assert (totals["aborted"], totals["completed"]) == (2, 0)
    assert all(row["failed"] == 0 for row in plane.node.backend_stats())  # not its fault


def test_a_slow_answer_within_the_times_is_whole(plane, make_raw, connect):
    """Each timer is armed anew by what happens: the sum may be longer than any of them."""

    def script(peer):
        peer.read_head()
        for byte in ok(b"hello"):
            peer.sock.settimeout(0.01)
            try:
                peer._fill()
            except TimeoutError:
                peer.sock.settimeout(20)
            peer.send(bytes([byte]))

    plane.publish(route("/**", quick(make_raw(script).url, read=SHORT)))
    assert connect().get().body == b"hello"


STANDSTILL = 1.3  # seconds, more than the time that a backend has


def test_an_answer_that_has_come_during_a_standstill_is_in_time(plane, make_raw, connect):
    """The loop finds the answer and the end of the time at once."""

    def script(peer):
        peer.read_head()
        asked.set()
        assert standing.wait(10)
        peer.send(ok(b"in time"))
        answered.set()
        peer.ended()

    asked, standing, answered = threading.Event(), threading.Event(), threading.Event()
    plane.publish(route("/**", quick(make_raw(script).url, read=1000)))
    client = connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert asked.wait(10)
    ours, its = socket.socketpair()

    def stand_still():
        plane.loop.remove_reader(its)
        standing.set()
        assert answered.wait(10)
        time.sleep(STANDSTILL)

    with ours, its:
        # Among the loop's readers: its timers have their turn after them, before it looks at sockets again.
        plane.call(lambda: plane.loop.add_reader(its, stand_still))
        ours.send(b"x")
        assert client.read().body == b"in time"


def test_time_begins_when_a_request_is_found(plane, make_raw, connect):
    """It came during a standstill, which says nothing about the backend."""

    def script(peer):
        peer.read_head()
        asked.set()
        assert ticked.wait(10)
        peer.send(ok(b"in time"))
        peer.ended()

    asked, ticked = threading.Event(), threading.Event()
    plane.publish(route("/**", quick(make_raw(script).url, read=1000)))
    client = connect()
    eventually(lambda: plane.server.connections == 1)

    def stand_still():
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(STANDSTILL)

    plane.call(stand_still)
    assert asked.wait(10)
    plane.call(lambda: asyncio.sleep(0.2))  # the worker's timers have their turn
    ticked.set()
    assert client.read().body == b"in time"
