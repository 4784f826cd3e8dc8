"""The thread that takes what the workers tell of their requests: lines for the access log, spans for traces.

A thread and not the event loop, because a disk can hang: then the rings fill, and what does not fit is counted
and not waited for. What is costly (reading the rings, formatting, writing) happens in Rust without the
interpreter's lock.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hotswap_proxy.observe.logfile import LogFile, LogFileError

log = logging.getLogger("hotswap_proxy.control")

SHORTEST, LONGEST = 0.02, 0.1  # seconds between two looks: under load, and when nothing happens
LAST_WITHIN = 5.0  # seconds for the last look: a disk that hangs must not keep the node from its end


class Journal(Protocol):
    """What is used of ``_core.Journal``."""

    def drain(self, log_fd: int) -> Mapping[str, Any]:
        """Take what is in the rings; write the lines to ``log_fd`` (-1: no access log)."""


@dataclass(slots=True)
class Counts:
    """Since the node started. Written by the thread alone."""

    lines: int = 0
    dropped: int = 0  # records for which there was no room
    errors: int = 0  # writes of lines that failed


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
        self._ending = False
        self._failing = False
        self.counts = Counts()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def reopen(self) -> None:
        """Have the access log opened anew before the next line. Returns at once."""
        self._reopen.set()
        self._wake.set()

    async def stop(self) -> None:
        """Take what is left, after the workers have ended; gives up after some seconds."""
        self._ending = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, LAST_WITHIN)
        if self._thread.is_alive():
            log.error("the access log cannot be written to its end", extra={"file": self._name})

    @property
    def _name(self) -> str | None:
        return self._file.name if self._file is not None else None

    def _run(self) -> None:
        wait = SHORTEST
        while True:
            ending = self._ending  # before the look: what came before the end was announced is seen by it
            try:
                found = self._look()
            except Exception:
                log.exception("the journal cannot be read")
                found = 0
            if ending:
                return
            wait = SHORTEST if found else min(2 * wait, LONGEST)
            self._wake.wait(wait)
            self._wake.clear()

    def _look(self) -> int:
        """One turn; the number of records found."""
        if self._reopen.is_set():
            self._reopen.clear()
            self._open_anew()
        taken = self._journal.drain(self._file.fd if self._file is not None else -1)
        counts = self.counts
        counts.lines += taken["lines"]
        counts.dropped += taken["dropped"]
        counts.errors += taken["errors"]
        self._tell_of(taken.get("error"))
        if self._spans is not None and taken["spans"]:
            self._spans(taken["spans"])
        return int(taken["records"])

    def _open_anew(self) -> None:
        if self._file is None:
            return
        try:
            if self._file.reopen():
                log.info("access log opened anew", extra={"file": self._name})
        except LogFileError as error:
            self.counts.errors += 1
            log.error("the access log stays the file it was", extra={"reason": str(error)})

    def _tell_of(self, error: str | None) -> None:
        """Once when it begins to fail, once when it is well again."""
        if error is not None and not self._failing:
            log.error("the access log cannot be written", extra={"file": self._name, "reason": error})
        elif error is None and self._failing:
            log.warning("the access log is written again", extra={"file": self._name})
        self._failing = error is not None
