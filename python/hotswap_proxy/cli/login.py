"""Logging in to the admin API."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from hotswap_proxy.cli.client import AdminClient, store_token
from hotswap_proxy.cli.options import DEFAULT_URL, AdminUrl, CommandError, command


def new_password(confirm: bool = False) -> str:
    """A password from HOTSWAP_PASSWORD, from a pipe, or asked for; never from the command line, where all can
    see it.
    """
    given = os.environ.get("HOTSWAP_PASSWORD")
    if given:
        return given
    if not sys.stdin.isatty():
        piped = sys.stdin.readline().rstrip("\n")
        if not piped:
            raise CommandError(["no password: give it by HOTSWAP_PASSWORD or on standard input"])
        return piped
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True))


@command
def login(
    username: Annotated[str, typer.Option("--username", "-u", help="Who you are.")] = "admin",
    admin_url: AdminUrl = DEFAULT_URL,
    print_token: Annotated[
        bool, typer.Option("--print-token", help="Print the token, store nothing.")
    ] = False,
) -> None:
    """Get a token and keep it for later commands, in a file that only you can read."""
    password = new_password()
    with AdminClient(admin_url, token="") as client:
        answer = client.call("POST", "/authentication/login", {"username": username, "password": password})
        if print_token:
            print(answer["token"])
            return
        path = store_token(client.url, answer["token"])
    user = answer["user"]
    print(f"{user['username']} ({user['role']}) is logged in until {answer['expiresAt']}; token in {path}")


@command
def logout(admin_url: AdminUrl = DEFAULT_URL) -> None:
    """Forget the token of `login`."""
    store_token(admin_url.rstrip("/"), None)
