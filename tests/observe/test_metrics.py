"""The Prometheus exposition, read back by Prometheus' own parser."""

from __future__ import annotations

import os
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from hotswap_proxy.observe import histogram as hist
from hotswap_proxy.observe.exposition import family
from hotswap_proxy.observe.metrics import NO_ROUTE, REMOVED, NodeFigures, render


def counts(*at: int) -> list[int]:
    found = [0] * hist.SIZE
    for index in at:
        found[index] += 1
    return found


def series(route: str, requests: int, **more: Any) -> dict[str, Any]:
    row = {"routeId": route, "arm": "stable" if route else "", "requests": requests, "failed": 0, "codes": {}}
    row["limited"] = 0
    row["recovered"] = 0
    return {**row, "histogram": counts(), **more}


def ledger(generation: int | None, accepted: int, completed: int, lost: int = 0) -> dict[str, Any]:
    inflight = accepted - completed - lost
    row = {"generation": generation, "accepted": accepted, "completed": completed, "aborted": 0, "lost": lost}
    return {**row, "inflight": inflight, "pinned": 0, "bytes": 0}


class Node:
    """Statistics as the shared memory gives them."""

    generation = 7

    def ledger(self) -> list[dict[str, Any]]:
        return [ledger(None, 100, 99, lost=1), ledger(5, 4, 1), ledger(6, 9, 9), ledger(7, 10, 10)]

    def backend_stats(self) -> list[dict[str, Any]]:
        common = {"active": 2, "requests": 30, "failed": 3, "circuit": "HalfOpen", "ejectedUntil": 0.0}
        return [
            {"address": "http://10.0.0.1:80", "status": 1, **common},
            {"address": "http://10.0.0.2:80", "status": 0, **common},
            {"address": "http://10.0.0.3:80", "status": 2, **common},
            {"address": "http://10.0.0.4:80", "status": 3, **common},
            {"address": None, "status": 0, "active": 0, "requests": 6, "failed": 0}
            | {"circuit": "Closed", "ejectedUntil": 0.0},
        ]

    def series_stats(self, route_id: str | None = None) -> list[dict[str, Any]]:
        codes = {("GET", 200): 3, ("POST", 502): 1}
        return [
            series("", 2, codes={("GET", 404): 2}),
            series("users", 4, failed=1, limited=2, codes=codes, histogram=counts(0, 40, 40, 351)),
            series("idle", 0, histogram=b""),
            series("", 8, routeId=None, arm=None, histogram=b""),
            series('odd "name"\\\n', 1, codes={("other", 0): 1}),
        ]

    def arm_stats(self) -> list[dict[str, Any]]:
        return [
            {"routeId": "users", "arm": "stable", "share": 9_750},
            {"routeId": "users", "arm": "canary", "share": 250},
            {"routeId": "over", "arm": "canary", "share": None},
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


FIGURES = NodeFigures(
    backends_healthy=1,
    backends_unhealthy=2,
    health_checks={"success": 9, "failure": 4},
    health_flips={"healthy": 1},
    routes=12,
    backends=2,
    swaps=6,
    replaced_workers=1,
    limit_nodes=3,
    limits_apart=True,
    limit_exchanges={"sent": 8, "received": 16, "refused": 0},
    processes={"control": os.getpid(), "gone": 0},
)


def scrape() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = "".join(render(Node(), FIGURES))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


def value(name: str, **labels: str) -> float:
    return scrape()[name, frozenset(labels.items())]


def test_requests_by_route_method_and_code() -> None:
    assert value("gateway_requests_total", route="users", arm="stable", method="GET", code="200") == 3
    assert value("gateway_requests_total", route="users", arm="stable", method="POST", code="502") == 1
    assert value("gateway_requests_total", route=NO_ROUTE, arm="", method="GET", code="404") == 2
    assert value("gateway_requests_failed_total", route="users", arm="stable") == 1
    assert value("gateway_rate_limited_total", route="users") == 2
    assert value("gateway_request_duration_seconds_count", route=REMOVED, arm="") == 0
    assert value("gateway_requests_backend_total", backend=REMOVED) == 6


def test_the_weights_of_the_arms_of_deployments() -> None:
    assert value("gateway_deployment_weight", route="users", arm="stable") == 0.975
    assert value("gateway_deployment_weight", route="users", arm="canary") == 0.025
    assert not any(dict(labels).get("route") == "over" for _, labels in scrape())


def test_labels_survive_quotes_backslashes_and_newlines() -> None:
    assert value("gateway_requests_failed_total", route='odd "name"\\\n', arm="stable") == 0


def test_only_series_with_traffic_are_written() -> None:
    routes = {dict(labels).get("route") for _, labels in scrape()}
    assert "users" in routes
    assert "idle" not in routes


def test_durations_are_cumulative_and_end_with_all() -> None:
    labels = {"route": "users", "arm": "stable"}
    found = scrape()
    buckets = {
        float(dict(key)["le"]): count
        for (name, key), count in found.items()
        if name == "gateway_request_duration_seconds_bucket" and dict(key)["route"] == "users"
    }
    ordered = [buckets[bound] for bound in sorted(buckets)]
    assert ordered == sorted(ordered)
    assert buckets[float("inf")] == 4 == value("gateway_request_duration_seconds_count", **labels)
    assert buckets[0.000256] == 1  # counter 0
    assert buckets[0.000512] == 3  # counter 40 lies in the octave from 256 to 512 µs


def test_overhead_is_counted_in_nanoseconds() -> None:
    assert value("gateway_proxy_overhead_seconds_bucket", le="2.56e-07") == 2
    assert value("gateway_proxy_overhead_seconds_count") == 2
    assert value("gateway_backend_duration_seconds_count") == 2


def test_gauges_sum_over_workers_and_backends_are_listed() -> None:
    assert value("gateway_active_connections") == 10
    assert value("gateway_connections_accepted_total") == 18
    assert value("gateway_connections_refused_total", reason="client") == 6
    assert value("gateway_connections_refused_total", reason="worker") == 0
    assert value("gateway_requests_backend_total", backend="http://10.0.0.1:80") == 30
    assert value("gateway_backends_count") == 2
    assert value("gateway_backends_healthy") == 1
    assert value("gateway_backends_unhealthy") == 2
    assert value("gateway_backend_health_checks_total", result="failure") == 4
    assert value("gateway_backend_health_flips_total", to="healthy") == 1
    assert value("gateway_routes_count") == 12


def test_the_ledger_adds_up_and_shows_generations_that_are_not_done() -> None:
    assert value("gateway_generation_inflight", generation="5") == 3
    assert value("gateway_generation_inflight", generation="7") == 0  # the current one is always there
    assert ("gateway_generation_inflight", frozenset({("generation", "6")})) not in scrape()
    assert value("gateway_requests_accepted_total") == 123
    assert value("gateway_requests_lost_total") == 1
    assert value("gateway_config_generation") == 7
    assert value("gateway_config_swaps_total") == 6


def test_limits_that_a_fleet_shares() -> None:
    assert value("gateway_rate_limit_nodes") == 3
    assert value("gateway_rate_limit_apart") == 1
    assert value("gateway_rate_limit_exchange_total", result="received") == 16


def test_processes_that_are_gone_are_left_out() -> None:
    assert value("gateway_process_memory_bytes", process="control") > 1_000_000
    assert ("gateway_process_memory_bytes", frozenset({("process", "gone")})) not in scrape()
    assert value("gateway_workers_replaced_total") == 1


def test_a_metric_without_samples_is_still_announced() -> None:
    assert (
        "".join(family("a_total", "counter", "Text.", [])) == "# HELP a_total Text.\n# TYPE a_total counter\n"
    )
