"""Notices that the configuration file has changed, by looking at it twice a second.

watchfiles would notice a moment sooner and costs 5 MB of memory; a stat of one file costs nothing. Looking at
the path instead of watching an inode also covers editors that rename and the symbolic links that Kubernetes
swaps.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

INTERVAL = 0.5
Signature = tuple[int, int, int, int] | None


def signature(path: Path) -> Signature:
    """What tells one state of a file from another; None while there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


class FileWatch:
    """Waits for changes of one file. ``seen`` is what was last handed to the caller."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen = signature(path)

    def note(self) -> None:
        """Take what the file is now as seen."""
        self.seen = signature(self.path)

    async def changed(self, interval: float = INTERVAL) -> None:
        """Return when the file differs from what was last seen, and has held still for one interval.

        A file that is being written, or is gone for a moment while an editor replaces it, is waited for.
        """
        before = self.seen
        while True:
            await asyncio.sleep(interval)
            now = signature(self.path)
            if now is not None and now != self.seen and now == before:
                self.seen = now
                return
            before = now
