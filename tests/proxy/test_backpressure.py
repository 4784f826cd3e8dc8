"""A side that does not read stops the other one, at the cost of no memory here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from pathlib import Path

import pytest
from harness.wait import eventually
from harness.worker import backend, route

BLOCK = bytes(1 << 20)
BLOCKS = 200
FLOOD = 2000  # requests in one packet
UNLIMITED = {"maxRequestBody": None, "maxResponseBody": None}
STALL = 0.7  # seconds without room for a byte: the other side does not read
IN_KERNELS = 60 << 20  # more than all socket buffers on the way together
OURS = 16 << 20  # growth of the process that would show a body being collected


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Pump:
    """Sends BLOCKS blocks; knows when it came to a stop."""

    def __init__(self, sock) -> None:
        self.sock = sock
        self.sent = 0
        self.stalled = threading.Event()
        self.go_on = threading.Event()

    def run(self) -> None:
        self.sock.settimeout(STALL)
        view = memoryview(BLOCK)
        while self.sent < BLOCKS * len(BLOCK):
            at = self.sent % len(BLOCK)
            try:
                self.sent += self.sock.send(view[at:])
            except TimeoutError:
                self.stalled.set()
                assert self.go_on.wait(20)
                self.sock.settimeout(20)


def test_a_client_that_does_not_read_stops_the_backend(plane, make_raw, connect):
    pumps = []

    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BLOCKS * len(BLOCK)))
        pumps.append(Pump(peer.sock))
        pumps[0].run()

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url), **UNLIMITED))
    client = connect()
    before = resident()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: bool(pumps))
    assert pumps[0].stalled.wait(20)
    assert pumps[0].sent < IN_KERNELS
    assert resident() - before < OURS
    pumps[0].go_on.set()
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.sock.recv(65536)
    got = len(head.partition(b"\r\n\r\n")[2])
    while got < BLOCKS * len(BLOCK):
        part = client.sock.recv(1 << 20)
        assert part, f"cut after {got} bytes"
        got += len(part)
    assert got == BLOCKS * len(BLOCK)
    assert resident() - before < OURS


@pytest.mark.parametrize("chunked", [False, True])
def test_a_backend_that_does_not_read_stops_the_client(plane, make_raw, connect, chunked):
    go_on = threading.Event()
    received = []

    def script(peer):
        peer.read_head()
        assert go_on.wait(20)
        got = len(peer.buffer)
        end = b"0\r\n\r\n" if chunked else b""
        tail = peer.buffer[-5:]
        while got < BLOCKS * len(BLOCK) or not tail.endswith(end):
            part = peer.sock.recv(1 << 20)
            assert part
            got += len(part)
            tail = (tail + part[-5:])[-5:]
        received.append(got)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url), **UNLIMITED))
    client = connect()
    before = resident()
    size = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (BLOCKS * len(BLOCK))
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + size + b"\r\n\r\n")
    if chunked:
        client.send(b"%x\r\n" % (BLOCKS * len(BLOCK)))
    pump = Pump(client.sock)
    sender = threading.Thread(target=pump.run)
    sender.start()
    assert pump.stalled.wait(20)
    assert pump.sent < IN_KERNELS
    assert resident() - before < OURS
    go_on.set()
    pump.go_on.set()
    sender.join(20)
    if chunked:
        client.send(b"\r\n0\r\n\r\n")
    assert client.read("POST").body == b"ok"
    assert received[0] >= BLOCKS * len(BLOCK)
    assert resident() - before < OURS


def test_a_slow_reader_does_not_hold_up_the_others(plane, make_raw, connect):
    def script(peer):
        while True:
            head = peer.read_head()
            size = 64 << 20 if b"/large" in head else 5
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size >> 20):
                peer.send(BLOCK)
            peer.send(bytes(size % (1 << 20)))

    server = make_raw(script)
    plane.publish(route("/**", backend(server.url), **UNLIMITED))
    slow = connect()
    slow.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: plane.active(server.url) == 1)
    quick = connect()
    for _ in range(100):
        assert quick.get("/small").body == bytes(5)
    assert plane.active(server.url) == 1


def test_a_flood_of_pipelined_requests_does_not_hold_up_the_others(plane, connect):
    flood, other = connect(), connect()
    flood.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)  # its answers have room
    plane.publish()
    eventually(lambda: plane.server.connections == 2)
    head = b"HEAD /%d HTTP/1.1\r\nHost: x\r\n\r\n"

    async def served_before() -> int:
        flood.send(b"".join(head % n for n in range(FLOOD)))
        other.send(head % FLOOD)
        while True:  # one turn of the loop each
            await asyncio.sleep(0)
            try:
                assert other.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            return plane.totals()["completed"]

    assert plane.call(served_before) < FLOOD
    assert other.read("HEAD").status == 404
    for _ in range(FLOOD):
        assert flood.read("HEAD").status == 404


def test_an_answer_that_is_cut_when_all_of_it_is_here_does_not_look_whole(make_plane, make_raw):
    """To a 1.0 client, which knows the end of a body by the end of its connection."""

    def script(peer):
        while True:  # a connection whose answer went through is used again
            size = int(peer.read_head().split(b" ")[1][1:])
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            peer.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size))

    def ask(size, version):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", plane.port))
        sock.sendall(b"GET /%d HTTP/1.%d\r\nHost: x\r\n\r\n" % (size, version))
        return sock

    def read(sock):
        got = 0
        with sock:
            while data := sock.recv(1 << 16):
                got += len(data)
        return got

    plane = make_plane(write_timeout=0.3)
    plane.publish(route("/**", backend(make_raw(script).url)))
    sock = ask(9_000_000, 1)
    eventually(lambda: plane.totals()["aborted"] == 1)
    taken = read(sock)  # what the kernel holds of an answer that nobody reads
    # A little more than that waits in the gateway, which has no more to come from the backend.
    sizes = range(taken + 4_000, taken + 40_000, 6_000)
    socks = [(size, ask(size, 0)) for size in sizes]
    eventually(lambda: plane.totals()["aborted"] + plane.totals()["completed"] == 1 + len(sizes))
    for size, sock in socks:
        with contextlib.suppress(ConnectionResetError):
            assert read(sock) >= size


def test_a_client_that_does_not_take_interim_answers_is_not_the_backends_failure(make_plane, make_raw):
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 50_000 + b"\r\n\r\n"

    def script(peer):
        peer.read_head()
        peer.send(hint * 95)
        peer.ended()

    plane = make_plane(write_timeout=0.3)
    plane.publish(route("/**", backend(make_raw(script).url)))
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", plane.port))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: plane.totals()["aborted"] + plane.totals()["completed"] == 1)
    assert sum(stats["failed"] for stats in plane.node.backend_stats()) == 0
