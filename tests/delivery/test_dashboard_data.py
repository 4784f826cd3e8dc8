"""Every panel shows something: its query, asked of a real Prometheus that scrapes a real node."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from e2e.conftest import Api
from e2e.rollout import LENIENT, LONG, Rollout, Traffic, versioned
from harness.client import Client
from harness.prometheus import PrometheusServer, Sample
from harness.redisserver import RedisServer
from harness.server import free_port

from tests.delivery import boards
from tests.delivery.boards import Query
from tests.node import Node

# What has no series unless somebody sets the node up for it, or something fails.
WITHOUT_DATA = {
    ("fleet", "Nodes", "gateway_tls_certificate_expiry_seconds"),
    ("deployment", "Waits for", "gateway_deployment_waiting"),
}


@pytest.fixture
def prometheus() -> Iterator[Callable[..., PrometheusServer]]:
    started: list[PrometheusServer] = []

    def start(*targets: str) -> PrometheusServer:
        started.append(PrometheusServer(targets))
        return started[-1]

    yield start
    for server in started:
        server.close()


def windows(text: str) -> str:
    return text.replace("[1m]", "[15s]").replace("[5m]", "[1m]")


def labels(query: Query) -> set[str]:
    return set(re.findall(r"\{\{(\w+)\}\}", query.legend))


def expected_empty(query: Query) -> bool:
    return any(
        (query.board, query.panel) == (board, panel) and metric in query.expr
        for board, panel, metric in WITHOUT_DATA
    )


def half_dead(url: str) -> dict[str, Any]:
    """A route with a limit, and a backend that nobody listens for: refusals and second attempts."""
    return {
        "name": "half-dead",
        "pathPattern": "/half-dead",
        "rateLimit": {"requests": 10, "window": "1h", "type": "TokenBucket"},
        "backends": [
            {"name": "dead", "url": f"http://127.0.0.1:{free_port()}"},
            {"name": "good", "url": url},
        ],
    }


def ask_too_much(node: Node) -> None:
    with Client(node.proxy_port) as client:
        statuses = [client.get("/half-dead").status for _ in range(15)]
    assert statuses == [200] * 10 + [429] * 5


def test_every_panel_has_data(
    start_node: Callable[..., Node],
    prometheus: Callable[..., PrometheusServer],
    postgres_url: str,
    redis_server: RedisServer,
    stable: str,
) -> None:
    node = start_node(
        *("--node-id", "edge-1", "--access-log", "/dev/null"),
        HOTSWAP_DATABASE_URL=postgres_url,
        HOTSWAP_REDIS_URL=redis_server.url,
    )
    assert node.ready, node.log.read_text()
    with versioned("v2", delay=0.004) as candidate:
        api = Api(node)
        rollout = Rollout(api, stable, candidate)
        api.call("POST", "/gateway/routes", half_dead(stable))
        server = prometheus(node.ready["admin"])
        server.until("up", lambda found: [sample.value for sample in found] == [1])
        with Traffic([node.proxy_port], rate=100, clients=8) as traffic:
            deployment = rollout.deploy(phases=LONG, thresholds=LENIENT)
            traffic.more(200)
            ask_too_much(node)
            variables = {"deployment": deployment, "name": "users"}
            queries = [query for query in boards.every_query() if not query.panel.startswith("annotation ")]
            missing = without_data(server, queries, variables)
            deadline = time.monotonic() + 60
            while missing - EMPTY and time.monotonic() < deadline:
                time.sleep(0.5)
                missing &= without_data(server, queries, variables)
            assert missing == EMPTY, "\n".join(f"{q.board}, {q.panel}: {q.expr}" for q in missing ^ EMPTY)
            for query in queries:
                for series in answered(server, query, variables):
                    assert labels(query) <= series.labels.keys(), (query, series.labels)
        traffic.check_nothing_was_lost()


EMPTY = frozenset(query for query in boards.every_query() if expected_empty(query))


def answered(server: PrometheusServer, query: Query, variables: dict[str, str]) -> list[Sample]:
    """The series that a panel can show: not those that are 0 / 0."""
    found = server.query(windows(query.filled(**variables)))
    return [series for series in found if not math.isnan(series.value)]


def without_data(
    server: PrometheusServer, queries: list[Query], variables: dict[str, str]
) -> frozenset[Query]:
    return frozenset(query for query in queries if not answered(server, query, variables))
