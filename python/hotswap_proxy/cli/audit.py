"""``audit``: who did what, and whether that is still what was written down."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hotswap_proxy.cli.client import AdminClient
from hotswap_proxy.cli.options import (
    DEFAULT_URL,
    EXIT_FAILED,
    AdminUrl,
    Output,
    OutputFormat,
    Token,
    command,
    show,
)

COLUMNS = ("timestamp", "username", "action", "entityId", "entityName")
EntityType = Annotated[str | None, typer.Option("--entity-type", help="route, backend, user …")]
EntityId = Annotated[str | None, typer.Option("--entity-id")]
UserId = Annotated[str | None, typer.Option("--user-id")]
Since = Annotated[str | None, typer.Option("--from", metavar="TIME", help="RFC 3339.")]
Until = Annotated[str | None, typer.Option("--to", metavar="TIME", help="RFC 3339.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100)]

audit = typer.Typer(help="The audit log. Without a command: as `audit list`.", invoke_without_command=True)


@audit.callback()
def alone(
    context: typer.Context,
    entity_type: EntityType = None,
    entity_id: EntityId = None,
    user_id: UserId = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 20,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """The audit log. Without a command: as `audit list`."""
    if context.invoked_subcommand is None:
        list_(entity_type, entity_id, user_id, since, until, limit, admin_url, token, output)


@audit.command("list")
@command
def list_(
    entity_type: EntityType = None,
    entity_id: EntityId = None,
    user_id: UserId = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 20,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List who did what, newest first."""
    query = {
        "entityType": entity_type,
        "entityId": entity_id,
        "userId": user_id,
        "from": since,
        "to": until,
        "limit": limit,
    }
    with AdminClient(admin_url, token) as client:
        answer = client.call("GET", "/audit-logs", query=query)
    show(answer["auditLogs"], output, COLUMNS)


@audit.command("verify")
@command
def verify(
    expect: Annotated[
        str | None, typer.Option("--expect", metavar="HASH", help="Some row must have this hash.")
    ] = None,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Follow the chain of hashes through the whole log; exit code 1 when it is broken."""
    with AdminClient(admin_url, token, timeout=3600) as client:
        answer = client.call("GET", "/audit-logs/verify", query={"expect": expect})
    if output is OutputFormat.JSON:
        show(answer, output)
    else:
        print(_sentence(answer))
    if not answer["valid"]:
        raise typer.Exit(EXIT_FAILED)


def _sentence(answer: dict[str, Any]) -> str:
    if answer["valid"]:
        return f"valid: {answer['checked']} rows; head {answer['head']['hash']}"
    broken = answer["firstBroken"]
    where = "" if broken["auditId"] is None else f" at row {broken['auditId']}"
    return f"BROKEN{where}: {broken['what']} ({answer['checked']} rows before it are valid)"
