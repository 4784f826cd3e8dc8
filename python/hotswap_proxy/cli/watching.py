"""Follows a deployment until it ends: a live view in a terminal, a line for each change in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import typer

from hotswap_proxy.cli.client import AdminClient
from hotswap_proxy.cli.options import CommandError, NotNow, OutputFormat
from hotswap_proxy.cli.terminal import as_json

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = "/gateway/deployments"
EXIT_ROLLED_BACK, EXIT_TIMEOUT, EXIT_WAITS_FOR_APPROVAL, EXIT_INTERRUPTED = 4, 5, 6, 130
# Two seconds: 30 reads a minute, half of what a user may do in Production.
INTERVAL = 2.0
PATIENCE = 60.0  # seconds without an answer of the gateway


def path_of(deployment_id: str) -> str:
    return f"{PATH}/{quote(deployment_id, safe='')}"


def exit_code(status: str) -> int:
    return 0 if status == "Completed" else EXIT_ROLLED_BACK


def watch(
    client: AdminClient,
    deployment_id: str,
    output: OutputFormat,
    *,
    timeout: float | None = None,
    stop_when_waiting: bool = False,
    interval: float = INTERVAL,
) -> int:
    """Show it until it has ended; the exit code of what became of it. ``stop_when_waiting``: or until it
    waits for approval.
    """
    from hotswap_proxy.cli.rolloutview import ENDED

    end = None if timeout is None else time.monotonic() + timeout
    try:
        with _display(output) as show:
            for found in _answers(client, deployment_id, interval):
                show(found)
                if found["status"] in ENDED:
                    return exit_code(found["status"])
                if stop_when_waiting and found["status"] == "Pending":
                    _say(f"deployment {deployment_id} waits for the approval of another administrator")
                    return EXIT_WAITS_FOR_APPROVAL
                if end is not None and time.monotonic() + interval > end:
                    _say(f"deployment {deployment_id} has not ended within {timeout:g} seconds and goes on")
                    return EXIT_TIMEOUT
    except KeyboardInterrupt:
        _say(f"\nthe deployment goes on; end it with: hotswap-proxy deployments rollback {deployment_id}")
        return EXIT_INTERRUPTED
    raise AssertionError("unreachable")


def finish(code: int) -> None:
    """End the command with this code."""
    if code:
        raise typer.Exit(code)


def _answers(client: AdminClient, deployment_id: str, interval: float) -> Iterator[dict[str, Any]]:
    """The deployment with its ``metrics``, again and again. A gateway that is away for a moment is waited
    for: the deployment goes on without it.
    """
    silent_since: float | None = None
    while True:
        pause = interval
        try:
            yield client.call("GET", path_of(deployment_id), query={"include": "metrics"})
            silent_since = None
        except NotNow as error:
            now = time.monotonic()
            silent_since = now if silent_since is None else silent_since
            if now - silent_since > PATIENCE:
                raise CommandError([*error.lines, "the deployment goes on without this command"]) from error
            pause = max(interval, min(error.retry_after, PATIENCE))
        time.sleep(pause)


@contextmanager
def _display(output: OutputFormat) -> Iterator[Callable[[dict[str, Any]], None]]:
    if output is OutputFormat.TABLE and sys.stdout.isatty():
        from rich.console import Console
        from rich.live import Live

        from hotswap_proxy.cli.rolloutview import view

        with Live(console=Console(), auto_refresh=False) as live:
            yield lambda found: live.update(view(found, found["metrics"], datetime.now(UTC)), refresh=True)
    else:
        yield _Lines(output)


class _Lines:
    """For a log: a line when something changed. As JSON, the whole answer in each."""

    def __init__(self, output: OutputFormat) -> None:
        self._output = output
        self._last: list[Any] = []

    def __call__(self, found: dict[str, Any]) -> None:
        from hotswap_proxy.cli.rolloutview import changes, line

        now = list(changes(found, found["metrics"]))
        if now == self._last:
            return
        self._last = now
        if self._output is OutputFormat.JSON:
            print(as_json(found), flush=True)
        else:
            print(f"{datetime.now(UTC):%H:%M:%S} {line(found, found['metrics'])}", flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
