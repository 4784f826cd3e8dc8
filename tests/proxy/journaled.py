"""The access log of a worker, as tests read it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from harness.wait import eventually

from hotswap_proxy import _core

Line = dict[str, Any]


def outcome(line: Line) -> tuple[int, list[str]]:
    """The status, and the flags that say why."""
    return line["status"], line["flags"]


class Told:
    """The access log of one journal, read as it grows."""

    def __init__(self, journal: _core.Journal, path: Path) -> None:
        self.journal = journal
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.seen = 0

    def next(self, count: int = 1) -> list[Line]:
        """The next lines, so many and no more; waits for them."""

        def enough() -> bool:
            found = self.journal.drain(self.fd)
            assert found["corrupt"] == found["dropped"] == found["linesLost"] == 0
            return self.path.read_bytes().count(b"\n") >= self.seen + count

        eventually(enough)
        lines = self.path.read_bytes().splitlines()[self.seen :]
        assert len(lines) == count, lines
        self.seen += count
        return [json.loads(line) for line in lines]

    def one(self) -> Line:
        (line,) = self.next()
        return line
