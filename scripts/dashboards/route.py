"""One route, or several: what its clients see."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from scripts.dashboards.parts import (
    GREEN,
    ORANGE,
    RED,
    chosen,
    documentation,
    graph,
    link,
    nodes,
    number,
    page,
    runbook,
    traces,
    traces_url,
)
from scripts.dashboards.queries import ROUTES, error_ratio, quantile, rate, total

REQUESTS, DURATION = "gateway_requests_total", "gateway_request_duration_seconds"


def build() -> dashboard.Dashboard:
    board = (
        page(
            "hotswap-route",
            "hotswap-proxy / Route",
            "Requests, errors and latency of routes, and of both arms of a deployment.",
        )
        .with_variable(chosen("route", "Route", "label_values(gateway_route_info, name)"))
        .with_variable(nodes())
        .with_variable(traces())
        .with_variable(documentation())
        .link(link("Traces", traces_url(), "bolt"))
        .link(runbook("High latency", "high-latency"))
        .link(runbook("A rollback", "a-rollback"))
    )
    errors = ((None, GREEN), (0.01, ORANGE), (0.05, RED))
    latency = [(quantile(q, DURATION, ROUTES), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)]
    for panel in (
        number("Requests", total(rate(REQUESTS, ROUTES)), "reqps", width=6),
        number("Failed", error_ratio(ROUTES), "percentunit", steps=errors, width=6, decimals=2),
        number("p50", latency[0][0], "s", width=6),
        number("p99", latency[2][0], "s", width=6),
        graph("Answers", [(total(rate(REQUESTS, ROUTES), "code"), "{{code}}")], "reqps", stacked=True),
        graph("Share that failed", [(error_ratio(ROUTES, by=("name",)), "{{name}}")], "percentunit"),
        graph("Duration", latency, "s"),
        graph("p99 by route", [(quantile(0.99, DURATION, ROUTES, by=("name",)), "{{name}}")], "s"),
        graph("Methods", [(total(rate(REQUESTS, ROUTES), "method"), "{{method}}")], "reqps", stacked=True),
        graph(
            "Refused and recovered",
            [
                (total(rate("gateway_rate_limited_total", ROUTES)), "refused by a rate limit"),
                (total(rate("gateway_requests_recovered_total", ROUTES)), "recovered by a second attempt"),
            ],
            "reqps",
        ),
    ):
        board.with_panel(panel)
    board.with_row(dashboard.Row("Arms"))
    arms = "(arm {{arm}})"
    for panel in (
        graph(
            "Requests by arm",
            [(total(rate(REQUESTS, ROUTES), "name", "arm"), f"{{{{name}}}} {arms}")],
            "reqps",
            width=8,
        ),
        graph(
            "Failed by arm",
            [(error_ratio(ROUTES, by=("name", "arm")), f"{{{{name}}}} {arms}")],
            "percentunit",
            width=8,
        ),
        graph(
            "p99 by arm",
            [(quantile(0.99, DURATION, ROUTES, by=("name", "arm")), f"{{{{name}}}} {arms}")],
            "s",
            width=8,
        ),
    ):
        board.with_panel(panel)
    return board
