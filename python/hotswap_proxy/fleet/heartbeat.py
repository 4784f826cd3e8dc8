"""Tells the store of this node, and keeps what the store knows of the others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hotswap_proxy.errors import GatewayError
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store

from . import nodes
from .nodes import Beat, Node

log = logging.getLogger("hotswap_proxy.control")

PATIENCE = 3.0  # seconds for one beat; the next one says the same


class Heartbeat:
    """``fleet`` is what the last beat found, ``at`` when that was (monotonic). ``rival``: see ``Seen``."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        boot_id: str,
        revision: Callable[[], int],
        describe: Callable[[], dict[str, Any]],
    ) -> None:
        self.fleet: list[Node] = []
        self.at = 0.0
        self.rival: str | None = None
        self.rival_since = 0.0
        self._store = store
        self._settings = settings
        self._boot_id = boot_id
        self._revision = revision
        self._describe = describe
        # A file has no other nodes, and each beat is a write to the disk.
        self._interval = nodes.BEAT if settings.database_url is not None else nodes.BEAT_ALONE
        self._started = time.monotonic()
        self._wanted = asyncio.Event()

    def hurry(self) -> None:
        """There is something to tell."""
        self._wanted.set()

    async def run(self) -> None:
        """Beat, until cancelled."""
        while True:
            self._wanted.clear()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.beat()
            except (GatewayError, TimeoutError):
                pass  # whoever looks after the store says so
            except Exception:
                log.exception("a heartbeat failed; the next one comes")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wanted.wait()

    async def beat(self) -> None:
        own = Beat(
            self._settings.node_id,
            self._boot_id,
            self._settings.environment,
            self._revision(),
            self._describe(),
            time.monotonic() - self._started,
        )
        seen = await self._store.beat(nodes.beat, own)
        self.fleet, self.at = seen.fleet, time.monotonic()
        if seen.rival is not None and self.rival is None:
            self.rival_since = time.time()
            log.error(
                "another node has this node's id: give each one its own with --node-id",
                extra={"node_id": own.node_id, "boot_id": own.boot_id, "other_boot_id": seen.rival},
            )
        self.rival = seen.rival

    async def leave(self) -> None:
        """Say goodbye, if that is quickly done."""
        with suppress(GatewayError, TimeoutError):
            async with asyncio.timeout(0.5):
                await self._store.beat(nodes.leave, self._settings.node_id, self._boot_id)
