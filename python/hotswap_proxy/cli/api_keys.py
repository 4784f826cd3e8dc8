"""``api-keys``: what programs show instead of a user's token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import typer

from hotswap_proxy.cli.client import AdminClient
from hotswap_proxy.cli.options import (
    DEFAULT_URL,
    EXIT_INVALID,
    AdminUrl,
    CommandError,
    Output,
    OutputFormat,
    Token,
    Yes,
    command,
    show,
)

PATH = "/authentication/api-keys"
COLUMNS = ("keyId", "name", "userId", "role", "expiresAt", "lastUsedAt")
MOST_DAYS = 36_500

api_keys = typer.Typer(help="API keys of users.", no_args_is_help=True)


@api_keys.command("list")
@command
def list_(
    user_id: Annotated[str | None, typer.Option("--user-id", help="Of one user; for an Admin.")] = None,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List one's own API keys; for an Admin all."""
    with AdminClient(admin_url, token) as client:
        show(list(client.pages(PATH, "apiKeys", {"userId": user_id})), output, COLUMNS)


@api_keys.command("create")
@command
def create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    role: Annotated[
        str | None, typer.Option("--role", help="At most one's own role, which is the default.")
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=MOST_DAYS, help="Expires after so many days.")
    ] = None,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Make an API key of one's own and print it, for it is not shown again."""
    body: dict[str, Any] = {"name": name}
    if role is not None:
        body["role"] = role
    if days is not None:
        body["expiresAt"] = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    with AdminClient(admin_url, token) as client:
        show(client.call("POST", PATH, body), output)


@api_keys.command("delete")
@command
def delete(
    key: Annotated[str, typer.Argument(metavar="ID|NAME")],
    yes: Yes = False,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
) -> None:
    """End an API key."""
    with AdminClient(admin_url, token) as client:
        found = [one for one in client.pages(PATH, "apiKeys") if key in (one["keyId"], one["name"])]
        if not found:
            raise CommandError([f"there is no API key {key!r}"])
        if len(found) > 1:
            raise CommandError([f"several users have an API key {key!r}; give its id"], EXIT_INVALID)
        if not yes:
            typer.confirm(f"Delete the API key {found[0]['name']}?", abort=True, err=True)
        client.call("DELETE", f"{PATH}/{quote(found[0]['keyId'], safe='')}")
    print(f"deleted {found[0]['name']}")
