"""``routes versions``, ``diff``, ``stage`` and ``rollback``."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from hotswap_proxy.cli.client import AdminClient
from hotswap_proxy.cli.deployments import EPILOG, Timeout
from hotswap_proxy.cli.objects import ROUTES, Data, DocumentFile, Key, read_document, routes
from hotswap_proxy.cli.options import (
    DEFAULT_URL,
    EXIT_DIFFERENT,
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
from hotswap_proxy.cli.terminal import plain
from hotswap_proxy.cli.watching import PATH as DEPLOYMENTS
from hotswap_proxy.cli.watching import finish, watch

__all__ = ["routes"]  # with the commands that are added to it here

COLUMNS = ("version", "state", "description", "createdAt", "createdBy", "liveAt")


def _url(route: dict[str, Any], *parts: str) -> str:
    return "/".join([ROUTES.url_of(route), "versions", *(quote(part, safe="") for part in parts)])


@routes.command("versions")
@command
def versions(
    key: Key, admin_url: AdminUrl = DEFAULT_URL, token: Token = None, output: Output = OutputFormat.TABLE
) -> None:
    """List a route's versions, the newest first: which is live, being deployed, staged."""
    with AdminClient(admin_url, token) as client:
        found = list(client.pages(_url(ROUTES.find(client, key)), "versions"))
    show(found, output, COLUMNS)


@routes.command("diff")
@command
def diff(
    key: Key,
    old: Annotated[str, typer.Argument(metavar="[A]", help="A version, or live.")] = "live",
    new: Annotated[
        str | None,
        typer.Argument(metavar="[B]", help="Default: what is being deployed, or newest."),
    ] = None,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show what differs between two versions of a route; exit code 3 when that is anything."""
    with AdminClient(admin_url, token) as client:
        route = ROUTES.find(client, key)
        if new is None:
            new = _candidate(client, route)
        found = client.call("GET", _url(route, old, "diff", str(new)))
    if output is OutputFormat.JSON:
        show(found, output)
    else:
        print(f"{route['name']} {found['from']} → {found['to']}")
        for change in found["changes"]:
            print(f"    {change['path']}: {json.dumps(change['old'])} -> {json.dumps(change['new'])}")
    if found["changes"]:
        raise typer.Exit(EXIT_DIFFERENT)


@routes.command("stage")
@command
def stage(
    key: Key,
    file: DocumentFile = None,
    data: Data = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="VERSION", help="Change this one; default: the live one.")
    ] = None,
    description: Annotated[str | None, typer.Option("--description", help="What it is for.")] = None,
    dry_run: DryRun = False,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Keep a changed route as a version without applying it; `deployments create` deploys it.

    The document gives the fields that change; the others are those of --base.
    """
    document = read_document(file, data)
    query = {"base": base, "description": description, "dryRun": dry_run or None}
    with AdminClient(admin_url, token) as client:
        route = ROUTES.find(client, key)
        done = client.call("POST", _url(route), document, query)
    if output is OutputFormat.JSON or dry_run:
        show(done, output)
    else:
        print(f"staged version {done['version']} of {route['name']}")


@routes.command("rollback", epilog=EPILOG)
@command
def rollback(
    key: Key,
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="Default: the one that was live before.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended; the exit code says how.")] = False,
    timeout: Timeout = None,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Go back to an earlier version of a route: a Direct deployment of it.

    In Production it waits for another administrator's approval. A deployment that is going on is ended by
    `deployments rollback`.
    """
    with AdminClient(admin_url, token) as client:
        route = ROUTES.find(client, key)
        found = list(client.pages(_url(route), "versions"))
        if any(each["state"] == "Deploying" for each in found):
            told = f"a deployment of route {route['name']} is going on; end it with"
            raise CommandError([f"{told}: hotswap-proxy deployments rollback {route['name']}"], EXIT_INVALID)
        target = version or _live_before(found, route)
        body = {"routeId": route["routeId"], "configVersion": target, "strategy": "Direct"}
        body["description"] = f"back from {route['version']} to {target}"
        made = client.call("POST", DEPLOYMENTS, body)
        if wait:
            finish(watch(client, made["deploymentId"], output, timeout=timeout, stop_when_waiting=True))
            return
    if output is OutputFormat.JSON:
        show(made, output)
    else:
        told = f"{made['status']}; {plain(made['message'])}"
        print(f"{made['deploymentId']} of {route['name']} to {target}: {told}")


def _candidate(client: AdminClient, route: dict[str, Any]) -> str:
    """The version that is being deployed or waits for approval: that is what is to be looked at, whatever was
    staged since. Without one the newest.
    """
    found = list(client.pages(_url(route), "versions"))
    return str(next((each for each in found if each["state"] == "Deploying"), found[0])["version"])


def _live_before(versions: list[dict[str, Any]], route: dict[str, Any]) -> str:
    """The version that was live last before the one that is."""
    found = [each for each in versions if each["state"] == "Previous"]
    if not found:
        raise CommandError([f"route {route['name']} had no other version before {route['version']}"])
    return str(max(found, key=lambda each: each["liveAt"])["version"])
