"""``nodes`` and ``health``: what a running gateway tells of itself."""

from __future__ import annotations

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

NODE_COLUMNS = ("nodeId", "environment", "version", "status", "revision", "behind", "generation", "lastSeen")


@command
def nodes(
    admin_url: AdminUrl = DEFAULT_URL, token: Token = None, output: Output = OutputFormat.TABLE
) -> None:
    """List the nodes of the fleet and what each serves."""
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
