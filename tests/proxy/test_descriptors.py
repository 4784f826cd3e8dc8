"""Out of file descriptors: accepting pauses and goes on, and what is open is served."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.client import Client
from harness.wait import eventually

TESTS = Path(__file__).resolve().parent.parent
DESCRIPTORS = 64
CLIENTS = 100


class Process:
    def __init__(self, codec: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.limited", codec, str(DESCRIPTORS)],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ask(self, question: str) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return float(self._line())


@pytest.fixture
def process(codec: str) -> Iterator[Process]:
    process = Process(codec)
    yield process
    process.process.kill()
    process.process.communicate()


def test_running_out_of_descriptors(process):
    clients = [Client(process.port) for _ in range(CLIENTS)]
    first = clients[0]
    eventually(lambda: process.ask("connections") >= 20)
    open_now = process.ask("connections")
    eventually(lambda: process.ask("connections") == open_now)
    assert open_now < DESCRIPTORS
    for _ in range(50):
        assert first.get("/").status == 404  # who is in is served
    # Nothing happens for a while; looking for a free descriptor all the time would take all of it.
    before = process.ask("cpu")
    threading.Event().wait(1)
    assert process.ask("cpu") - before < 0.5
    for round_ in range(2):
        for client in clients[round_ * 50 : round_ * 50 + 50]:
            assert client.get("/").status == 404
            client.sock.close()
    eventually(lambda: process.ask("connections") == 0)
    with Client(process.port) as client:
        assert client.get("/").status == 404
    assert process.ask("end") == 50 + CLIENTS + 1
    assert process.process.wait(10) == 0
