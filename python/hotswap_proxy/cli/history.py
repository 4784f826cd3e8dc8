"""``routes history`` and ``anomalies``: what happened in the last minutes and hours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from hotswap_proxy.cli.client import AdminClient
from hotswap_proxy.cli.objects import ROUTES, Key, routes
from hotswap_proxy.cli.options import (
    DEFAULT_URL,
    AdminUrl,
    Output,
    OutputFormat,
    Token,
    command,
    show,
)

BLOCKS = "▁▂▃▄▅▆▇█"
NUMBERS = ("requests", "failed", "errorRate", "p50", "p95", "p99")
ANOMALIES = ("startedAt", "endedAt", "routeName", "kind", "arm", "message", "version", "deploymentId")

anomalies = typer.Typer(help="What was out of the ordinary.", no_args_is_help=True)


@routes.command("history")
@command
def route_history(
    key: Key,
    window: Annotated[
        str, typer.Option("--window", metavar="DURATION", help="How far back: 5m, 1h … 24h.")
    ] = "1h",
    step: Annotated[
        str | None, typer.Option("--step", metavar="DURATION", help="Of a line; default: some twenty lines.")
    ] = None,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show what a route has counted: requests, errors, latency in milliseconds; of several arms each."""
    with AdminClient(admin_url, token) as client:
        url = f"{ROUTES.url_of(ROUTES.find(client, key))}/history"
        every = client.call("GET", url, query={"timeWindow": window, "step": step or "1m"})
        found = every
        if step is None and output is OutputFormat.TABLE and len(every["points"]) > 30:
            found = client.call("GET", url, query={"timeWindow": window, "step": _step(len(every["points"]))})
    if output is OutputFormat.JSON:
        show(found, output)
        return
    points = every["points"]
    print(f"requests   {sparkline([point['requests'] for point in points])}")
    print(f"error rate {sparkline([point['errorRate'] or 0.0 for point in points])}")
    print(f"p99        {sparkline([point['p99'] or 0.0 for point in points])}")
    show(found, output, ("from", "arm", *NUMBERS), list(_lines(found["points"])))


def _step(minutes: int) -> str:
    return next((f"{step}m" for step in (1, 2, 3, 5, 10, 15, 30) if minutes <= 25 * step), "60m")


def _lines(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each point; one more for each arm, where there are several."""
    lines = []
    for point in points:
        at = {"from": point["minute"][:16].replace("T", " ")}
        lines.append(at | {"arm": "all" if len(point["arms"]) > 1 else ""} | point)
        if len(point["arms"]) > 1:
            lines += [{"arm": arm, **counts} for arm, counts in point["arms"].items()]
    return lines


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """A line of blocks, the largest value the highest one; neighbours share a block beyond ``width``."""
    per_block = -(-len(values) // width) or 1
    merged = [max(values[start : start + per_block]) for start in range(0, len(values), per_block)]
    most = max(merged, default=0)
    if not most:
        return BLOCKS[0] * len(merged)
    line = "".join(BLOCKS[min(7, round(value / most * 7))] for value in merged)
    return f"{line}  most {most:g}"


@anomalies.command("list")
@command
def list_(
    route: Annotated[str | None, typer.Option("--route", metavar="ID|NAME", help="Only of this one.")] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--ended", help="Only those that go on, or that have ended.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="At most so many.")] = 20,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List anomalies, the newest first, with what was changed within the hour before."""
    with AdminClient(admin_url, token) as client:
        route_id = ROUTES.find(client, route)["routeId"] if route is not None else None
        query = {"routeId": route_id, "active": active, "limit": limit}
        found = client.call("GET", "/gateway/anomalies", query=query)["anomalies"]
    show(found, output, ANOMALIES)
