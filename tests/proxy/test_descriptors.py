"""Out of file descriptors: accepting pauses and goes on, and what is open is served."""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Iterator

from harness.backend import ok
from harness.client import Client
from harness.process import Process
from harness.wait import eventually
from harness.worker import backend, route

DESCRIPTORS = 64
CLIENTS = 100
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_running_out_of_descriptors(make_process):
    process = make_process(DESCRIPTORS)
    process.ask("publish", [])
    clients = [Client(process.port) for _ in range(CLIENTS)]
    first = clients[0]
    eventually(lambda: process.descriptors() == DESCRIPTORS)
    assert 20 <= process.ask("connections") < DESCRIPTORS
    for _ in range(50):
        assert first.get("/").status == 404  # who is in is served
    # Nothing happens for a while; looking for a free descriptor all the time would take all of it.
    before = process.ask("cpu")
    threading.Event().wait(1)
    assert process.ask("cpu") - before < 0.5
    for client in clients:
        assert client.get("/").status == 404
        client.sock.close()
    eventually(lambda: process.ask("connections") == 0)
    with Client(process.port) as client:
        assert client.get("/").status == 404
    assert process.ask("totals")["completed"] == 50 + CLIENTS + 1


def test_an_idle_worker_is_idle(make_process):
    process = make_process()
    before = process.ask("cpu")
    threading.Event().wait(1)
    assert process.ask("cpu") - before < 0.2


@contextlib.contextmanager
def no_descriptors(process: Process) -> Iterator[None]:
    """The process can open nothing more; what is open stays."""
    pid = process.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def failures(process: Process) -> int:
    return sum(row["failed"] for row in process.ask("backends"))


def test_no_descriptor_for_a_backend_is_not_its_failure(make_process, make_backend):
    process = make_process()
    process.ask("publish", [route("/known", backend(make_backend().url))])
    with Client(process.port) as client:
        assert client.get("/unknown").status == 404
        with no_descriptors(process):
            answer = client.get("/known", "Accept: application/json")
            assert answer.status == 503
            assert b"no socket left" in answer.body
        assert client.get("/known").status == 200
    assert failures(process) == 0


def test_a_queue_is_served_when_repeating_a_request_fails(make_process, make_raw):
    """The pooled connection ends under a request, and there is no descriptor for a new one."""

    def script(peer):
        peer.read_head()
        peer.send(ok())
        if peer.number == 0:
            peer.read_head()
            assert go_on.wait(10)

    go_on = threading.Event()
    server = make_raw(script)
    process = make_process()
    pool = {"minSize": 1, "maxSize": 1, "waitMs": 60_000}
    process.ask("publish", [route("/**", backend(server.url, pool=pool))])
    with Client(process.port) as client, Client(process.port) as queued:
        assert client.get().status == 200
        client.send(GET)
        eventually(lambda: len(server.peers[0].heads) == 2)
        queued.send(GET)
        eventually(lambda: process.ask("totals")["inflight"] == 2)
        with no_descriptors(process):
            go_on.set()
            assert client.read().status == 503
            assert queued.read().status == 503
        assert client.get().status == 200
    assert failures(process) == 0
