"""``users``: who may use the admin API."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from hotswap_proxy.cli.client import AdminClient
from hotswap_proxy.cli.login import new_password
from hotswap_proxy.cli.options import (
    DEFAULT_URL,
    AdminUrl,
    CommandError,
    Output,
    OutputFormat,
    Token,
    Yes,
    command,
    show,
)

users = typer.Typer(help="Users of the admin API.", no_args_is_help=True)
COLUMNS = ("userId", "username", "role", "isEnabled", "createdAt")
Username = Annotated[str, typer.Argument(metavar="USERNAME")]


def _find(client: AdminClient, username: str) -> dict[str, Any]:
    for user in client.pages("/users", "users"):
        if username in (user["username"], user["userId"]):
            return user
    raise CommandError([f"there is no user {username!r}"])


def _url(user: dict[str, Any]) -> str:
    return f"/users/{quote(user['userId'], safe='')}"


@users.command("list")
@command
def list_(
    admin_url: AdminUrl = DEFAULT_URL, token: Token = None, output: Output = OutputFormat.TABLE
) -> None:
    """List all users."""
    with AdminClient(admin_url, token) as client:
        show(list(client.pages("/users", "users")), output, COLUMNS)


@users.command("create")
@command
def create(
    username: Username,
    role: Annotated[str, typer.Option("--role", help="Admin, Operator, Developer or Viewer.")] = "Viewer",
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Create a user. The password comes from HOTSWAP_PASSWORD, from standard input, or is asked for."""
    body = {"username": username, "password": new_password(confirm=True), "role": role}
    with AdminClient(admin_url, token) as client:
        show(client.call("POST", "/users", body), output)


@users.command("passwd")
@command
def passwd(username: Username, admin_url: AdminUrl = DEFAULT_URL, token: Token = None) -> None:
    """Set a user's password; tokens given out before end to be valid."""
    password = new_password(confirm=True)
    with AdminClient(admin_url, token) as client:
        client.call("PUT", _url(_find(client, username)), {"password": password})
    print(f"password of {username} is changed")


@users.command("delete")
@command
def delete(
    username: Username, yes: Yes = False, admin_url: AdminUrl = DEFAULT_URL, token: Token = None
) -> None:
    """Delete a user."""
    with AdminClient(admin_url, token) as client:
        user = _find(client, username)
        if not yes:
            typer.confirm(f"Delete the user {user['username']}?", abort=True, err=True)
        client.call("DELETE", _url(user))
    print(f"deleted {user['username']}")
