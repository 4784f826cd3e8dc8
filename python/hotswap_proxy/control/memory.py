"""Gives memory back to the system after something large: a reload, an apply, a scrape of many routes."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path

GROWTH = 4 << 20  # bytes that are worth the trouble
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell cheaply."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def heap_trimmer() -> Callable[[], None]:
    """glibc's malloc_trim: about a millisecond. Elsewhere nothing."""
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda: None

    def release() -> None:
        malloc_trim(0)

    return release


def trim() -> None:
    """Collect garbage and return free heap pages, where it is known that there are many.

    What is left is there to stay (modules, configuration), and the collector looks at it no more until the
    next time: with 10,000 routes that would be 40 ms in which no thread runs, again and again, for the
    minutes of the history alone are objects enough to set it off.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    heap_trimmer()()


class MemoryKeeper:
    """Called from time to time; acts when the process has grown since it last did."""

    def __init__(
        self, resident: Callable[[], int] = resident_bytes, release: Callable[[], None] | None = None
    ) -> None:
        self._resident = resident
        self._release = release or heap_trimmer()
        self._floor = 0

    def check(self) -> None:
        """Return free pages if there may be many; what is then still in use is the new normal."""
        if self._resident() <= self._floor + GROWTH:
            return
        self._release()
        if self._resident() > self._floor + GROWTH:
            gc.collect()  # of what has come since `trim`
            self._release()
        self._floor = self._resident()
