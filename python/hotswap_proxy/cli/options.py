"""Options that many commands share, and how every command ends."""

from __future__ import annotations

import enum
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from hotswap_proxy.cli.terminal import as_json, plain

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAILED, EXIT_INVALID, EXIT_DIFFERENT = 1, 2, 3
DEFAULT_URL = "http://127.0.0.1:5000"


class OutputFormat(enum.StrEnum):
    """How a command prints what it found."""

    TABLE = "table"
    JSON = "json"


AdminUrl = Annotated[
    str,
    typer.Option("--admin-url", envvar="HOTSWAP_ADMIN_URL", metavar="URL", help="Admin API of the gateway."),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="HOTSWAP_TOKEN",
        metavar="TOKEN",
        help="Token for the admin API; without it the one that `login` stored.",
    ),
]
Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="table or json.")]
File = Annotated[
    Path,
    typer.Option(
        "--file", "-f", metavar="FILE", help="Declarative file, YAML or JSON; - for standard input."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and show what would change; change nothing.")]


class CommandError(Exception):
    """Ends a command: the lines go to standard error, the code to the caller."""

    def __init__(self, lines: Sequence[str], code: int = EXIT_FAILED) -> None:
        super().__init__("; ".join(lines))
        self.lines = list(lines)
        self.code = code


class NotNow(CommandError):  # noqa: N818  it says what happened
    """The gateway cannot be reached, or not now; ``retry_after`` seconds later it may be."""

    retry_after = 0.0


def command(function: Callable[P, R]) -> Callable[P, R]:
    """A command whose errors are sentences, not stack traces."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except CommandError as error:
            fail(error)

    return wrapped


def fail(error: CommandError) -> NoReturn:
    """Say why, and end with the error's code."""
    for line in error.lines:
        print(f"hotswap-proxy: {plain(line, keep=chr(10))}", file=sys.stderr)
    raise typer.Exit(error.code)


def show(
    data: Any, output: OutputFormat, columns: Sequence[str] = (), rows: Sequence[Any] | None = None
) -> None:
    """Print ``data`` as JSON, or ``rows`` (default: ``data`` itself) as a table of some of their fields."""
    if output is OutputFormat.JSON:
        print(as_json(data, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    if columns:
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in data if rows is None else rows:
            table.add_row(*(Text(cell(row.get(column))) for column in columns))
    else:
        table.show_header = False
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in data.items():
            table.add_row(Text(name), Text(cell(value)))
    # A table that is piped is for programs: no folding at a terminal's width that is not there.
    console = Console() if sys.stdout.isatty() else Console(width=10_000, soft_wrap=True)
    console.print(table)


def cell(value: Any) -> str:
    """A field's value in a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return plain(", ".join(value))
    if isinstance(value, dict | list):
        return as_json(value)
    return plain(str(value))
