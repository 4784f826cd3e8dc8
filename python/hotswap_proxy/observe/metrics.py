"""The Prometheus metrics of a node: all workers in one scrape, from what they count in shared memory.

Only series with traffic are written, piece by piece: 10,000 routes cost little more than their text.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hotswap_proxy.observe import histogram as hist
from hotswap_proxy.observe import process
from hotswap_proxy.observe.exposition import Labels, Sample, family, histogram_family

Row = Mapping[str, Any]
# Labels that are no route's id: requests that met no route, and those of routes and backends that are gone,
# without which the node's totals would shrink.
NO_ROUTE, REMOVED = "(none)", "(removed)"
CIRCUITS = {"Closed": 0, "HeldClosed": 0, "HalfOpen": 1, "Open": 2, "HeldOpen": 2}


class Statistics(Protocol):
    """What is read of ``_core.Node``."""

    @property
    def generation(self) -> int: ...
    def ledger(self) -> Sequence[Row]: ...
    def backend_stats(self) -> Sequence[Row]: ...
    def series_stats(self, route_id: str | None = None) -> Sequence[Row]: ...
    def arm_stats(self) -> Sequence[Row]: ...
    def lane_stats(self) -> Sequence[Row]: ...


@dataclass(slots=True)
class NodeFigures:
    """What a scrape needs besides the node's statistics."""

    routes: int = 0
    backends: int = 0
    swaps: int = 0
    replaced_workers: int = 0
    backends_healthy: int = 0
    backends_unhealthy: int = 0
    health_checks: Mapping[str, int] = field(default_factory=dict)  # result → probes
    health_flips: Mapping[str, int] = field(default_factory=dict)  # new status → flips
    config_refused: bool = False
    certificates: Mapping[str, int] = field(default_factory=dict)  # names → end of validity, Unix seconds
    outliers: int = 0  # backends ejected by comparison with their peers
    limit_nodes: int = 0  # nodes that share the rate limits; 0: there is no fleet
    limits_apart: bool = False
    limit_exchanges: Mapping[str, int] = field(default_factory=dict)  # result → messages
    revision: int = 0  # of the store, that is served
    store_up: bool | None = None
    redis_up: bool | None = None  # None: without one
    journal: Iterable[str] = ()  # text of its metrics
    processes: dict[str, int] = field(default_factory=dict)  # name ("control", "worker-0" …) → pid


def render(node: Statistics, figures: NodeFigures) -> Iterator[str]:
    """The whole exposition, in pieces of text."""
    yield from _requests(node.series_stats())
    yield from _weights(node.arm_stats())
    yield from _lanes(node.lane_stats(), figures)
    yield from _backends(node.backend_stats(), figures)
    yield from _configuration(node, figures)
    yield from _limits(figures)
    refused = "1 if the last reload of the configuration file was refused."
    yield from _gauge("gateway_config_file_refused", refused, int(figures.config_refused))
    served = "Revision of the store that this node serves; the same on all nodes that have caught up."
    yield from _gauge("gateway_config_revision", served, figures.revision)
    for name, is_up in (("store", figures.store_up), ("redis", figures.redis_up)):
        if is_up is not None:
            yield from _gauge(f"gateway_{name}_up", f"1 if this node reaches the {name}.", int(is_up))
    left = [({"name": name}, end - time.time()) for name, end in figures.certificates.items()]
    if left:
        text = "Time until a certificate of this node expires; negative afterwards."
        yield from family("gateway_tls_certificate_expiry_seconds", "gauge", text, left)
    yield from figures.journal
    yield from _ledger(node.ledger(), node.generation)
    yield from _processes(figures)


def _gauge(name: str, text: str, value: float) -> Iterator[str]:
    yield from family(name, "gauge", text, [({}, value)])


def _counter(name: str, text: str, value: float) -> Iterator[str]:
    yield from family(name, "counter", text, [({}, value)])


def _requests(rows: Sequence[Row]) -> Iterator[str]:
    series: list[tuple[Labels, Row]] = [
        ({"route": _route(row["routeId"]), "arm": row["arm"] or ""}, row) for row in rows if row["requests"]
    ]

    def by_code() -> Iterator[Sample]:
        for labels, row in series:
            for (method, code), count in row["codes"].items():
                yield {**labels, "method": method, "code": str(code)}, count

    yield from family(
        "gateway_requests_total",
        "counter",
        "Requests answered, by route, arm, method and status code.",
        by_code(),
    )
    yield from family(
        "gateway_requests_failed_total",
        "counter",
        "Requests that ended in a 5xx status or without a complete answer.",
        ((labels, row["failed"]) for labels, row in series),
    )
    yield from family(
        "gateway_rate_limited_total",
        "counter",
        "Requests that a rate limit refused; without a route: by the ceiling of a client.",
        _limited(rows),
    )
    yield from family(
        "gateway_requests_recovered_total",
        "counter",
        "Requests whose first attempt failed and a later one did not; they are not among the failed.",
        ((labels, row["recovered"]) for labels, row in series if row["recovered"]),
    )
    yield from histogram_family(
        "gateway_request_duration_seconds",
        "Time from a request's first byte to the last byte of its answer.",
        ((labels, hist.counts(row["histogram"])) for labels, row in series),
    )


def _weights(rows: Sequence[Row]) -> Iterator[str]:
    samples = [
        ({"route": row["routeId"], "arm": row["arm"]}, row["share"] / 10_000)
        for row in rows
        if row["share"] is not None
    ]
    if samples:
        text = "Share of a route's requests that an arm gets, 0 to 1, while a deployment is active."
        yield from family("gateway_deployment_weight", "gauge", text, samples)


def _limited(rows: Sequence[Row]) -> Iterator[Sample]:
    """The arms of a route have one limit."""
    counts: dict[str, int] = {}
    for row in rows:
        if row["limited"]:
            route = _route(row["routeId"])
            counts[route] = counts.get(route, 0) + row["limited"]
    for route, count in counts.items():
        yield {"route": route}, count


def _route(route_id: str | None) -> str:
    return REMOVED if route_id is None else route_id or NO_ROUTE


def _lanes(lanes: Sequence[Row], figures: NodeFigures) -> Iterator[str]:
    yield from histogram_family(
        "gateway_backend_duration_seconds",
        "Time from a request's sending to the head of the backend's answer.",
        [({}, hist.merge(lane["backend_micros"] for lane in lanes))],
    )
    yield from histogram_family(
        "gateway_proxy_overhead_seconds",
        "Time that the gateway itself added to a request.",
        [({}, hist.merge(lane["overhead_nanos"] for lane in lanes))],
        hist.NANOSECONDS,
    )

    def total(key: str) -> int:
        return sum(lane[key] for lane in lanes)

    yield from _gauge(
        "gateway_active_connections", "Client connections that are open.", total("client_connections")
    )
    yield from _gauge(
        "gateway_idle_upstream_connections", "Idle connections to backends.", total("upstream_idle")
    )
    yield from _counter(
        "gateway_connections_accepted_total", "Connections accepted.", total("accepted_connections")
    )
    yield from family(
        "gateway_connections_refused_total",
        "counter",
        "Connections closed before their first request, by reason.",
        (
            ({"reason": reason}, sum(lane["refused_connections"][reason] for lane in lanes))
            for reason in ("worker", "client", "proxy")
        ),
    )
    events: Counter[str] = Counter()
    for lane in lanes:
        events.update(lane["events"])
    yield from _attempts(events)
    yield from family(
        "gateway_backend_ejections_total",
        "counter",
        "Backends ejected: because they could not be reached, or failed far more often than their peers.",
        [({"reason": "unreachable"}, events["ejected"]), ({"reason": "outlier"}, figures.outliers)],
    )


RETRY_REASONS = ("connect", "connect_timeout", "closed", "timeout", "status")


def _attempts(events: Counter[str]) -> Iterator[str]:
    yield from family(
        "gateway_retries_total",
        "counter",
        "Retries, by what the attempt before came to.",
        (({"reason": reason}, events[reason]) for reason in RETRY_REASONS),
    )
    for name, event, text in (
        ("failovers", "failover", "Requests taken to another backend because no connection could be made."),
        ("retry_budget_exhausted", "budget_exhausted", "Retries that the budget did not allow."),
        ("circuit_breaker_open", "circuit_opened", "Circuits that opened by failures."),
    ):
        yield from _counter(f"gateway_{name}_total", text, events[event])


def _backends(rows: Sequence[Row], figures: NodeFigures) -> Iterator[str]:
    for name, kind, key, text in (
        ("gateway_requests_backend_total", "counter", "requests", "Requests sent to a backend."),
        (
            "gateway_requests_backend_failed_total",
            "counter",
            "failed",
            "Requests a backend failed to answer.",
        ),
        ("gateway_backend_active_requests", "gauge", "active", "Requests in flight to a backend."),
    ):
        samples = (
            ({"backend": row["address"] or REMOVED}, row[key])
            for row in rows
            if row["address"] is not None or row[key]
        )
        yield from family(name, kind, text, samples)
    yield from family(
        "gateway_circuit_breaker_state",
        "gauge",
        "Circuit breaker of a backend: 0 closed, 1 half-open, 2 open.",
        (
            ({"backend": row["address"]}, CIRCUITS[row["circuit"]])
            for row in rows
            if row["address"] is not None
        ),
    )
    ejected = sum(1 for row in rows if row["ejectedUntil"] > time.monotonic())
    yield from _gauge("gateway_backends_ejected", "Backends that are ejected.", ejected)
    yield from _gauge("gateway_backends_count", "Backends configured.", figures.backends)
    for name, count, text in (
        ("healthy", figures.backends_healthy, "Backends that take traffic: Healthy or Unknown."),
        ("unhealthy", figures.backends_unhealthy, "Backends that their health checks keep out."),
    ):
        yield from _gauge(f"gateway_backends_{name}", text, count)
    for name, label, counts, text in (
        ("checks", "result", figures.health_checks, "Health check probes."),
        ("flips", "to", figures.health_flips, "Backends that went out or came back by their checks."),
    ):
        samples = (({label: key}, count) for key, count in counts.items())
        yield from family(f"gateway_backend_health_{name}_total", "counter", text, samples)


def _configuration(node: Statistics, figures: NodeFigures) -> Iterator[str]:
    yield from _gauge("gateway_routes_count", "Routes configured.", figures.routes)
    yield from _gauge("gateway_config_generation", "Generation that takes new requests.", node.generation)
    yield from _counter("gateway_config_swaps_total", "Configurations published.", figures.swaps)


def _limits(figures: NodeFigures) -> Iterator[str]:
    """Of a node that is one of a fleet."""
    if not figures.limit_nodes:
        return
    text = "Nodes that share the rate limits of routes, this one included."
    yield from _gauge("gateway_rate_limit_nodes", text, figures.limit_nodes)
    text = "1 while this node lives on its share of the rate limits: Redis or another node is not heard of."
    yield from _gauge("gateway_rate_limit_apart", text, int(figures.limits_apart))
    yield from family(
        "gateway_rate_limit_exchange_total",
        "counter",
        "Messages about rate limits with the other nodes; refused: those of another version, or none at all.",
        (({"result": result}, count) for result, count in figures.limit_exchanges.items()),
    )


def _ledger(rows: Sequence[Row], current: int) -> Iterator[str]:
    inflight = (
        ({"generation": str(row["generation"])}, row["inflight"])
        for row in rows
        if row["generation"] is not None and (row["inflight"] or row["generation"] == current)
    )
    yield from family(
        "gateway_generation_inflight", "gauge", "Exchanges in flight that began on a generation.", inflight
    )
    for key, text in (
        ("accepted", "Exchanges begun."),
        ("completed", "Exchanges answered to the end."),
        ("aborted", "Exchanges that the client ended early."),
        ("lost", "Exchanges in flight in a worker that died; 0 unless one did."),
    ):
        yield from _counter(f"gateway_requests_{key}_total", text, sum(row[key] for row in rows))


_PROCESS: tuple[tuple[str, str, str, Callable[[process.ProcessFigures], float | int | None]], ...] = (
    ("cpu_seconds_total", "counter", "CPU time of a process of the node.", lambda f: f.cpu_seconds),
    ("memory_bytes", "gauge", "Proportional set size of a process of the node.", lambda f: f.memory_bytes),
    ("open_fds", "gauge", "Open descriptors of a process of the node.", lambda f: f.open_fds),
)


def _processes(figures: NodeFigures) -> Iterator[str]:
    read = {name: process.figures(pid) for name, pid in figures.processes.items()}
    for suffix, kind, text, value_of in _PROCESS:
        samples: list[Sample] = []
        for name, found in read.items():
            value = value_of(found) if found else None
            if value is not None:
                samples.append(({"process": name}, value))
        yield from family(f"gateway_process_{suffix}", kind, text, samples)
    yield from _counter("gateway_workers_replaced_total", "Workers replaced.", figures.replaced_workers)
