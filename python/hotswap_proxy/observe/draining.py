"""The thread that takes what workers tell of their requests: lines for the access log, spans for traces.

A thread and not the event loop, because a disk can hang: then the rings fill, and what does not fit is
counted and not waited for. What is costly (reading the rings, formatting, writing) happens in Rust without
the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hotswap_proxy.observe.exposition import family
from hotswap_proxy.observe.logfile import LogFile, LogFileError

log = logging.getLogger("hotswap_proxy.control")

SHORTEST, LONGEST = 0.02, 0.1  # seconds between two looks: under load, and when nothing happens
LAST_WITHIN = 5.0  # seconds for the last looks: a disk that hangs must not keep the node from its end
HANGS_AFTER = 5.0  # seconds of one look
TELL_EVERY = 60.0  # seconds between two messages that records were dropped


class Journal(Protocol):
    """What is used of ``_core.Journal``."""

    @property
    def dropped(self) -> int:
        """Records that found a ring full; known also while ``drain`` hangs."""

    def drain(self, log_fd: int) -> Mapping[str, Any]:
        """Take what is in the rings; write the lines to ``log_fd`` (-1: no access log)."""


@dataclass(slots=True)
class Counts:
    """Since the node started. Written by the thread alone."""

    lines: int = 0
    lost: int = 0  # lines that could not be written
    broken: int = 0  # records that could not be read


class Draining:
    """``spans`` is given the spans of sampled requests, in the thread; it must not wait."""

    def __init__(
        self, journal: Journal, file: LogFile | None, spans: Callable[[bytes], None] | None = None
    ) -> None:
        self._journal = journal
        self._file = file
        self._spans = spans
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._wake = threading.Event()
        self._reopen = threading.Event()
        self._ending = threading.Event()
        self._look_began: float | None = None  # of the one that is under way, monotonic
        self._told_of_hanging = False
        self._told_of_drops = -TELL_EVERY
        self._missing = 0  # requests that were told of as missing
        self._failing = self._unreadable = False
        self.counts = Counts()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def reopen(self) -> None:
        """Have the access log opened anew before the next line. Returns at once."""
        self._reopen.set()
        self._wake.set()

    def metrics(self) -> Iterator[str]:
        """What was counted, as text for Prometheus."""
        yield from family(
            "gateway_journal_dropped_total",
            "counter",
            "Requests missing in access log and traces: there was no room, or they were not readable.",
            [({"reason": "full"}, self._journal.dropped), ({"reason": "broken"}, self.counts.broken)],
        )
        if self._file is not None:
            name, text = "gateway_access_log_lines_total", "Lines written to the access log."
            yield from family(name, "counter", text, [({}, self.counts.lines)])
            name, text = (
                "gateway_access_log_errors_total",
                "Lines that could not be written to the access log.",
            )
            yield from family(name, "counter", text, [({}, self.counts.lost)])

    def check(self) -> None:
        """Say what is wrong, in another thread than ours, which may hang. Called each second."""
        began, now = self._look_began, time.monotonic()
        hangs = began is not None and now > began + HANGS_AFTER
        if hangs and not self._told_of_hanging:
            log.error("the access log hangs; lines wait while there is room", extra=self._place)
        elif self._told_of_hanging and not hangs:
            log.warning("the access log hangs no more", extra=self._place)
        self._told_of_hanging = hangs
        full, broken = self._journal.dropped, self.counts.broken
        if full + broken > self._missing and now > self._told_of_drops + TELL_EVERY:
            self._missing, self._told_of_drops = full + broken, now
            told = {"full": full, "broken": broken}
            log.error("requests are missing in the access log or traces", extra=told)

    async def stop(self) -> None:
        """Take what is left, after the workers have ended; gives up after some seconds."""
        self._ending.set()
        self._wake.set()
        await asyncio.to_thread(self._thread.join, LAST_WITHIN)
        self._told_of_drops = -TELL_EVERY  # what is not told now never is
        self.check()
        if self._thread.is_alive():  # a daemon: the process ends without it
            log.error("the access log is not written to its end", extra=self._place)

    @property
    def _place(self) -> dict[str, str]:
        return {"file": self._file.name} if self._file is not None else {}

    def _run(self) -> None:
        wait = SHORTEST
        while True:
            ending = self._ending.is_set()  # first: what is told before the end is seen by the look after it
            busy = self._turn()
            if ending and not busy:
                return
            wait = SHORTEST if busy else min(2 * wait, LONGEST)
            self._wake.wait(wait)
            self._wake.clear()

    def _turn(self) -> bool:
        """One look that survives everything; whether there was something."""
        self._look_began = time.monotonic()
        try:
            if self._reopen.is_set():
                self._reopen.clear()
                self._open_anew()
            found = self._look()
            self._unreadable = False
            return found
        except Exception:
            if not self._unreadable:  # once: the next look comes in a tenth of a second
                log.exception("the journal cannot be read")
            self._unreadable = True
            return False
        finally:
            self._look_began = None

    def _look(self) -> bool:
        taken = self._journal.drain(self._file.fd if self._file is not None else -1)
        counts = self.counts
        counts.lines += taken["lines"]
        counts.lost += taken["linesLost"]
        counts.broken += taken["corrupt"]
        self._tell_of_errors(taken["error"], taken["lines"])
        if self._spans is not None and (spans := taken.get("spans")):
            self._spans(spans)
        return bool(taken["records"])

    def _open_anew(self) -> None:
        if self._file is None:
            return
        try:
            if self._file.reopen():
                log.info("access log opened anew", extra=self._place)
        except LogFileError as error:
            log.error("the access log stays the file it was", extra={"reason": str(error)})

    def _tell_of_errors(self, error: str | None, lines: int) -> None:
        """Once when it begins to fail, once when it is well again."""
        if error is not None and not self._failing:
            log.error("the access log cannot be written", extra={**self._place, "reason": error})
            self._failing = True
        elif error is None and lines and self._failing:
            log.warning("the access log is written again", extra=self._place)
            self._failing = False
