"""All commands in one application."""

from __future__ import annotations

import typer

from hotswap_proxy import __version__
from hotswap_proxy.cli import (
    api_keys,
    audit,
    deployments,
    files,
    history,
    login,
    node,
    objects,
    openapi,
    run,
    traces,
    upgrade,
    users,
    versions,
)

EPILOG = (
    "Exit codes: 0 done; 1 failed; 2 the command line, the configuration or a document is wrong; "
    "3 `diff` found differences. `deployments --help` has those of waiting for a deployment."
)

app = typer.Typer(
    help="An API gateway whose configuration is changed under full load without dropping a request.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("run")(run.run)
app.command("upgrade")(upgrade.upgrade)
app.command("validate")(files.validate)
app.command("diff")(files.diff)
app.command("apply")(files.apply)
app.command("export")(files.export)
app.command("schema")(files.schema)
app.command("openapi")(openapi.openapi)
app.command("migrate")(run.migrate)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.add_typer(versions.routes, name="routes")
app.add_typer(deployments.deployments, name="deployments")
app.add_typer(objects.backends, name="backends")
app.add_typer(users.users, name="users")
app.add_typer(api_keys.api_keys, name="api-keys")
app.command("nodes")(node.nodes)
app.command("health")(node.health)
app.add_typer(audit.audit, name="audit")
app.add_typer(history.anomalies, name="anomalies")
app.add_typer(traces.traces, name="traces")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
