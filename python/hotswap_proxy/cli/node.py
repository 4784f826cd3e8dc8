"""``nodes``, ``health`` and ``audit``: what a running gateway tells of itself."""

from __future__ import annotations

from typing import Annotated

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

NODE_COLUMNS = ("nodeId", "environment", "version", "status", "generation", "lastConfigUpdate")
AUDIT_COLUMNS = ("timestamp", "username", "action", "entityId", "entityName")


@command
def nodes(
    admin_url: AdminUrl = DEFAULT_URL, token: Token = None, output: Output = OutputFormat.TABLE
) -> None:
    """List the nodes and the generation each runs."""
    with AdminClient(admin_url, token) as client:
        answer = client.call("GET", "/gateway/nodes")
    show(answer["nodes"], output, NODE_COLUMNS)


@command
def health(admin_url: AdminUrl = DEFAULT_URL, output: Output = OutputFormat.TABLE) -> None:
    """Show the health of a node; exit code 1 when it is not ready."""
    with AdminClient(admin_url, token="") as client:
        answer = client.call("GET", "/gateway/health", ok=(503,))
    show(answer, output)
    if not answer.get("ready"):
        raise typer.Exit(EXIT_FAILED)


@command
def audit(
    entity_type: Annotated[str | None, typer.Option("--entity-type", help="route, backend, user …")] = None,
    entity_id: Annotated[str | None, typer.Option("--entity-id")] = None,
    user_id: Annotated[str | None, typer.Option("--user-id")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="RFC 3339.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100)] = 20,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List who changed what, newest first."""
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
    show(answer["auditLogs"], output, AUDIT_COLUMNS)
