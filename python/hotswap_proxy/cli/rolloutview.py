"""How a deployment looks in a terminal: pure functions of what the API answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hotswap_proxy.cli.terminal import plain
from hotswap_proxy.model.base import duration_ms

Json = Mapping[str, Any]

# status → symbol, style; of deployments and of phases alike
_MARKS = {
    "Pending": ("◷", "yellow"),
    "Approved": ("◷", "cyan"),
    "InProgress": ("●", "cyan"),
    "Paused": ("‖", "yellow"),
    "Completed": ("✔", "green"),
    "Failed": ("✖", "red"),
    "RolledBack": ("↩", "red"),
    "Skipped": ("–", "dim"),
}
_VERDICTS = {"Pass": ("✔", "green"), "Hold": ("◷", "yellow"), "Fail": ("✖", "red")}
ENDED = frozenset({"Completed", "Failed", "RolledBack"})


def view(deployment: Json, metrics: Json | None, now: datetime) -> RenderableType:
    """The whole picture; ``metrics`` may not be known yet."""
    parts: list[RenderableType] = [_header(deployment), _phases(deployment, now), _share(deployment, metrics)]
    if metrics is not None:
        parts += [_arms(metrics), _verdict(metrics["comparison"], deployment)]
    if nodes := _nodes(deployment, metrics):
        parts.append(nodes)
    return Group(*(each for part in parts for each in (part, Text())))


def line(deployment: Json, metrics: Json | None) -> str:
    """The same in one line, for logs."""
    told = [f"{versions(deployment)} {deployment['status']}"]
    if deployment["status"] not in ENDED:
        told.append(
            f"phase {deployment['currentPhase'] + 1}/{len(deployment['phases'])} "
            f"{percent(deployment['trafficPercentage'])}"
        )
    if metrics is not None and metrics["comparison"]["verdict"]:
        for arm in ("stable", "canary"):
            counts = metrics[arm]
            told.append(
                f"{arm} {counts['requestCount']} requests {rate(counts['errorRate'])} errors "
                f"p99 {latency(counts['p99Latency'])}"
            )
        told.append(_verdict(metrics["comparison"], deployment).plain.removeprefix("Verdict").strip())
    if deployment["message"]:
        told.append(plain(deployment["message"]))
    return "; ".join(told)


def versions(deployment: Json) -> str:
    return f"{deployment['routeName']} {deployment['stableVersion'] or '-'} → {deployment['configVersion']}"


def percent(share: float) -> str:
    return f"{share:g} %"


def rate(errors: float | None) -> str:
    return "-" if errors is None else f"{100 * errors:.2f} %"


def latency(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{milliseconds / 1000:.2f} s" if milliseconds >= 10_000 else f"{milliseconds:.3g} ms"


def time_left(deployment: Json, phase: Json, now: datetime) -> float | None:
    """Seconds until the phase is over by the clock; None if it is held, or does not run."""
    if phase["status"] != "InProgress" or not phase["duration"] or not phase["startedAt"]:
        return None
    until = _moment(deployment["pausedAt"]) if deployment.get("pausedAt") else now
    gone = (until - _moment(phase["startedAt"])).total_seconds() - (deployment.get("pausedSeconds") or 0)
    return max(0.0, duration_ms(phase["duration"]) / 1000 - max(0.0, gone))


def _header(deployment: Json) -> Table:
    symbol, style = _MARKS.get(deployment["status"], ("?", ""))
    table = _grid()
    table.add_row("Route", Text(versions(deployment), style="bold"))
    table.add_row("Deployment", deployment["deploymentId"])
    assignment = "" if deployment["assignment"] == "Random" else f", sticky by {deployment['assignment']}"
    table.add_row("Strategy", f"{deployment['strategy']}{assignment}")
    table.add_row("Status", Text(f"{symbol} {_status(deployment)}", style=style))
    if deployment["message"]:
        table.add_row("Message", Text(plain(deployment["message"])))
    return table


def _status(deployment: Json) -> str:
    if deployment["status"] == "Pending" and deployment["approvalStatus"] == "Pending":
        return "Pending, waits for the approval of another administrator"
    if deployment["approvalStatus"] == "Rejected":
        return f"{deployment['status']}, rejected"
    return str(deployment["status"])


def _phases(deployment: Json, now: datetime) -> Table:
    table = _columns("Phase", "Share", "Duration", "")
    for phase in deployment["phases"]:
        symbol, style = _MARKS.get(phase["status"], ("?", ""))
        symbol = "○" if phase["status"] == "Pending" else symbol
        left = time_left(deployment, phase, now)
        state = "" if phase["status"] == "Pending" else phase["status"]
        if phase["status"] == "InProgress":
            state = "held" if left is None else f"{seconds(left)} left"
        table.add_row(
            Text(f"{symbol} {phase['name']}", style="dim" if phase["status"] == "Pending" else style),
            percent(phase["trafficPercentage"]),
            phase["duration"] or "-",
            state,
        )
    return table


def _share(deployment: Json, metrics: Json | None) -> Text:
    measured = (metrics or {}).get("measuredPercentage")
    seen = "nothing measured yet" if measured is None else f"measured {percent(measured)}"
    return Text(f"Canary share  set {percent(deployment['trafficPercentage'])}, {seen}")


def _arms(metrics: Json) -> Table:
    table = _columns("Arm", "Requests", "Errors", "p50", "p95", "p99", "Unavailable", "Excluded")
    for arm in ("stable", "canary"):
        counts = metrics[arm]
        excluded = ", ".join(f"{count} {reason}" for reason, count in counts["excluded"].items() if count)
        table.add_row(
            arm,
            f"{counts['requestCount']:,}",
            rate(counts["errorRate"]),
            *(latency(counts[name]) for name in ("p50Latency", "p95Latency", "p99Latency")),
            f"{counts['unavailable']:,}",
            excluded or "-",
        )
    return table


def _verdict(comparison: Json, deployment: Json) -> Text:
    kind = comparison["verdict"]
    symbol, style = _VERDICTS.get(kind, ("○", "dim"))
    needed = comparison["requestsNeeded"]
    more = f"; about {needed:,} more requests needed" if needed else ""
    if deployment["status"] in ENDED or "more requests" in comparison["reason"]:
        more = ""
    told = f": {plain(comparison['reason'])}{more}"
    return Text.assemble("Verdict  ", (f"{symbol} {kind or 'none'}", style), told)


def _nodes(deployment: Json, metrics: Json | None) -> Text | None:
    """The nodes that serve the deployment; of Rolling, all, in their order."""
    measuring = [row["nodeId"] for row in (metrics or {}).get("nodes", ())]
    if deployment["nodes"]:
        done = set(deployment["nodesDone"] or ())
        told = [f"{'✔' if node in done else '○'} {node}" for node in deployment["nodes"]]
    else:
        told = [f"✔ {node}" for node in measuring]
    return Text(f"Nodes  {'  '.join(told)}") if told else None


def seconds(left: float) -> str:
    minutes, rest = divmod(round(left), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def changes(deployment: Json, metrics: Json | None) -> Iterator[Any]:
    """What is worth a new line in a log when it is another."""
    yield from (deployment["status"], deployment["approvalStatus"], deployment["currentPhase"])
    yield deployment["trafficPercentage"]
    yield len(deployment["nodesDone"] or ())
    yield (metrics or {}).get("comparison", {}).get("verdict")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _grid() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    return table


def _columns(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name, justify="left" if name in ("Phase", "Arm", "", "Excluded") else "right")
    return table
