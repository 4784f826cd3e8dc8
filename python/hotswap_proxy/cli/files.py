"""``validate``, ``diff``, ``apply``, ``export`` and ``schema``: the declarative file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hotswap_proxy.cli.client import AdminClient
from hotswap_proxy.cli.options import (
    DEFAULT_URL,
    EXIT_DIFFERENT,
    EXIT_INVALID,
    AdminUrl,
    CommandError,
    DryRun,
    File,
    Output,
    OutputFormat,
    Token,
    command,
    show,
)

CONFIGURATION = "/gateway/config"
SIGNS = {"added": "+", "changed": "~", "removed": "-"}

Prune = Annotated[
    bool, typer.Option("--prune/--no-prune", help="Remove routes and backends that are not in the file.")
]


@command
def validate(
    file: File,
    environment: Annotated[
        str,
        typer.Option("--environment", envvar="HOTSWAP_ENVIRONMENT", help="Whose rules and routes count."),
    ] = "Development",
) -> None:
    """Check a file as a gateway would, conflicts between routes included.

    Needs no running gateway; host names of backends are not looked up.
    """
    from hotswap_proxy.cli.offline import GatewayError, check
    from hotswap_proxy.cli.run import settings_of

    settings = settings_of({**os.environ, "HOTSWAP_ENVIRONMENT": environment})
    try:
        routes, backends = check(file, settings)
    except GatewayError as error:
        details = [f"{file}: {detail.field}: {detail.message}" for detail in error.details if detail.field]
        raise CommandError(details or [error.message], EXIT_INVALID) from error
    print(f"{file}: valid; {routes} routes, {backends} backends")


@command
def diff(
    file: File,
    prune: Prune = False,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show what `apply` would change on a running gateway; exit code 3 when that is anything."""
    plan = _send("validate", file, {"prune": prune}, admin_url, token)
    _show_plan(plan, output)
    if plan["changes"]:
        raise typer.Exit(EXIT_DIFFERENT)


@command
def apply(
    file: File,
    prune: Prune = False,
    dry_run: DryRun = False,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Bring a file into a running gateway: all of it, or nothing when anything is wrong."""
    _show_plan(_send("apply", file, {"prune": prune, "dryRun": dry_run}, admin_url, token), output)


@command
def export(
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Where to; default: standard output.")
    ] = None,
    admin_url: AdminUrl = DEFAULT_URL,
    token: Token = None,
    output: Annotated[str, typer.Option("--output", "-o", help="yaml or json.")] = "yaml",
) -> None:
    """Print a running gateway's configuration as a declarative file."""
    if output not in ("yaml", "json"):
        raise CommandError([f"--output {output!r}: yaml or json"], EXIT_INVALID)
    with AdminClient(admin_url, token) as client:
        document = client.call("GET", f"{CONFIGURATION}/export")
    if output == "json":
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    else:
        import yaml

        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    if file is None:
        sys.stdout.write(text)
        return
    try:
        file.write_text(text)
    except OSError as error:
        raise CommandError([f"{file}: {error.strerror}"]) from error


@command
def schema() -> None:
    """Print the JSON Schema of the declarative file."""
    from hotswap_proxy import configfile

    print(json.dumps(configfile.json_schema(), indent=2, ensure_ascii=False))


def _send(what: str, file: Path, query: dict[str, Any], admin_url: str, token: str | None) -> dict[str, Any]:
    from hotswap_proxy import documents
    from hotswap_proxy.errors import ValidationFailed

    try:  # what is in it is checked by the gateway that gets it
        document = documents.read(file, stdin=True)
    except ValidationFailed as error:
        raise CommandError([error.message], EXIT_INVALID) from error
    with AdminClient(admin_url, token) as client:
        answer: dict[str, Any] = client.call("POST", f"{CONFIGURATION}/{what}", document, query)
    return answer


def _show_plan(plan: dict[str, Any], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        show(plan, output)
        return
    for change in plan["changes"]:
        print(f"{SIGNS[change['action']]} {change['kind']} {change['name']}")
        for field in change.get("fields", ()):
            print(f"    {field['path']}: {json.dumps(field['old'])} -> {json.dumps(field['new'])}")
    if names := plan.get("needsApproval"):
        print(f"only by deployments that another administrator approves: {', '.join(names)}")
    counts = ", ".join(f"{plan[name]} {name}" for name in ("added", "changed", "removed", "unchanged"))
    print(counts)
