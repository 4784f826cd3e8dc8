"""One deployment: both arms, the line that canary must not cross, and what is missing for a verdict."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard, timeseries

from scripts.dashboards.parts import (
    GREEN,
    ORANGE,
    RED,
    chosen,
    colored,
    documentation,
    graph,
    link,
    number,
    page,
    runbook,
    states,
    threshold_line,
    traces,
    traces_url,
)

THIS = '{deployment="$deployment"}'
REQUESTS, FAILED = "gateway_deployment_requests_total", "gateway_deployment_requests_failed_total"
OF_CANARY = ', arm="canary"'
CANARY_SPANS = {"hotswap.route.name": "${name}", "hotswap.route.arm": "canary"}  # docs/tracing.md
STABLE, CANARY, LINE = "stable", "canary", "threshold"
VERDICTS = (("1", "Pass", GREEN), ("2", "Hold", ORANGE), ("3", "Fail", RED))


def shared(metric: str, *by: str) -> str:
    """What is of the store and hence the same on every node."""
    return f"max by ({', '.join(by)}) ({metric}{THIS})" if by else f"max({metric}{THIS})"


def one(metric: str, label: str) -> str:
    """The label of the series that is 1."""
    return f"max by ({label}) ({metric}{THIS} == 1)"


def counted(metric: str, more: str = "") -> str:
    return f'sum(rate({metric}{{deployment="$deployment"{more}}}[$__rate_interval]))'


def counted_by_arm(metric: str) -> str:
    return f"sum by (arm) (rate({metric}{THIS}[$__rate_interval]))"


def build() -> dashboard.Dashboard:
    board = (
        page("hotswap-deployment", "hotswap-proxy / Deployment", "A rollout as its judge sees it.")
        .with_variable(
            chosen("name", "Route", "label_values(gateway_deployment_info, name)", all_of_them=False)
        )
        .with_variable(
            chosen(
                "deployment",
                "Deployment",
                'label_values(gateway_deployment_info{name="$name"}, deployment)',
                all_of_them=False,
            )
        )
        .with_variable(traces())
        .with_variable(documentation())
        .link(link("Traces of canary", traces_url(CANARY_SPANS), "bolt"))
        .link(runbook("A rollout", "a-rollout"))
        .link(runbook("A deployment is held", "a-deployment-is-held"))
        .link(runbook("A rollback", "a-rollback"))
    )
    _now(board)
    _judged(board)
    _counted(board)
    return board


def _now(board: dashboard.Dashboard) -> None:
    needed = "Until there is a verdict, about; 0: enough has been seen."
    phase = f"{shared('gateway_deployment_phase')} / {shared('gateway_deployment_phases')}"
    for panel in (
        number(
            "Status",
            one("gateway_deployment_status", "status"),
            "none",
            legend="{{status}}",
            none="ended long ago",
        ),
        number(
            "Versions",
            one("gateway_deployment_info", "strategy, stable_version, canary_version"),
            "none",
            legend="{{strategy}}: {{stable_version}} → {{canary_version}}",
        ),
        number("Verdict", one("gateway_deployment_verdict", "verdict"), "none", legend="{{verdict}}"),
        number(
            "Waits for",
            one("gateway_deployment_waiting", "reason"),
            "none",
            legend="{{reason}}",
            none="nothing",
        ),
        number("Phases", phase, "percentunit", about="The present one over all of them."),
        number(
            "Requests still needed",
            shared("gateway_deployment_required_requests"),
            "short",
            about=needed,
            decimals=0,
        ),
    ):
        board.with_panel(panel)


def _judged(board: dashboard.Dashboard) -> None:
    errors = graph(
        "Error rate, as judged",
        [
            (shared("gateway_deployment_error_ratio", "arm"), "{{arm}}"),
            (shared("gateway_deployment_error_ratio_threshold"), LINE),
        ],
        "percentunit",
        height=10,
        about="5xx and failed connections of first attempts. Surely above the line: canary is taken back.",
    )
    p99 = graph(
        "p99, as judged",
        [
            (shared("gateway_deployment_p99_seconds", "arm"), "{{arm}}"),
            (shared("gateway_deployment_p99_threshold_seconds"), LINE),
        ],
        "s",
        height=10,
    )
    share = graph(
        "Share of canary",
        [
            (shared("gateway_deployment_traffic_ratio"), "set"),
            (f"{counted(REQUESTS, OF_CANARY)} / {counted(REQUESTS)}", "measured"),
        ],
        "percentunit",
        highest=1,
    )
    seen = graph(
        "Requests in this phase", [(shared("gateway_deployment_judged_requests", "arm"), "{{arm}}")], "short"
    )
    verdict = (
        'max(gateway_deployment_verdict{deployment="$deployment", verdict="Pass"}) '
        'or 2 * max(gateway_deployment_verdict{deployment="$deployment", verdict="Hold"}) '
        'or 3 * max(gateway_deployment_verdict{deployment="$deployment", verdict="Fail"})'
    )
    board.with_row(dashboard.Row("What the judge compares"))
    for panel in (errors, p99):
        board.with_panel(threshold_line(_arms(panel), LINE))
    board.with_panel(states("Verdicts", verdict, "verdict", VERDICTS, width=24, height=4))
    board.with_panel(share)
    board.with_panel(_arms(seen))


def _counted(board: dashboard.Dashboard) -> None:
    """Where requests pass, node by node: quicker than the judge, and no verdict."""
    requests, failed = counted_by_arm(REQUESTS), counted_by_arm(FAILED)
    board.with_row(dashboard.Row("Now"))
    for panel in (
        graph("First attempts", [(requests, "{{arm}}")], "reqps"),
        graph("Failed first attempts", [(f"{failed} / {requests}", "{{arm}}")], "percentunit"),
    ):
        board.with_panel(_arms(panel))


def _arms(panel: timeseries.Panel) -> timeseries.Panel:
    return colored(colored(panel, GREEN, STABLE), ORANGE, CANARY)
