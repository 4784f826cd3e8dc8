from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.backend import Backend, ok
from harness.victim import Victim

from tests.node import PASSWORD, Node
from tests.upgrades import Copy, Upgradable


class Api:
    """The admin API of a node, as its administrator."""

    def __init__(self, node: Node) -> None:
        self.url = f"{node.admin_url}/api/v1"
        self.token = ""
        answer = self.call("POST", "/authentication/login", {"username": "admin", "password": PASSWORD})
        self.token = answer["token"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call; raises ``urllib.error.HTTPError`` for an error answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        with urllib.request.urlopen(self.url.removesuffix("/api/v1") + "/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        values = [
            float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + "{", name + " "))
        ]
        assert values, f"no metric {name}"
        return sum(values)


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def start(*options: str, **environ: str) -> Node:
        nodes.append(Node(tmp_path, *options, HOTSWAP_ADMIN_USERNAME="admin", **environ))
        return nodes[-1].start()

    yield start
    for node in nodes:
        node.clean_up()


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    """Two backends that say which they are."""
    pair = [Backend(lambda _request, name=name: ok(name)) for name in (b"a", b"b")]
    yield pair
    for backend in pair:
        backend.close()
        assert backend.protocol_errors == []


@pytest.fixture
def node(start_node: Callable[..., Node]) -> Node:
    return start_node()


@pytest.fixture
def stable() -> Iterator[str]:
    """URL of a backend of version "v1"."""
    from e2e.rollout import versioned

    with versioned("v1", delay=0.004) as url:
        yield url


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Upgradable]]:
    """Starts nodes that are to be upgraded, and ends whatever has become of them."""
    nodes: list[Upgradable] = []

    def begin(*options: str, **environ: str) -> Upgradable:
        node = Upgradable(tmp_path, *options, **environ)
        nodes.append(node)
        node.start()
        assert node.ready, node.log.read_text()[-2000:]
        node.processes()
        return node

    yield begin
    for node in nodes:
        node.clean_up()


@pytest.fixture
def victim() -> Iterator[Victim]:
    """A backend in a process of its own."""
    backend = Victim("a")
    yield backend
    backend.clean_up()


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)
