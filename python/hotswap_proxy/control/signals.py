"""Signals that tell a node something and must never end it: SIGHUP, SIGUSR1, SIGUSR2.

Their default would end the process. So they are ignored from its first line on, heard while somebody acts on
them, and ignored again: a signal may come at every moment of a start or an end.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # this is imported before the spawner starts, and must cost nothing
    import asyncio
    from collections.abc import Callable
    from contextlib import AsyncExitStack

NOTICES = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def ignore() -> None:
    """Until somebody hears them. Processes that are started inherit it."""
    for number in NOTICES:
        signal.signal(number, signal.SIG_IGN)


def hear(
    loop: asyncio.AbstractEventLoop,
    stack: AsyncExitStack,
    number: signal.Signals,
    action: Callable[[], None],
) -> None:
    """Act on one until ``stack`` ends."""
    loop.add_signal_handler(number, action)
    stack.callback(_ignore_again, loop, number)


def _ignore_again(loop: asyncio.AbstractEventLoop, number: signal.Signals) -> None:
    # Removing puts the default back; a handler that is not removed, the end of the loop does.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
