"""The history of real nodes: what was served is there after a restart, and at every node of a fleet."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import Api

from tests.node import Node, backend
from tests.processes import eventually

ROUTE = {"routeId": "rt-1", "name": "all", "pathPattern": "/**"}


@pytest.fixture
def port() -> Iterator[int]:
    with backend() as listening:
        yield listening


def serve(node: Node, requests: int) -> None:
    for _ in range(requests):
        with urllib.request.urlopen(f"http://127.0.0.1:{node.proxy_port}/x", timeout=10) as answer:
            answer.read()


def counted(api: Api, window: str = "5m") -> int:
    shown = api.call("GET", f"/gateway/routes/rt-1?timeWindow={window}")
    return int(shown["statistics"]["totalRequests"])


def add_route(api: Api, port: int, **fields: Any) -> None:
    backends = [{"name": "b", "url": f"http://127.0.0.1:{port}"}]
    api.call("POST", "/gateway/routes", ROUTE | {"backends": backends} | fields)


def test_windows_of_a_node_and_after_its_restart(start_node: Callable[..., Node], port: int) -> None:
    node = start_node()
    api = Api(node)
    add_route(api, port)
    serve(node, 5)
    eventually(lambda: counted(api) == 5, "all of them are counted")
    statistics = api.call("GET", "/gateway/routes/rt-1?timeWindow=1m")["statistics"]
    assert (statistics["failedRequests"], statistics["errorRate"]) == (0, 0)
    assert statistics["p50LatencyMs"] <= statistics["p99LatencyMs"]
    assert statistics["arms"]["stable"]["requests"] == 5
    window = statistics["window"]
    assert window["timeWindow"] == "1m"
    assert window["from"] < window["to"]
    summary = api.call("GET", "/gateway/metrics?timeWindow=5m")
    assert summary["totalRequests"] >= 5
    assert summary["window"]["timeWindow"] == "5m"
    assert "ledger" in summary
    assert node.end() == 0

    again = start_node()
    api = Api(again)
    assert "window" not in api.call("GET", "/gateway/metrics")
    assert api.call("GET", "/gateway/routes/rt-1")["statistics"]["totalRequests"] == 0
    assert counted(api) == 5, "of the run before"
    serve(again, 3)
    eventually(lambda: counted(api) == 8, "of both runs")
    history = api.call("GET", "/gateway/routes/rt-1/history?timeWindow=15m&step=1m")
    assert sum(point["requests"] for point in history["points"]) == 8
    # Its worker is killed: what it has counted stays.
    os.kill(again.workers()[0], signal.SIGKILL)
    eventually(lambda: len(again.workers()) == 2, "a new one")
    assert counted(api) == 8
    api.call("DELETE", "/gateway/routes/rt-1")
    assert api.call("GET", "/gateway/metrics?timeWindow=5m")["totalRequests"] >= 8, "the route is gone"


def test_two_nodes_on_one_database(tmp_path: Path, postgres_url: str, port: int) -> None:
    nodes = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            options = ("--workers", "1", "--node-id", name, "--database-url", postgres_url)
            nodes.append(Node(tmp_path / name, *options, HOTSWAP_ADMIN_USERNAME="admin").start())
        one, two = nodes
        apis = [Api(node) for node in nodes]
        add_route(apis[0], port)

        def served() -> bool:
            try:
                serve(two, 1)
            except urllib.error.HTTPError:
                return False
            return True

        eventually(served, "the other node has the route")
        serve(one, 4)
        eventually(lambda: (counted(apis[0]), counted(apis[1])) == (4, 1), "each its own minute")
        assert one.end() == 0
        assert counted(apis[1]) == 5
        points = apis[1].call("GET", "/gateway/routes/rt-1/history?timeWindow=5m")["points"]
        assert sum(point["requests"] for point in points) == 5
    finally:
        for node in nodes:
            node.clean_up()
