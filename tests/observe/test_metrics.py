"""The Prometheus exposition, read back by Prometheus' own parser."""

from __future__ import annotations

import gzip
import os
import time
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from hotswap_proxy.observe import exposition
from hotswap_proxy.observe import histogram as hist
from hotswap_proxy.observe.exposition import family
from hotswap_proxy.observe.figures import NodeFigures
from hotswap_proxy.observe.metrics import render


def counts(*at: int) -> list[int]:
    found = [0] * hist.SIZE
    for index in at:
        found[index] += 1
    return found


def ledger(generation: int | None, accepted: int, completed: int, lost: int = 0) -> dict[str, Any]:
    inflight = accepted - completed - lost
    row = {"generation": generation, "accepted": accepted, "completed": completed, "aborted": 0, "lost": lost}
    return {**row, "inflight": inflight, "pinned": 0, "bytes": 0}


class Node:
    """Statistics as the shared memory gives them."""

    generation = 7

    def ledger(self) -> list[dict[str, Any]]:
        return [ledger(None, 100, 99, lost=1), ledger(5, 4, 1), ledger(6, 9, 9), ledger(7, 10, 10)]

    def troubled(self) -> list[dict[str, Any]]:
        return [{"ejectedUntil": 0.0}, {"ejectedUntil": time.monotonic() + 9}, {"ejectedUntil": 1e-9}]

    def arm_stats(self) -> list[dict[str, Any]]:
        common = {"deploymentId": "dep-1", "requests": 9, "failed": 2}
        return [
            {"routeId": "users", "arm": "stable", "share": 9_750, **common},
            {"routeId": "users", "arm": "canary", "share": 250, **common},
            {"routeId": "over", "arm": "canary", "share": None, **common, "deploymentId": "dep-2"},
        ]

    def lane_stats(self) -> list[dict[str, Any]]:
        lane = {
            "client_connections": 5,
            "accepted_connections": 9,
            "upstream_idle": 1,
            "events": {"status": 2, "failover": 3},
        }
        lane["refused_connections"] = {"worker": 0, "client": 3, "proxy": 1}
        return [{**lane, "backend_micros": counts(3), "overhead_nanos": counts(16)}] * 2


class Core:
    """What the core writes itself."""

    def lines(self, name: str, what: str, /) -> list[bytes]:
        return [b'gateway_requests_total{route="a"} 5\n'] if what == "requests" else []


FIGURES = NodeFigures(
    backends_healthy=1,
    backends_unhealthy=2,
    health_checks={"success": 9, "failure": 4},
    health_flips={"healthy": 1},
    routes=12,
    backends=2,
    replaced_workers=1,
    limit_nodes=3,
    limits_apart=True,
    limit_exchanges={"sent": 8, "received": 16, "refused": 0},
    refused={"file": True, "store": False},
    fleet={"Healthy": 2, "Away": 1},
    cpu_seconds={"worker-0": 1.256},
    processes={"control": os.getpid(), "gone": 0},
)


def scrape() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = b"".join(render(Node(), Core(), FIGURES)).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


def value(name: str, **labels: str) -> float:
    return scrape()[name, frozenset(labels.items())]


def test_the_weights_of_the_arms_of_deployments() -> None:
    assert value("gateway_deployment_weight", route="users", arm="stable") == 0.975
    assert value("gateway_deployment_weight", route="users", arm="canary") == 0.025
    weights = [labels for name, labels in scrape() if name == "gateway_deployment_weight"]
    assert len(weights) == 2, "the one that is over has none"
    arm = {"deployment": "dep-1", "route": "users", "arm": "canary"}
    assert value("gateway_deployment_requests_total", **arm) == 9
    assert value("gateway_deployment_requests_failed_total", **arm) == 2


def test_overhead_is_counted_in_nanoseconds() -> None:
    assert value("gateway_proxy_overhead_seconds_bucket", le="2.56e-07") == 2
    assert value("gateway_proxy_overhead_seconds_count") == 2
    assert value("gateway_backend_duration_seconds_count") == 2


def test_gauges_sum_over_workers_and_backends_are_listed() -> None:
    assert value("gateway_active_connections") == 10
    assert value("gateway_connections_accepted_total") == 18
    assert value("gateway_connections_refused_total", reason="client") == 6
    assert value("gateway_connections_refused_total", reason="worker") == 0
    assert value("gateway_backends_count") == 2
    assert value("gateway_backends_healthy") == 1
    assert value("gateway_backends_unhealthy") == 2
    assert value("gateway_backend_health_checks_total", result="failure") == 4
    assert value("gateway_backend_health_flips_total", to="healthy") == 1
    assert value("gateway_routes_count") == 12
    assert value("gateway_backends_ejected") == 1
    assert value("gateway_requests_total", route="a") == 5


def test_the_ledger_adds_up_and_shows_generations_that_are_not_done() -> None:
    assert value("gateway_generation_inflight", generation="5") == 3
    assert value("gateway_generation_inflight", generation="7") == 0  # the current one is always there
    assert ("gateway_generation_inflight", frozenset({("generation", "6")})) not in scrape()
    assert value("gateway_requests_accepted_total") == 123
    assert value("gateway_requests_lost_total") == 1
    assert value("gateway_config_generation") == 7
    assert value("gateway_config_swaps_total") == 7


def test_limits_that_a_fleet_shares() -> None:
    assert value("gateway_rate_limit_nodes") == 3
    assert value("gateway_rate_limit_apart") == 1
    assert value("gateway_rate_limit_exchange_total", result="received") == 16


def test_processes_that_are_gone_are_left_out() -> None:
    assert value("gateway_process_memory_bytes", process="control") > 1_000_000
    assert ("gateway_process_memory_bytes", frozenset({("process", "gone")})) not in scrape()
    assert value("gateway_workers_replaced_total") == 1
    assert value("gateway_process_cpu_seconds_total", process="worker-0") == 1.26


def test_what_was_refused_and_the_fleet() -> None:
    assert value("gateway_config_refused", source="file") == 1
    assert value("gateway_config_refused", source="store") == 0
    assert value("gateway_fleet_nodes", status="Away") == 1


def test_a_metric_without_samples_is_still_announced() -> None:
    assert (
        "".join(family("a_total", "counter", "Text.", [])) == "# HELP a_total Text.\n# TYPE a_total counter\n"
    )


def test_openmetrics_says_the_same() -> None:
    text = b"".join(exposition.as_openmetrics(render(Node(), Core(), FIGURES))).decode()
    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in openmetrics_families(text)
        for sample in metric.samples
    }
    ours = {key: value for key, value in scrape().items() if "process_" not in key[0]}
    assert {key: value for key, value in found.items() if "process_" not in key[0]} == ours
    assert text.endswith("\n# EOF\n")


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (PROMETHEUS_2, True),
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=2.0.0", False),
        ("application/openmetrics-text;version=1.0.0;q=0.3, text/plain;q=0.4", False),
        ("Application/OpenMetrics-Text; Version=1.0.0; Q=0", False),
        ("application/openmetrics-text;q=high", False),
        (";;,=,q", False),
    ],
)
def test_which_format_a_scraper_gets(accept: str, wanted: bool) -> None:
    assert exposition.wants_openmetrics(accept) is wanted


def test_gzip_is_for_those_who_take_it() -> None:
    assert exposition.takes_gzip("gzip") and exposition.takes_gzip("br, GZIP;q=0.1")
    assert not exposition.takes_gzip("") and not exposition.takes_gzip("gzip;q=0, identity")
    pieces = [b"a" * 100_000, b"", b"b" * 10]
    assert gzip.decompress(b"".join(exposition.compressed(pieces))) == b"".join(pieces)


def test_pieces_are_joined_up_to_a_size() -> None:
    pieces = list(exposition.joined([b"x" * 1000] * 200))
    assert [len(piece) for piece in pieces] == [66_000, 66_000, 66_000, 2_000]
