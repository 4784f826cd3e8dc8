"""``deployments``: begin one, watch it, steer it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from hotswap_proxy.cli.client import AdminClient
from hotswap_proxy.cli.objects import ROUTES, read_document
from hotswap_proxy.cli.options import (
    DEFAULT_URL,
    EXIT_INVALID,
    AdminUrl,
    CommandError,
    DryRun,
    Output,
    OutputFormat,
    Token,
    command,
    show,
)
from hotswap_proxy.cli.phases import read_phase
from hotswap_proxy.cli.simulate import simulate
from hotswap_proxy.cli.terminal import plain
from hotswap_proxy.cli.watching import PATH, finish, path_of, watch

EPILOG = (
    "Exit codes of `get --watch` and `create --wait`: 0 completed; 1 the command failed; 2 bad input or a "
    "wrong state; 4 rolled back or failed; 5 not ended within --timeout; 6 waits for approval (--wait only); "
    "130 interrupted (the deployment goes on)."
)
deployments = typer.Typer(
    help="Progressive deployments of routes, judged on live traffic.", epilog=EPILOG, no_args_is_help=True
)

COLUMNS = (
    *("deploymentId", "routeName", "stableVersion", "configVersion", "strategy", "status"),
    *("trafficPercentage", "createdAt", "message"),
)
METRICS = (
    *("requestCount", "failed", "errorRate", "p50Latency", "p95Latency", "p99Latency"),
    *("unavailable", "excluded"),
)
WINDOW = ("requests", "failed", "errorRate", "p50", "p95", "p99")

Key = Annotated[
    str, typer.Argument(metavar="ID|ROUTE", help="A deployment's id, or a route: its latest deployment.")
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Give up watching; exit code 5.")
]


def _option(name: str, text: str, metavar: str | None = None, panel: str = "What to deploy") -> Any:
    return typer.Option(f"--{name}", help=text, metavar=metavar, rich_help_panel=panel)


def _judged(name: str, text: str, metavar: str) -> Any:
    return _option(name, text, metavar, "When it is condemned")


def find(client: AdminClient, key: str) -> dict[str, Any]:
    """The deployment with this id, or else the latest one of the route with this id or name."""
    found = client.call("GET", path_of(key), ok=(404,))
    if "error" not in found:
        return dict(found)
    route = ROUTES.look_up(client, key)
    if route is None:
        raise CommandError([f"there is no deployment and no route {key!r}"])
    page = client.call("GET", PATH, query={"routeId": route["routeId"], "limit": 1})
    if not page["deployments"]:
        raise CommandError([f"there was no deployment of route {route['name']} yet"])
    return dict(page["deployments"][0])


@deployments.command("create", epilog=EPILOG)
@command
def create(
    route: Annotated[str | None, typer.Argument(metavar="[ROUTE]", help="Id or name.")] = None,
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="Where to.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", metavar="FILE", help="The request as JSON or YAML; options win over it."
        ),
    ] = None,
    strategy: Annotated[
        str | None, _option("strategy", "Canary, BlueGreen, Rolling, Direct or ABTest.  [default: Canary]")
    ] = None,
    phase: Annotated[
        list[str] | None,
        _option("phase", "One phase, repeatable: 10:5m is 10 % for 5 minutes, 50 is held.", "PERCENT[:FOR]"),
    ] = None,
    canary_percentage: Annotated[
        float | None, _option("canary-percentage", "One phase before the last, instead of --phase.")
    ] = None,
    assignment: Annotated[
        str | None, _option("assignment", "Random, ClientIP, Header:NAME or Cookie:NAME.")
    ] = None,
    auto_promote: Annotated[
        bool | None, typer.Option("--auto-promote/--no-auto-promote", help="Go on by itself.")
    ] = None,
    environment: Annotated[str | None, _option("environment", "The route's or the node's otherwise.")] = None,
    description: Annotated[str | None, _option("description", "What it is for.")] = None,
    smoke_test: Annotated[
        list[str] | None,
        _option("smoke-test", "BlueGreen: a GET and its status (200), repeatable.", "PATH[=STATUS]"),
    ] = None,
    keep_stable: Annotated[
        str | None, _option("keep-stable", "BlueGreen: how long the way back stays warm.", "DURATION")
    ] = None,
    drain_timeout: Annotated[str | None, _option("drain-timeout", "Rolling: of a node.", "DURATION")] = None,
    error_rate_increase: Annotated[
        float | None,
        _judged("error-rate-increase", "Over stable.  [default: 5]", "POINTS"),
    ] = None,
    latency_increase: Annotated[
        float | None, _judged("latency-increase", "Of p99 over stable.  [default: 50]", "PERCENT")
    ] = None,
    minimum_requests: Annotated[
        int | None, _judged("minimum-requests", "Of each arm before any verdict.  [default: 30]", "N")
    ] = None,
    confidence: Annotated[
        float | None, _judged("confidence", "Over the whole deployment.  [default: 0.99]", "0.5–0.9999")
    ] = None,
    window: Annotated[
        str | None, _judged("window", "How far back a change for the worse is looked for.", "DURATION")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended; the exit code says how.")] = False,
    timeout: Timeout = None,
    dry_run: DryRun = False,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Deploy a version of a route; `routes stage` makes one.

    In Production it waits for another administrator's `deployments approve`.
    """
    body: dict[str, Any] = read_document(file, None) if file is not None else {}
    if not isinstance(body, dict):
        raise CommandError([f"{file}: this is not an object"], EXIT_INVALID)
    given = {
        "configVersion": version,
        "strategy": strategy,
        "phases": [read_phase(text, "10:5m, or 10") for text in phase] if phase else None,
        "canaryPercentage": canary_percentage,
        "assignment": assignment,
        "autoPromote": auto_promote,
        "environment": environment,
        "description": description,
        "smokeTests": [_smoke_test(text) for text in smoke_test] if smoke_test else None,
        "keepStable": keep_stable,
        "drainTimeout": drain_timeout,
    }
    limits = {
        "errorRateIncrease": error_rate_increase,
        "latencyIncrease": latency_increase,
        "minimumRequests": minimum_requests,
        "confidence": confidence,
        "window": window,
    }
    body = {"strategy": "Canary"} | body | _given(given)
    if limits := _given(limits):
        body["thresholds"] = body.get("thresholds", {}) | limits
    with AdminClient(admin_url, token) as client:
        if route is not None:
            body.pop("routeName", None)
            body["routeId"] = ROUTES.find(client, route)["routeId"]
        made = client.call("POST", PATH, body, {"dryRun": dry_run or None})
        if dry_run or not wait:
            _show_one(made, output)
            return
        finish(watch(client, made["deploymentId"], output, timeout=timeout, stop_when_waiting=True))


@deployments.command("list")
@command
def list_(
    route: Annotated[str | None, typer.Option("--route", metavar="ID|NAME", help="Only of this one.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="Only these: InProgress, Pending …")] = None,
    environment: Annotated[str | None, typer.Option("--environment", help="Only in this one.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List deployments, the newest first."""
    with AdminClient(admin_url, token) as client:
        route_id = ROUTES.find(client, route)["routeId"] if route is not None else None
        query = {"routeId": route_id, "status": status, "environment": environment}
        found = []
        for deployment in client.pages(PATH, "deployments", query):
            found.append(deployment)
            if len(found) >= limit:
                break
    show(found, output, COLUMNS)


@deployments.command("get", epilog=EPILOG)
@command
def get(
    key: Key,
    follow: Annotated[
        bool, typer.Option("--watch", "-w", help="Until it has ended; the exit code says how.")
    ] = False,
    timeout: Timeout = None,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a deployment: phases, shares, both arms' numbers, the verdict and why.

    With --watch as it changes; without a terminal, a line for each change.
    """
    with AdminClient(admin_url, token) as client:
        found = find(client, key)
        if follow:
            finish(watch(client, found["deploymentId"], output, timeout=timeout))
            return
        found = client.call("GET", path_of(found["deploymentId"]), query={"include": "metrics"})
    _show_one(found, output)


@deployments.command("metrics")
@command
def metrics(
    key: Key,
    window: Annotated[
        str | None,
        typer.Option("--window", metavar="DURATION", help="And all requests of the last minutes: 5m … 24h."),
    ] = None,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """What both arms have counted in the present phase, and how they compare."""
    with AdminClient(admin_url, token) as client:
        url = f"{path_of(find(client, key)['deploymentId'])}/metrics"
        found = client.call("GET", url, query={"timeWindow": window})
    if output is OutputFormat.JSON:
        show(found, output)
        return
    show(found, output, ("arm", *METRICS), [{"arm": arm, **found[arm]} for arm in ("stable", "canary")])
    show(found["comparison"], output)
    if (asked := found.get("window")) is not None:
        print(f"all requests from {asked['from']} to {asked['to']}:")
        show(asked, output, ("arm", *WINDOW), [{"arm": arm, **asked[arm]} for arm in ("stable", "canary")])


@deployments.command("promote")
@command
def promote(
    key: Key,
    to: Annotated[
        float | None, typer.Option("--to", metavar="PERCENT", help="To this share, not the next phase.")
    ] = None,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Go to the next phase now (from the last one: complete), or to any share."""
    _order(key, "promote", _given({"targetPercentage": to}), admin_url, token, output)


@deployments.command("pause")
@command
def pause(
    key: Key, admin_url: AdminUrl = DEFAULT_URL, token: Token = None, output: Output = OutputFormat.TABLE
) -> None:
    """Hold the share and the phase's clock; it is judged all the same."""
    _order(key, "pause", None, admin_url, token, output)


@deployments.command("resume")
@command
def resume(
    key: Key, admin_url: AdminUrl = DEFAULT_URL, token: Token = None, output: Output = OutputFormat.TABLE
) -> None:
    """Go on where it was paused."""
    _order(key, "resume", None, admin_url, token, output)


@deployments.command("rollback")
@command
def rollback(
    key: Key,
    reason: Annotated[str, typer.Option("--reason", help="For the audit log.")] = "by hand",
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """All traffic back to the previous version, at once."""
    _order(key, "rollback", {"reason": reason}, admin_url, token, output)


@deployments.command("approve")
@command
def approve(
    key: Key, admin_url: AdminUrl = DEFAULT_URL, token: Token = None, output: Output = OutputFormat.TABLE
) -> None:
    """Let a deployment in Production start; not your own."""
    _order(key, "approve", None, admin_url, token, output)


@deployments.command("reject")
@command
def reject(
    key: Key,
    reason: Annotated[str | None, typer.Option("--reason", help="For its author and the audit log.")] = None,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """End a deployment that waits for approval; your own is withdrawn by `rollback`."""
    _order(key, "reject", _given({"reason": reason}), admin_url, token, output)


def _order(key: str, order: str, body: Any, admin_url: str, token: str | None, output: OutputFormat) -> None:
    with AdminClient(admin_url, token) as client:
        found = find(client, key)
        done = client.call("POST", f"{path_of(found['deploymentId'])}/{quote(order)}", body)
    if output is OutputFormat.JSON:
        show(done, output)
    else:
        print(f"{done['deploymentId']} of {done['routeName']}: {done['status']}; {plain(done['message'])}")


deployments.command("simulate")(simulate)


def _show_one(found: dict[str, Any], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        show(found, output)
        return
    from rich.console import Console

    from hotswap_proxy.cli.rolloutview import view

    Console().print(view(found, found.get("metrics"), datetime.now(UTC)))


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _smoke_test(text: str) -> dict[str, Any]:
    path, _, status = text.rpartition("=")
    if path and status.isdigit():
        return {"path": path, "expectedStatusCode": int(status)}
    return {"path": text}
