"""The database of regions: loaded, checked, given to the workers, and loaded again when its file changes.

Workers map a sealed copy in memory and not the file itself: a file that is cut short while it is mapped ends
its readers (SIGBUS), and whoever updates a database with ``cp`` does just that. The node has one copy.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hotswap_proxy import _core
from hotswap_proxy.control.filewatch import FileWatch

log = logging.getLogger("hotswap_proxy.control")

MAX_BYTES = 1 << 30


class Regions:
    """``give`` gets a descriptor, and owns it, whenever there is a database to be used from then on."""

    def __init__(self, path: Path | None, give: Callable[[int], None]) -> None:
        self._path = path
        self._give = give
        self._watch = FileWatch(path) if path is not None else None
        self._found: _core.Regions | None = None
        self._warned = False
        self.error: str | None = None

    async def load(self) -> bool:
        """Use what the file is now. False, with the reason in ``error``, if it cannot be used: the one before
        stays.
        """
        if self._path is None:
            return False
        try:
            fd, found = await asyncio.to_thread(_open, self._path)
        except (OSError, ValueError) as error:
            reason = str(error)
            if reason != self.error:
                log.error(
                    "the database of regions cannot be used",
                    extra={"file": str(self._path), "reason": reason},
                )
            self.error = reason
            return False
        self._give(fd)
        self._found, self.error = found, None
        log.info("database of regions loaded", extra={"file": str(self._path), "built": self._built()})
        return True

    async def run(self) -> None:
        """Load the file again whenever it has changed."""
        while self._watch is not None:
            await self._watch.changed()
            try:
                await self.load()
            except Exception:
                log.exception("the database of regions could not be renewed; the one before stays")

    def check_need(self, needed: bool) -> None:
        """Say once that routes ask for regions of which nothing is known."""
        if not needed:
            self._warned = False
        elif self._found is None and not self._warned:
            self._warned = True
            log.warning(
                "routes decide by :country or :continent without a database: all go to the default backend"
            )

    def report(self) -> dict[str, Any] | None:
        """For ``GET /gateway/nodes``; None: no database is configured."""
        if self._path is None:
            return None
        return {
            "file": str(self._path),
            "loaded": self._found is not None,
            "databaseType": self._found["databaseType"] if self._found else None,
            "built": self._built(),
            "error": self.error,
        }

    def _built(self) -> str | None:
        return datetime.fromtimestamp(self._found["built"], UTC).isoformat() if self._found else None


def _open(path: Path) -> tuple[int, _core.Regions]:
    """A sealed copy of a database, checked."""
    copy = os.memfd_create("regions", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise ValueError(f"{path} is larger than {MAX_BYTES} bytes")
            while part := file.read(1 << 20):
                _write(copy, part)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
        return copy, _core.examine_regions(copy)
    except BaseException:
        os.close(copy)
        raise


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
