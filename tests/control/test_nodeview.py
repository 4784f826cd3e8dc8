"""What the node tells of itself, over made-up statistics."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotswap_proxy.control import nodeview
from hotswap_proxy.control.nodeview import NodeStatus
from hotswap_proxy.control.scraping import Scraping
from hotswap_proxy.control.tls.bundle import Shown
from hotswap_proxy.errors import Unavailable
from hotswap_proxy.settings import Settings


class Node:
    """Four backends, one of each status; counts how often it is asked for them."""

    generation = 3

    def __init__(self) -> None:
        self.looks = 0

    def backend_stats(self) -> list[dict[str, Any]]:
        self.looks += 1
        common = {"active": 1, "requests": 5, "failed": 2, "circuit": "Closed", "ejectedUntil": 0.0}
        rows = [{"address": f"http://10.0.0.{n}:80", "status": n, **common} for n in range(4)]
        return [*rows, {"address": None, "status": 0, **common}]

    def counts(self) -> dict[str, int]:
        self.looks += 1
        return {"healthy": 1, "unhealthy": 2, "unknown": 0}

    def lane_stats(self) -> list[dict[str, Any]]:
        return [{"client_connections": 4}, {"client_connections": 3}]

    def ledger(self) -> list[dict[str, Any]]:
        return [{"accepted": 10}]


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def status(node: Node) -> NodeStatus:
    ready, left = asyncio.Event(), asyncio.Event()
    ready.set()
    worker = SimpleNamespace(slot=0, pid=0, ready=ready, left=left)
    configuration = SimpleNamespace(
        generation=3,
        revision=8,
        problem=None,
        refused_routes=[],
        last_update=datetime.now(UTC),
        routes=2,
        backends=4,
        violations=[],
    )
    made: Any = NodeStatus
    return made(
        Settings(workers=1, data_dir=Path("/none")),
        node,
        configuration,
        SimpleNamespace(workers=[worker], replaced=0),
        SimpleNamespace(pid=None),
        SimpleNamespace(registry=SimpleNamespace(counts=node.counts, status=lambda _address: None)),
    )


def test_backends_that_take_traffic_count_as_healthy(status: NodeStatus) -> None:
    health = status.health()
    assert (health["backendsHealthy"], health["backendsTotal"]) == (2, 4)
    assert health["activeConnections"] == 7 and health["memoryBytes"] > 0
    assert health["ready"] and health["status"] == "Healthy"


def test_health_that_is_asked_often_costs_little(
    status: NodeStatus, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        status.health()
    assert node.looks == 1
    monkeypatch.setattr(nodeview, "HEALTH_SECONDS", 0.0)
    status._costly_until = 0.0
    for _ in range(2):
        status.health()
    assert node.looks == 3


def test_what_is_wrong_with_a_file_is_for_those_who_logged_in(status: NodeStatus) -> None:
    assert status.health()["configError"] is False
    status.note_reload("routes[3].pathPattern: /srv/secret.yaml")
    health = status.health()
    assert health["configError"] is True and health["status"] == "Degraded"
    assert "secret" not in str(health)
    assert status.nodes()[0]["configError"] == "routes[3].pathPattern: /srv/secret.yaml"


def test_many_backends_are_looked_up_in_one_look(status: NodeStatus, node: Node) -> None:
    rows = status.backend_rows()
    found = [status.backend_statistics(f"http://10.0.0.{n}:80", rows) for n in range(5)]
    assert node.looks == 1
    assert [one["healthStatus"] for one in found] == [
        "Unknown",
        "Healthy",
        "Unhealthy",
        "Draining",
        "Unknown",
    ]
    assert [one["totalRequests"] for one in found] == [5, 5, 5, 5, 0]
    assert status.backend_statistics("http://10.0.0.1:80") == found[1]


def test_of_certificates_for_the_same_names_the_first_that_ends_counts(status: NodeStatus) -> None:
    ends = [("rsa.pem", ["a.example"], 200), ("ec.pem", ["a.example"], 100), ("b.pem", ["b.example"], 300)]
    shown = [Shown(file, names, 0, end) for file, names, end in ends]
    status.certificates = SimpleNamespace(certificates=shown)  # type: ignore[assignment]
    parts: Any = SimpleNamespace(status=status)
    scraping = Scraping(parts, None)  # type: ignore[arg-type]
    assert scraping._ends_of_certificates() == {"a.example": 100, "b.example": 300}


def test_metrics_before_the_node_has_started_are_an_error(status: NodeStatus) -> None:
    with pytest.raises(Unavailable, match="starting"):
        status.prometheus(openmetrics=False)
