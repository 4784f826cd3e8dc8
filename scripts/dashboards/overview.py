"""What the gateways do as a whole, and where to look next."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from scripts.dashboards.parts import (
    GOOD_IS_ZERO,
    GREEN,
    ORANGE,
    RED,
    colored,
    documentation,
    graph,
    link,
    nodes,
    number,
    page,
    rows,
    runbook,
    states,
    traces,
    traces_url,
)
from scripts.dashboards.queries import NODES, error_ratio, gauge, quantile, rate, total

REQUESTS, DURATION = "gateway_requests_total", "gateway_request_duration_seconds"
NAMED = "* on (job, instance, route) group_left (name) gateway_route_info"
CIRCUITS = (("0", "closed", GREEN), ("1", "half-open", ORANGE), ("2", "open", RED))
TO_ROUTE = (
    "This route",
    "/d/hotswap-route?${datasource:queryparam}&var-route=${__value.text}&${__url_time_range}",
)


def build() -> dashboard.Dashboard:
    board = (
        page(
            "hotswap-overview",
            "hotswap-proxy / Overview",
            "Traffic, errors, latency and backends of all gateways.",
        )
        .with_variable(nodes())
        .with_variable(traces())
        .with_variable(documentation())
        .link(link("Traces", traces_url(), "bolt"))
        .link(runbook("What changed?", "what-changed"))
        .link(runbook("High latency", "high-latency"))
        .link(runbook("A backend fails", "a-backend-fails"))
        .link(runbook("Lost or refused", "requests-are-lost-or-refused"))
    )
    _now(board)
    _traffic(board)
    _routes(board)
    _backends(board)
    return board


def _now(board: dashboard.Dashboard) -> None:
    errors = ((None, GREEN), (0.01, ORANGE), (0.05, RED))
    late = ((None, GREEN), (0.5, ORANGE), (2, RED))
    lost = f"sum(increase(gateway_requests_lost_total[$__range]) {NODES})"
    for panel in (
        number("Requests", total(rate(REQUESTS)), "reqps", width=4),
        number("Failed", error_ratio(), "percentunit", steps=errors, width=4, decimals=2),
        number("p99", quantile(0.99, DURATION), "s", steps=late, width=4),
        number(
            "Lost",
            lost,
            "short",
            steps=GOOD_IS_ZERO,
            width=3,
            decimals=0,
            about="In the time range. 0, unless a worker died.",
        ),
        number(
            "Backends out",
            f"max({gauge('gateway_backends_unhealthy')})",
            "short",
            steps=GOOD_IS_ZERO,
            width=3,
        ),
        number("Deployments", "max(deployments_in_progress)", "short", width=3, about="Under way."),
        number(
            "Nodes", 'max(gateway_fleet_nodes{status="Healthy"})', "short", width=3, about="Healthy ones."
        ),
    ):
        board.with_panel(panel)


def _traffic(board: dashboard.Dashboard) -> None:
    classes = f"label_replace({rate(REQUESTS)}, 'class', '${{1}}xx', 'code', '(.).*')"
    by_class = graph("Answers", [(total(classes, "class"), "{{class}}")], "reqps", stacked=True)
    for name, color in (("2xx", GREEN), ("3xx", "blue"), ("4xx", ORANGE), ("5xx", RED)):
        colored(by_class, color, name)
    latency = [(quantile(q, DURATION), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)]
    share = [
        (quantile(0.99, "gateway_backend_duration_seconds"), "backend p99"),
        (quantile(0.99, "gateway_proxy_overhead_seconds"), "gateway p99"),
    ]
    connections = [
        (total(gauge("gateway_active_connections")), "clients"),
        (total(gauge("gateway_idle_upstream_connections")), "idle, to backends"),
        (total(gauge("gateway_generation_inflight")), "requests in flight"),
    ]
    board.with_row(dashboard.Row("Traffic"))
    for panel in (
        by_class,
        graph(
            "Share that failed",
            [(error_ratio(by=("node",)), "{{node}}")],
            "percentunit",
            about="Answered 5xx, or not to the end.",
        ),
        graph("Duration", latency, "s", about="From a request's first byte to the last one of its answer."),
        graph(
            "Whose time",
            share,
            "s",
            about="Until the head of the backend's answer, and what the gateway itself added.",
        ),
        graph("Open", connections, "short"),
        graph("By node", [(total(rate(REQUESTS), "node"), "{{node}}")], "reqps", stacked=True),
    ):
        board.with_panel(panel)


def _routes(board: dashboard.Dashboard) -> None:
    def by_name(series: str) -> str:
        return total(rate(series, NAMED), "name")

    requests = by_name(REQUESTS)
    p99 = quantile(0.99, DURATION, NAMED, by=("name",))
    limited = by_name("gateway_rate_limited_total")
    board.with_row(dashboard.Row("Routes"))
    board.with_panel(
        rows(
            "Routes by traffic",
            [
                ("Requests", f"topk(50, {requests})", "reqps"),
                ("Failed", error_ratio(NAMED, by=("name",)), "percentunit"),
                ("p99", p99, "s"),
                ("Refused by limits", limited, "reqps"),
            ],
            "name",
            links={"name": TO_ROUTE},
            first="Requests",
        )
    )


def _backends(board: dashboard.Dashboard) -> None:
    refusals = [
        (total(rate("gateway_rate_limited_total")), "rate limit"),
        (total(rate("gateway_connections_refused_total"), "reason"), "connection: {{reason}}"),
        (total(rate("gateway_requests_aborted_total")), "client went away"),
    ]
    attempts = [
        (total(rate("gateway_retries_total"), "reason"), "retry: {{reason}}"),
        (total(rate("gateway_failovers_total")), "other backend"),
        (total(rate("gateway_retry_budget_exhausted_total")), "budget exhausted"),
        (total(rate("gateway_requests_recovered_total")), "recovered"),
    ]
    failing = (
        f"{total(rate('gateway_requests_backend_failed_total'), 'backend')} / "
        f"{total(rate('gateway_requests_backend_total'), 'backend')}"
    )
    board.with_row(dashboard.Row("Backends"))
    for panel in (
        states(
            "Up",
            f"min by (backend) ({gauge('gateway_backend_up')})",
            "{{backend}}",
            (("0", "out", RED), ("1", "in", GREEN)),
        ),
        states(
            "Circuits",
            f"max by (backend) ({gauge('gateway_circuit_breaker_state')})",
            "{{backend}}",
            CIRCUITS,
        ),
        graph(
            "Requests by backend",
            [(total(rate("gateway_requests_backend_total"), "backend"), "{{backend}}")],
            "reqps",
        ),
        graph("Failed by backend", [(failing, "{{backend}}")], "percentunit"),
        graph("Second attempts", attempts, "reqps"),
        graph("Refused and aborted", refusals, "reqps"),
    ):
        board.with_panel(panel)
