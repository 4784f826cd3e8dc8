"""``routes`` and ``backends``: list, get, create, update, delete, enable, disable."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from hotswap_proxy.cli.client import AdminClient
from hotswap_proxy.cli.options import (
    DEFAULT_URL,
    EXIT_INVALID,
    AdminUrl,
    CommandError,
    DryRun,
    Output,
    OutputFormat,
    Token,
    Yes,
    command,
    show,
)

Key = Annotated[str, typer.Argument(metavar="ID|NAME", help="Id, or the exact name.")]
DocumentFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="FILE", help="JSON or YAML document; - reads standard input."),
]
Data = Annotated[str | None, typer.Option("--data", "-d", metavar="JSON", help="The document itself.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many; default: all.")]


class Kind:
    """What tells routes from backends for the commands."""

    def __init__(self, plural: str, key: str, columns: Sequence[str]) -> None:
        self.plural, self.key, self.columns = plural, key, columns
        self.path = f"/gateway/{plural}"
        self.singular = plural.removesuffix("s")

    def find(self, client: AdminClient, wanted: str) -> dict[str, Any]:
        """The object with this id, or else with this name."""
        found = self.look_up(client, wanted)
        if found is None:
            raise CommandError([f"there is no {self.singular} {wanted!r}"])
        return found

    def look_up(self, client: AdminClient, wanted: str) -> dict[str, Any] | None:
        """``find``, with None for what is not there."""
        found = client.call("GET", f"{self.path}/{quote(wanted, safe='')}", ok=(404,))
        if "error" not in found:
            return dict(found)
        for item in client.pages(self.path, self.plural):
            if item["name"] == wanted:
                return dict(client.call("GET", f"{self.path}/{quote(item[self.key], safe='')}"))
        return None

    def url_of(self, item: dict[str, Any]) -> str:
        """Path of an object."""
        return f"{self.path}/{quote(item[self.key], safe='')}"


def read_document(file: Path | None, data: str | None) -> Any:
    """The document of --file or --data; exactly one must be given."""
    if (file is None) == (data is None):
        raise CommandError(["give the document by --file or by --data"], EXIT_INVALID)
    if data is not None:
        try:
            return json.loads(data)
        except ValueError as error:
            raise CommandError([f"--data: {error}"], EXIT_INVALID) from error
    import yaml

    try:
        text = sys.stdin.read() if str(file) == "-" else Path(str(file)).read_text()
        return yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CommandError([f"{file}: {error}"], EXIT_INVALID) from error


def application(kind: Kind, text: str) -> typer.Typer:
    """The commands of one kind of object."""
    app = typer.Typer(help=text, no_args_is_help=True)

    @app.command("list")
    @command
    def list_(
        enabled: Annotated[bool | None, typer.Option("--enabled/--disabled", help="Only these.")] = None,
        limit: Limit = None,
        admin_url: AdminUrl = DEFAULT_URL,
        token: Token = None,
        output: Output = OutputFormat.TABLE,
    ) -> None:
        """List them."""
        with AdminClient(admin_url, token) as client:
            items = []
            for item in client.pages(kind.path, kind.plural, {"isEnabled": enabled}):
                items.append(item)
                if limit is not None and len(items) >= limit:
                    break
        show(items, output, kind.columns)

    @app.command("get")
    @command
    def get(
        key: Key, admin_url: AdminUrl = DEFAULT_URL, token: Token = None, output: Output = OutputFormat.TABLE
    ) -> None:
        """Show one, with its statistics."""
        with AdminClient(admin_url, token) as client:
            show(kind.find(client, key), output)

    @app.command("create")
    @command
    def create(
        file: DocumentFile = None,
        data: Data = None,
        dry_run: DryRun = False,
        admin_url: AdminUrl = DEFAULT_URL,
        token: Token = None,
        output: Output = OutputFormat.TABLE,
    ) -> None:
        """Create one from a document."""
        document = read_document(file, data)
        with AdminClient(admin_url, token) as client:
            show(client.call("POST", kind.path, document, {"dryRun": dry_run or None}), output)

    @app.command("update")
    @command
    def update(
        key: Key,
        file: DocumentFile = None,
        data: Data = None,
        dry_run: DryRun = False,
        admin_url: AdminUrl = DEFAULT_URL,
        token: Token = None,
        output: Output = OutputFormat.TABLE,
    ) -> None:
        """Change the fields that the document gives; the others stay."""
        document = read_document(file, data)
        with AdminClient(admin_url, token) as client:
            url = kind.url_of(kind.find(client, key))
            done = client.call("PUT", url, document, {"dryRun": dry_run or None})
        show(done, output)
        if done.get("configChangeApplied") is False:
            waiting = f"deployment {done['deploymentId']} waits for another administrator's approval"
            print(f"nothing is applied yet: {waiting}", file=sys.stderr)

    @app.command("delete")
    @command
    def delete(key: Key, yes: Yes = False, admin_url: AdminUrl = DEFAULT_URL, token: Token = None) -> None:
        """Delete one; requests in flight are finished."""
        with AdminClient(admin_url, token) as client:
            item = kind.find(client, key)
            if not yes:
                typer.confirm(f"Delete the {kind.singular} {item['name']}?", abort=True, err=True)
            client.call("DELETE", kind.url_of(item))
        print(f"deleted {item['name']}")

    def switch(key: str, admin_url: str, token: str | None, on: bool) -> None:
        with AdminClient(admin_url, token) as client:
            item = kind.find(client, key)
            done = client.call("PUT", kind.url_of(item), {"isEnabled": on})
        if done["configChangeApplied"]:
            print(f"{'enabled' if on else 'disabled'} {item['name']}")
        else:
            print(f"{item['name']} is in Production: deployment {done['deploymentId']} waits for approval")

    @app.command("enable")
    @command
    def enable(key: Key, admin_url: AdminUrl = DEFAULT_URL, token: Token = None) -> None:
        """Let it take traffic."""
        switch(key, admin_url, token, True)

    @app.command("disable")
    @command
    def disable(key: Key, admin_url: AdminUrl = DEFAULT_URL, token: Token = None) -> None:
        """Take it out of traffic; requests in flight are finished."""
        switch(key, admin_url, token, False)

    return app


ROUTES = Kind(
    "routes", "routeId", ("routeId", "name", "pathPattern", "methods", "strategy", "isEnabled", "version")
)
routes = application(ROUTES, "Routes: which requests go where, and their versions.")
backends = application(
    Kind("backends", "backendId", ("backendId", "name", "url", "weight", "isEnabled", "healthStatus")),
    "Registered backends: where requests go.",
)
