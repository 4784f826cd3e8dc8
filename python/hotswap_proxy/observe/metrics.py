"""The Prometheus metrics of a node: all workers in one scrape, from what they count in shared memory.

Series of routes and backends are written by the core, piece by piece and only those in use: 10,000 routes
cost no memory, and little more than their text. What has gone from the configuration has gone from here: a
sum of what former routes have counted would jump with each removal, and ``rate()`` would take that for
traffic. Totals of the node that never go down are those of the ledger.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from hotswap_proxy.observe import histogram as hist
from hotswap_proxy.observe import process
from hotswap_proxy.observe.exposition import Sample, family, header, histogram_family
from hotswap_proxy.observe.figures import NodeFigures, Row, Scrape, Statistics

# (name, type, what of a series or backend, text)
_ROUTES = (
    ("requests_total", "counter", "requests", "Requests answered, by route, arm, method and status code."),
    (
        "requests_failed_total",
        "counter",
        "failed",
        "Requests that ended in a 5xx status or without a complete answer.",
    ),
    ("rate_limited_total", "counter", "limited", "Requests that a rate limit refused."),
    (
        "requests_recovered_total",
        "counter",
        "recovered",
        "Requests whose first attempt failed and a later one did not; they are not among the failed.",
    ),
    (
        "request_duration_seconds",
        "histogram",
        "duration",
        "Time from a request's first byte to the last byte of its answer.",
    ),
    ("route_info", "gauge", "routeInfo", "Always 1; the name and the path of a route that was used."),
)
_BACKENDS = (
    ("requests_backend_total", "counter", "backendRequests", "Requests sent to a backend."),
    (
        "requests_backend_failed_total",
        "counter",
        "backendFailed",
        "Requests a backend failed to answer.",
    ),
    ("backend_active_requests", "gauge", "backendActive", "Requests in flight to a backend."),
    ("backend_up", "gauge", "backendUp", "0 if the health checks of a backend keep it out, else 1."),
    (
        "circuit_breaker_state",
        "gauge",
        "backendCircuit",
        "Circuit breaker of a backend: 0 closed, 1 half-open, 2 open.",
    ),
)


def render(node: Statistics, scrape: Scrape, figures: NodeFigures) -> Iterator[bytes]:
    """The whole exposition, in pieces; each header is one."""
    yield from of_core(scrape)
    for piece in _of_node(node, figures):
        yield piece.encode()


def of_core(scrape: Scrape) -> Iterator[bytes]:
    """Of routes and backends."""
    for name, kind, what, text in _ROUTES + _BACKENDS:
        yield header(f"gateway_{name}", kind, text).encode()
        yield from scrape.lines(f"gateway_{name}", what)


def _of_node(node: Statistics, figures: NodeFigures) -> Iterator[str]:
    yield from _lanes(node.lane_stats(), figures)
    yield from _backends(node.troubled(), figures)
    yield from _arms(node.arm_stats())
    yield from figures.deployments
    yield from _anomalies(figures)
    yield from _configuration(node, figures)
    yield from _fleet(figures)
    yield from _limits(figures)
    yield from _ledger(node.ledger(), node.generation)
    yield from _certificates(figures)
    yield from figures.journal
    yield from _processes(figures)


def _gauge(name: str, text: str, value: float) -> Iterator[str]:
    yield from family(name, "gauge", text, [({}, value)])


def _counter(name: str, text: str, value: float) -> Iterator[str]:
    yield from family(name, "counter", text, [({}, value)])


# --- requests, connections ------------------------------------------------------------------------


def _lanes(lanes: Sequence[Row], figures: NodeFigures) -> Iterator[str]:
    yield from histogram_family(
        "gateway_backend_duration_seconds",
        "Time from a request's sending to the head of the backend's answer.",
        hist.merge(lane["backend_micros"] for lane in lanes),
    )
    yield from histogram_family(
        "gateway_proxy_overhead_seconds",
        "Time that the gateway itself added to a request.",
        hist.merge(lane["overhead_nanos"] for lane in lanes),
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


def _backends(troubled: Sequence[Row], figures: NodeFigures) -> Iterator[str]:
    ejected = sum(1 for row in troubled if row["ejectedUntil"] > time.monotonic())
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


# --- deployments ----------------------------------------------------------------------------------


def _arms(rows: Sequence[Row]) -> Iterator[str]:
    """Of both versions of a route, as this node serves them."""
    text = "Share of a route's requests that an arm gets, 0 to 1, while a deployment is active."
    shares = [
        ({"route": row["routeId"], "arm": row["arm"]}, row["share"] / 10_000)
        for row in rows
        if row["share"] is not None
    ]
    yield from family("gateway_deployment_weight", "gauge", text, shares)
    for name, key, text in (
        ("requests", "requests", "First attempts that an arm of a deployment is judged by."),
        ("requests_failed", "failed", "Of them those that failed: a 5xx status, no connection, no answer."),
    ):
        samples = (
            ({"deployment": row["deploymentId"], "route": row["routeId"], "arm": row["arm"]}, row[key])
            for row in rows
        )
        yield from family(f"gateway_deployment_{name}_total", "counter", text, samples)


# --- configuration, fleet -------------------------------------------------------------------------


def _configuration(node: Statistics, figures: NodeFigures) -> Iterator[str]:
    yield from _gauge("gateway_routes_count", "Routes configured.", figures.routes)
    yield from _gauge("gateway_config_generation", "Generation that takes new requests.", node.generation)
    yield from _counter("gateway_config_swaps_total", "Configurations published.", node.generation)
    served = "Revision of the store that this node serves; the same on all nodes that have caught up."
    yield from _gauge("gateway_config_revision", served, figures.revision)
    text = "1 while the store has a revision that this node does not serve."
    yield from _gauge("gateway_config_behind", text, int(figures.behind))
    yield from family(
        "gateway_config_refused",
        "gauge",
        "1 if this node could not take what a source had last: its file, its certificates, the store.",
        (({"source": source}, int(refused)) for source, refused in figures.refused.items()),
    )


def _fleet(figures: NodeFigures) -> Iterator[str]:
    labels = {"node": figures.node_id, "version": figures.version, "environment": figures.environment}
    yield from family("gateway_node_info", "gauge", "Always 1; what this node is.", [(labels, 1)])
    yield from _gauge("gateway_start_time_seconds", "When this node started, Unix time.", figures.started)
    yield from _gauge("gateway_workers_configured", "Workers that this node should have.", figures.workers)
    yield from _gauge("gateway_workers_ready", "Workers that take connections.", figures.workers_ready)
    yield from _counter("gateway_workers_replaced_total", "Workers replaced.", figures.replaced_workers)
    nodes = (({"status": status}, count) for status, count in figures.fleet.items())
    yield from family("gateway_fleet_nodes", "gauge", "Nodes of the fleet as this one knows them.", nodes)
    for name, is_up in (("store", figures.store_up), ("redis", figures.redis_up)):
        if is_up is not None:
            yield from _gauge(f"gateway_{name}_up", f"1 if this node reaches the {name}.", int(is_up))


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


def _anomalies(figures: NodeFigures) -> Iterator[str]:
    text = "Anomalies of a route that go on, by kind; of the fleet, the same on all nodes."
    samples = (({"route": route, "kind": kind}, count) for (route, kind), count in figures.anomalies.items())
    yield from family("gateway_anomalies_active", "gauge", text, samples)


# --- the node's parts -----------------------------------------------------------------------------


def _certificates(figures: NodeFigures) -> Iterator[str]:
    left = [({"name": name}, end - time.time()) for name, end in figures.certificates.items()]
    if left:
        text = "Time until a certificate of this node expires; negative afterwards."
        yield from family("gateway_tls_certificate_expiry_seconds", "gauge", text, left)


_PROCESS: tuple[tuple[str, str, Callable[[process.ProcessFigures], int | None]], ...] = (
    ("memory_bytes", "Proportional set size of a process of the node.", lambda f: f.memory_bytes),
    ("open_fds", "Open descriptors of a process of the node.", lambda f: f.open_fds),
    ("max_fds", "Descriptors that a process of the node may have.", lambda f: f.max_fds),
)


def _processes(figures: NodeFigures) -> Iterator[str]:
    text = "CPU time of the processes of a role, those that were replaced included."
    used = (({"process": role}, round(seconds, 2)) for role, seconds in figures.cpu_seconds.items())
    yield from family("gateway_process_cpu_seconds_total", "counter", text, used)
    read = {name: process.figures(pid) for name, pid in figures.processes.items()}
    for suffix, text, value_of in _PROCESS:
        samples: list[Sample] = []
        for name, found in read.items():
            value = value_of(found) if found else None
            if value is not None:
                samples.append(({"process": name}, value))
        yield from family(f"gateway_process_{suffix}", "gauge", text, samples)
