"""``traces``: the last traces of a node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer

from hotswap_proxy.cli.client import AdminClient
from hotswap_proxy.cli.options import (
    DEFAULT_URL,
    AdminUrl,
    Output,
    OutputFormat,
    Token,
    command,
    show,
)
from hotswap_proxy.cli.terminal import plain

COLUMNS = ("traceId", "startTime", "durationMs", "method", "path", "status", "routeName", "arm", "flags")
# Of a span's attributes those that say most, in this order; all of them with -o json.
_SHOWN = (
    "http.request.method",
    "url.path",
    "http.route",
    "hotswap.route.name",
    "hotswap.route.version",
    "hotswap.route.arm",
    "hotswap.backend.name",
    "server.address",
    "server.port",
    "http.response.status_code",
    "http.request.resend_count",
    "hotswap.deployment.id",
    "hotswap.phase.name",
    "error.type",
    "hotswap.flags",
)

traces = typer.Typer(help="The last traces of a node.", no_args_is_help=True)


@traces.command("list")
@command
def list_(
    route_id: Annotated[str | None, typer.Option("--route-id")] = None,
    status: Annotated[str | None, typer.Option("--status", help="As 503 or 5xx.")] = None,
    min_duration: Annotated[
        float | None, typer.Option("--min-duration", metavar="MS", help="Milliseconds.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=256)] = 20,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List the last requests that were traced, newest first."""
    query = {"routeId": route_id, "status": status, "minDurationMs": min_duration, "limit": limit}
    with AdminClient(admin_url, token) as client:
        answer = client.call("GET", "/gateway/traces", query=query)
    show(answer["traces"], output, COLUMNS)


@traces.command("get")
@command
def get(
    trace_id: Annotated[str, typer.Argument(metavar="ID")],
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a trace as a tree: when each span began, how long it took, what it was about."""
    with AdminClient(admin_url, token) as client:
        answer = client.call("GET", f"/gateway/traces/{quote(trace_id, safe='')}")
    if output is OutputFormat.JSON:
        show(answer, output)
        return
    print(f"trace {answer['traceId']}")
    for line in tree(answer["spans"]):
        print(line)


def tree(spans: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each span, under its parent; times are milliseconds since the first."""
    known = {span["spanId"] for span in spans}
    children: dict[str | None, list[Mapping[str, Any]]] = {}
    for span in spans:
        parent = span["parentSpanId"]
        children.setdefault(parent if parent in known else None, []).append(span)
    begin = min((_micros(span["startTime"]) for span in spans), default=0)

    def lines(parent: str | None, before: str) -> Iterator[str]:
        found = children.get(parent, [])
        for number, span in enumerate(found):
            last = number == len(found) - 1
            corner, further = ("", "") if parent is None else ("└─ ", "   ") if last else ("├─ ", "│  ")
            started = (_micros(span["startTime"]) - begin) / 1000
            name = f"{before}{corner}{span['name']}"
            times = f"{started:>9.3f} ms  {span['durationMs']:>9.3f} ms"
            failed = "  ERROR" if span["status"] == "ERROR" else ""
            yield f"{name:<34} {times}{failed}  {_about(span)}".rstrip()
            yield from lines(span["spanId"], before + further)

    yield from lines(None, "")


def _about(span: Mapping[str, Any]) -> str:
    attributes = span["attributes"]
    parts = [f"{name.rpartition('.')[2]}={_plain(attributes[name])}" for name in _SHOWN if name in attributes]
    if span["message"]:
        parts.append(_plain(span["message"]))
    return " ".join(parts)


def _plain(value: Any) -> str:
    return plain(",".join(map(str, value)) if isinstance(value, list) else str(value))


def _micros(moment: str) -> int:
    """Of RFC 3339 with microseconds; only differences matter."""
    from datetime import datetime

    parsed = datetime.fromisoformat(moment)
    return int(parsed.timestamp()) * 1_000_000 + parsed.microsecond
