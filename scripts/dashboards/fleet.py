"""The nodes: what each serves, what it reaches, what it costs."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from scripts.dashboards.parts import (
    NO_YES,
    ORANGE,
    RED,
    UP_DOWN,
    documentation,
    graph,
    nodes,
    page,
    rows,
    runbook,
    states,
)
from scripts.dashboards.queries import NODES, gauge, rate, total


def by_node(metric: str) -> str:
    return f"max by (node) ({gauge(metric)})"


def build() -> dashboard.Dashboard:
    board = (
        page("hotswap-fleet", "hotswap-proxy / Fleet", "Nodes: configuration, store and Redis, processes.")
        .with_variable(nodes())
        .with_variable(documentation())
        .link(runbook("A node is behind or gone", "a-node-is-behind-or-gone"))
        .link(runbook("A lost store", "a-lost-store"))
        .link(runbook("A certificate expires", "a-certificate-expires"))
    )
    _table(board)
    _configuration(board)
    _reached(board)
    _processes(board)
    return board


def _table(board: dashboard.Dashboard) -> None:
    uptime = f"time() - {by_node('gateway_start_time_seconds')}"
    certificate = f"min by (node) ({gauge('gateway_tls_certificate_expiry_seconds')})"
    board.with_panel(
        rows(
            "Nodes",
            [
                (
                    "Info",
                    'max by (node, version, environment, instance) (gateway_node_info{node=~"$node"})',
                    "none",
                ),
                ("Up for", uptime, "s"),
                ("Requests", total(rate("gateway_requests_total"), "node"), "reqps"),
                ("Revision", by_node("gateway_config_revision"), "none"),
                ("Behind", by_node("gateway_config_behind"), "none"),
                ("Generation", by_node("gateway_config_generation"), "none"),
                ("Store", by_node("gateway_store_up"), "none"),
                ("Redis", by_node("gateway_redis_up"), "none"),
                ("Workers", by_node("gateway_workers_ready"), "none"),
                ("Replaced", by_node("gateway_workers_replaced_total"), "none"),
                ("Certificate", certificate, "s"),
            ],
            "node",
            hidden=("Value #A", "Info"),
            mappings={"Behind": NO_YES, "Store": UP_DOWN, "Redis": UP_DOWN},
            height=8,
        )
    )


def _configuration(board: dashboard.Dashboard) -> None:
    lag = f"scalar(max(gateway_config_revision)) - {by_node('gateway_config_revision')}"
    board.with_row(dashboard.Row("Configuration"))
    for panel in (
        graph(
            "Revisions behind",
            [(lag, "{{node}}")],
            "short",
            about="The newest revision that any node serves, less this node's.",
        ),
        states("Behind the store", by_node("gateway_config_behind"), "{{node}}", NO_YES),
        states(
            "Refused",
            f"max by (node, source) ({gauge('gateway_config_refused')})",
            "{{node}}: {{source}}",
            (("0", "no", "green"), ("1", "refused", RED)),
            about="What is served is older than what somebody wanted.",
        ),
        graph(
            "Configurations published",
            [(f"sum by (node) (increase(gateway_config_swaps_total[$__rate_interval]) {NODES})", "{{node}}")],
            "short",
        ),
    ):
        board.with_panel(panel)


def _reached(board: dashboard.Dashboard) -> None:
    drops = [
        (total(rate("gateway_requests_lost_total"), "node"), "{{node}}: requests lost"),
        (total(rate("gateway_journal_dropped_total"), "node"), "{{node}}: journal records dropped"),
    ]
    board.with_row(dashboard.Row("What nodes reach, and lose"))
    for panel in (
        graph(
            "Nodes by status",
            [("max by (status) (gateway_fleet_nodes)", "{{status}}")],
            "short",
            stacked=True,
        ),
        states("Store", by_node("gateway_store_up"), "{{node}}", UP_DOWN),
        states("Redis", by_node("gateway_redis_up"), "{{node}}", UP_DOWN),
        states(
            "Limits apart",
            by_node("gateway_rate_limit_apart"),
            "{{node}}",
            (("0", "shared", "green"), ("1", "apart", ORANGE)),
            about="Apart: it lives on its share of the rate limits, for it does not hear of Redis or a node.",
        ),
        graph(
            "Lost and dropped",
            drops,
            "short",
            about="Requests of a worker that died; records for access log and traces that found no room.",
        ),
        graph(
            "Workers replaced",
            [
                (
                    f"sum by (node) (increase(gateway_workers_replaced_total[$__rate_interval]) {NODES})",
                    "{{node}}",
                )
            ],
            "short",
        ),
    ):
        board.with_panel(panel)


def _processes(board: dashboard.Dashboard) -> None:
    cpu = total(rate("gateway_process_cpu_seconds_total"), "node", "process")
    memory = total(gauge("gateway_process_memory_bytes"), "node")
    files = f"{by_node('gateway_process_open_fds')} / {by_node('gateway_process_max_fds')}"
    board.with_row(dashboard.Row("Processes"))
    for panel in (
        graph("CPU", [(cpu, "{{node}}: {{process}}")], "percentunit", about="Of one core."),
        graph("Memory", [(memory, "{{node}}")], "bytes", about="Proportional set size of all processes."),
        graph(
            "Open files",
            [(files, "{{node}}")],
            "percentunit",
            highest=1,
            about="Of what a process may have open.",
        ),
        graph(
            "Client connections", [(total(gauge("gateway_active_connections"), "node"), "{{node}}")], "short"
        ),
    ):
        board.with_panel(panel)
