"""The declarative file of a running node: read at start, again on SIGHUP and when it changes.

A node started with ``--config`` mirrors the file: what is not in it goes away when the file is applied. A
file with mistakes changes nothing; at start it ends the node, later it is logged and the configuration that
is live goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotswap_proxy.control.filewatch import INTERVAL, FileWatch, signature
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
    """Applies one file to a ``Configuration``. ``note`` is told of each reload: None or why the file was
    refused.
    """

    def __init__(self, path: Path, configuration: Configuration) -> None:
        self._path = path
        self._configuration = configuration
        self.note: Callable[[str | None], None] = lambda _reason: None
        self._watch = FileWatch(path)
        self._asked = asyncio.Event()

    async def apply(self) -> Any:
        """Read and apply the file; raises GatewayError and changes nothing when it has a mistake."""
        from hotswap_proxy import configfile

        self._watch.seen = signature(self._path)  # what is read now needs no second reload by the watch
        document = await asyncio.to_thread(configfile.load, self._path, self._configuration.rules)
        return await self._configuration.apply(document, prune=True, author=AUTHOR)

    def ask(self) -> None:
        """Reload soon (SIGHUP)."""
        self._asked.set()

    async def run(self, interval: float = INTERVAL) -> None:
        """Reload whenever asked to or the file has changed, until cancelled."""
        watching = asyncio.create_task(self._watch_file(interval))
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                await self._reload()
        finally:
            watching.cancel()

    async def _watch_file(self, interval: float) -> None:
        while True:
            await self._watch.changed(interval)
            log.info("the configuration file has changed", extra={"file": str(self._path)})
            self._asked.set()

    async def _reload(self) -> None:
        try:
            await self.apply()
        except GatewayError as error:
            problems = sentences(error)
            self.note(problems[0])
            log.error(
                "configuration file refused; the configuration that is live goes on",
                extra={"file": str(self._path), "problems": problems},
            )
        except Exception as error:
            # Whatever it is, the node must outlive it: the configuration that is live does not depend on the
            # file.
            self.note(str(error) or type(error).__name__)
            log.exception(
                "reload failed; the configuration that is live goes on", extra={"file": str(self._path)}
            )
        else:
            self.note(None)
            configuration = self._configuration
            log.info(
                "configuration file applied",
                extra={
                    "file": str(self._path),
                    "generation": configuration.generation,
                    "routes": configuration.routes,
                    "backends": configuration.backends,
                },
            )
