"""What workers tell of single requests: made ready before they are, read to the end after they have ended."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass

from hotswap_proxy import _core
from hotswap_proxy.control import signals
from hotswap_proxy.control.claims import StartError
from hotswap_proxy.observe.draining import Draining
from hotswap_proxy.observe.journal import open_journal
from hotswap_proxy.observe.logfile import LogFile, LogFileError
from hotswap_proxy.observe.tracing import start as tracing
from hotswap_proxy.observe.tracing.start import Tracing
from hotswap_proxy.settings import Settings

WATCH_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class Journaling:
    """The memory that workers write to, and what reads it."""

    journal: _core.Journal
    draining: Draining
    tracing: Tracing | None


def start(stack: AsyncExitStack, settings: Settings, lanes: int) -> Journaling | None:
    """None where nobody asks for single requests. To be called before there are workers: what is on ``stack``
    later ends earlier. StartError if the access log cannot be written.
    """
    journal = open_journal(settings, lanes)
    if journal is None:
        return None
    try:
        file = LogFile(settings.access_log) if settings.logs_requests else None
    except LogFileError as error:
        raise StartError([f"--access-log: {error}"]) from error
    traces = tracing.start(stack, settings)  # first: it has to export what is drained last
    if traces is not None:
        traces.watch(journal)
    draining = Draining(journal, file, traces.spans if traces is not None else None)
    draining.start()
    stack.push_async_callback(draining.stop)
    signals.hear(asyncio.get_running_loop(), stack, signal.SIGUSR1, draining.reopen)
    stack.callback(asyncio.create_task(_watch(draining)).cancel)
    return Journaling(journal, draining, traces)


async def _watch(draining: Draining) -> None:
    while True:
        await asyncio.sleep(WATCH_INTERVAL)
        draining.check()
