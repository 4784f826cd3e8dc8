"""Looks whether the store has something new, twice a second, and at once when another node says so."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from hotswap_proxy.errors import GatewayError, StoreUnavailable
from hotswap_proxy.store import Store, revisions
from hotswap_proxy.store.revisions import Head

log = logging.getLogger("hotswap_proxy.control")

POLL = 0.5  # seconds
PATIENCE = 5.0  # for one small read; then the store counts as lost. Lanes give up before it
RETRY_FIRST, RETRY_LAST = 1.0, 60.0  # after a failure that is not the store's


class Follows(Protocol):
    """What is used of ``Configuration``."""

    @property
    def revision(self) -> int: ...
    @property
    def remembered(self) -> bool: ...
    @property
    def has_to_try(self) -> bool: ...
    def serves(self, head: Head) -> bool: ...
    async def follow(self) -> bool: ...


class FollowLoop:
    """``store_up`` and ``store_since``: as the last look found it."""

    def __init__(self, store: Store, configuration: Follows) -> None:
        self.store_up = not configuration.remembered
        self.store_since = time.time()
        self.store_error = ""
        self.newest = configuration.revision  # of the store, as far as it is known
        self.on_change: Callable[[], None] = lambda: None  # this node serves another revision
        self.when_up: list[Callable[[], Awaitable[None]]] = []  # after the store was lost, and at the start
        self._store = store
        self._configuration = configuration
        self._told = asyncio.Event()
        self._failures = 0
        self._not_before = 0.0

    def hear(self, revision: int) -> None:
        """Another node says that there is this revision."""
        if revision > self._configuration.revision:
            self._told.set()

    def hurry(self) -> None:
        """Messages may have been missed."""
        self._told.set()

    async def run(self) -> None:
        """Follow, until cancelled."""
        pending = list(self.when_up)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._told.wait()
            self._told.clear()
            try:
                was_up = self.store_up
                await self._look()
                if not was_up:
                    pending = list(self.when_up)
                while pending:
                    await self._do(pending[0])
                    pending.pop(0)
            except StoreUnavailable as error:
                self._lost(error.message)
            except Exception:
                log.exception("following the store failed; it is tried again")

    @staticmethod
    async def _do(action: Callable[[], Awaitable[None]]) -> None:
        """Only a store that is lost again is a reason to do it again: what fails otherwise would keep the
        others waiting, and fail twice a second.
        """
        try:
            await action()
        except StoreUnavailable:
            raise
        except GatewayError as error:
            log.error("something is missing although the store is back", extra={"reason": str(error)})
        except Exception:
            log.exception("something is missing although the store is back")

    async def _look(self) -> None:
        configuration = self._configuration
        await self._store.prepare()  # when it was away at the start
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self._store.read(revisions.head)
        except TimeoutError:
            raise StoreUnavailable("the store does not answer in time") from None
        self._found()
        moved = head.revision != self.newest
        self.newest = head.revision
        if configuration.serves(head) and not configuration.has_to_try:
            return
        if not moved and time.monotonic() < self._not_before:
            return
        before = configuration.revision
        try:
            await configuration.follow()
        except StoreUnavailable:
            raise
        except Exception as error:
            pause = min(RETRY_FIRST * 2**self._failures, RETRY_LAST)
            self._failures = min(self._failures + 1, 10)
            self._not_before = time.monotonic() + pause
            log.error(
                "the newest configuration cannot be served; what is live goes on",
                extra={"reason": str(error), "revision": head.revision, "retry_seconds": pause},
                exc_info=True,
            )
            return
        self._failures = 0
        if configuration.revision != before:
            self.on_change()

    def _found(self) -> None:
        if not self.store_up:
            log.info(
                "the store answers again", extra={"lost_seconds": round(time.time() - self.store_since, 1)}
            )
            self.store_up, self.store_since, self.store_error = True, time.time(), ""

    def _lost(self, reason: str) -> None:
        if self.store_up:
            log.error("the store is lost; what is live goes on", extra={"reason": reason})
            self.store_up, self.store_since = False, time.time()
        self.store_error = reason
