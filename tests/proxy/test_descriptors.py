"""Out of file descriptors: accepting pauses and goes on, and what is open is served."""

from __future__ import annotations

import threading

from harness.client import Client
from harness.wait import eventually

DESCRIPTORS = 64
CLIENTS = 100


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
