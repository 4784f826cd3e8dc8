"""What the fault suite runs: a whole node, backends in processes of their own, a strict load."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.victim import Victim

from tests.node import Node
from tests.processes import socket_inodes


class Nodes:
    """Starts nodes on one data directory and one address, and leaves no process behind."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._nodes: list[Node] = []
        self._pids: set[int] = set()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    def start(self, *options: str, **environ: str) -> Node:
        self._remember()
        node = Node(
            self._directory,
            *("--proxy", f"127.0.0.1:{self.port}", *options),
            HOTSWAP_ADMIN_USERNAME="admin",
            **environ,
        )
        self._nodes.append(node)
        node.start()
        assert node.ready, node.log.read_text()[-2000:]
        self._remember()
        return node

    def _remember(self) -> None:
        for node in self._nodes:
            with contextlib.suppress(ValueError, OSError):
                self._pids |= {node.spawner(), *node.workers()}

    def clean_up(self) -> None:
        self._remember()
        for node in self._nodes:
            for pid in (node.process.pid, *self._pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            node.clean_up(tuple(self._pids))


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    started = Nodes(tmp_path)
    yield started
    started.clean_up()


@pytest.fixture
def victims() -> Iterator[list[Victim]]:
    """Two backends."""
    pair = [Victim("a"), Victim("b")]
    yield pair
    for victim in pair:
        victim.clean_up()


@pytest.fixture
def write_routes(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file with one route to some backends."""

    def write(*urls: str, backend: dict[str, Any] | None = None, **route: Any) -> Path:
        document = {
            "version": "1",
            "backends": [
                {"name": f"b{index}", "url": url, **(backend or {})} for index, url in enumerate(urls)
            ],
            "routes": [
                {
                    "name": "all",
                    "pathPattern": "/**",
                    "backends": [{"name": f"b{index}"} for index in range(len(urls))],
                    **route,
                }
            ],
        }
        file = tmp_path / "gateway.json"
        file.write_text(json.dumps(document))
        return file

    return write


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seconds",
        type=float,
        default=0.0,
        help="how long the faults are repeated, shared by the tests that can",
    )


REPEATING = 6  # tests that share the time


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> Callable[[int], Iterator[int]]:
    """Repeats a fault: so often, or for this test's share of ``--seconds`` if that is longer."""
    share = pytestconfig.getoption("--seconds", 0.0) / REPEATING

    def repeat(usual: int) -> Iterator[int]:
        end = time.monotonic() + share
        for number in itertools.count():
            if number >= usual and time.monotonic() >= end:
                return
            yield number

    return repeat


def kill_control(node: Node) -> tuple[int, ...]:
    """Its orphans."""
    workers = tuple(node.workers())
    os.kill(node.process.pid, signal.SIGKILL)
    node.process.wait()
    return workers


def metric(node: Node, name: str) -> float:
    """The sum of a metric over its labels."""
    with urllib.request.urlopen(f"{node.admin_url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    found = [line.rpartition(" ")[2] for line in lines if line.startswith((name + "{", name + " "))]
    assert found, f"no metric {name}"
    return sum(map(float, found))


def served_by(pid: int, gateway: int) -> set[int]:
    """Local ports of the clients whose connections a process has accepted."""
    inodes = socket_inodes(pid)
    ports = set()
    for _ in range(3):  # the table may skip a row while others come and go
        for line in Path("/proc/net/tcp").read_text().splitlines():
            fields = line.split()
            if fields[1].endswith(f":{gateway:04X}") and f"socket:[{fields[9]}]" in inodes:
                ports.add(int(fields[2].rpartition(":")[2], 16))
    return ports
