"""The declarative file of a running node: read again on SIGHUP and when it changes.

A node started with ``--config`` mirrors the file: what is not in it goes away when the file is applied. A
file with mistakes changes nothing; it is logged, and the configuration that is live goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hotswap_proxy.control.filewatch import INTERVAL, FileWatch, Signature
from hotswap_proxy.errors import GatewayError

if TYPE_CHECKING:
    from hotswap_proxy.control.configuration import Configuration

log = logging.getLogger("hotswap_proxy.control")

AUTHOR = "file"


def sentences(error: GatewayError) -> list[str]:
    """Every problem of a refused file, one sentence each, with the field it is about."""
    if not error.details:
        return [error.message]
    return [
        f"{detail.field}: {detail.message}" if detail.field else detail.message for detail in error.details
    ]


class ConfigFileReloader:
    """Applies one file to a ``Configuration``. What the file is when this is made counts as applied, unless
    ``applied`` says otherwise.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.refused_at_start = False
        self.missed = False  # not applied at the start, because the store was away
        self._watch = FileWatch(path)
        self._asked = asyncio.Event()
        self._reloading = False

    @property
    def applied(self) -> Signature:
        """The state of the file that was applied last; None while one is under way."""
        return None if self._asked.is_set() or self._reloading else self._watch.seen

    @applied.setter
    def applied(self, state: Signature) -> None:
        self._watch.seen = state

    def ask(self) -> None:
        """Reload soon (SIGHUP)."""
        self._asked.set()

    async def run(
        self, configuration: Configuration, note: Callable[[str | None], None], interval: float = INTERVAL
    ) -> None:
        """Reload when asked to and when the file has changed, until cancelled.

        ``note`` is told of each outcome: None, or why the file was refused.
        """
        watching = asyncio.create_task(self._watch_file(interval))
        try:
            while True:
                await self._asked.wait()
                self._reloading = True
                self._asked.clear()
                note(await self._reload(configuration))
                self._reloading = False
        finally:
            if self._reloading:  # not to its end: whoever goes on does it again
                self._reloading = False
                self._asked.set()
            watching.cancel()

    async def _watch_file(self, interval: float) -> None:
        while True:
            await self._watch.changed(interval)
            log.info("the configuration file has changed", extra={"file": str(self._path)})
            self._asked.set()

    async def _apply(self, configuration: Configuration) -> dict[str, int]:
        self._watch.note()  # what is read now needs no second reload by the watch
        done = await configuration.apply(self._path, prune=True, author=AUTHOR)
        return {"added": done.added, "changed": done.changed, "removed": done.removed}

    async def _reload(self, configuration: Configuration) -> str | None:
        name = str(self._path)
        try:
            counts = await self._apply(configuration)
        except GatewayError as error:
            problems = sentences(error)
            log.error(
                "configuration file refused; the configuration that is live goes on",
                extra={"file": name, "problems": problems},
            )
            return problems[0]
        except Exception as error:
            # Whatever it is, the node must outlive it: the live configuration does not depend on the file.
            log.exception("reload failed; the configuration that is live goes on", extra={"file": name})
            return str(error) or type(error).__name__
        log.info(
            "configuration file applied",
            extra={
                "file": name,
                "generation": configuration.generation,
                "routes": configuration.routes,
                "backends": configuration.backends,
                **counts,
            },
        )
        return None
