"""Writes what this node has counted into the store, once a minute.

Minutes are those of the database's clock, so that those of all nodes are the same. What cannot be written is
kept in memory, with a bound, and written later. Nothing here is on the way of a request: the workers count in
shared memory as ever, and a thread looks at it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from sqlalchemy import Connection

from hotswap_proxy.errors import OutcomeUnknown, StoreUnavailable
from hotswap_proxy.store import Store, rollups
from hotswap_proxy.store.rollups import ALL, REMOVED, Row
from hotswap_proxy.store.times import database_clock

from .coarsening import Coarsening

log = logging.getLogger("hotswap_proxy.history")

MINUTE = 60  # seconds
BATCH = 2_000  # rows of one transaction: the thread that writes them also renews leases
MAX_MINUTES = 120  # that wait for the store
MAX_ROWS = 30_000  # of all of them together; some 8 MB
FAREWELL = 1.0  # seconds for the last minute, at the end
PRUNES = 20  # transactions in a row that make room, after a long absence

Told = tuple[tuple[int, int, bytes], list[tuple[str | None, str, int, int, bytes]]]
# The store's clock, in a transaction: seconds since 1970.
StoreClock = Callable[[Connection], float]


class Counting(Protocol):
    """What is needed of ``_core.Rollups``."""

    def take(self) -> Told: ...
    def peek(self, route_id: str | None = None) -> Told: ...


class Pending(NamedTuple):
    """A minute that is not in the store yet. ``part``: see ``rollups.write``."""

    minute: int
    part: int
    rows: list[Row]


class Recent(NamedTuple):
    """What only this node knows yet of a route, or of all (``ALL``)."""

    now: float  # the database's clock
    minute: int  # the one that is not over
    since: float  # ``live`` is counted from here on
    live: list[Row]  # counted since the last one was over
    pending: list[tuple[int, Row]]  # minutes that wait for the store
    waiting: frozenset[tuple[int, int]]  # (minute, part) of all these: they may be in the store any moment


class Recorder:
    """``clock``: this machine's, seconds since 1970; ``store_clock`` and ``sleep`` are for tests."""

    def __init__(
        self,
        counting: Counting,
        store: Store,
        node_id: str,
        boot_id: str,
        *,
        clock: Callable[[], float] = time.time,
        store_clock: StoreClock = database_clock,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._counting = counting
        self._store = store
        self.node_id = node_id
        self._boot_id = boot_id
        self._clock = clock
        self._store_clock = store_clock
        self._coarsening = Coarsening(store, node_id)
        self._thread = ThreadPoolExecutor(1, "history")
        self._pending: deque[Pending] = deque()
        self._sleep = sleep
        self._offset = 0.0  # of the database's clock to ours
        self._since = self.now()
        self._passes = 0  # how often the clock went back
        self._last: int | None = None  # minute that was taken last
        self._lost = 0
        self._failing = False
        self._writing = asyncio.Lock()

    def now(self) -> float:
        """The database's clock, as far as it was heard of."""
        return self._clock() + self._offset

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._guarded(self._look_at_the_clock)
        while True:
            await self._sleep(MINUTE - self.now() % MINUTE)
            await self._guarded(self.turn)

    async def turn(self) -> None:
        """The end of a minute: note it, write what waits, forget what is over."""
        # To the nearest one: a timer may be early, and a clock that was set may be anywhere.
        # What is taken is noted, also if this task is cancelled meanwhile: nobody else will be told of it.
        await asyncio.shield(self._take(round(self.now() / MINUTE) - 1))
        await self.flush()
        await self._tidy()

    async def _take(self, minute: int) -> None:
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._thread, self._told)
        if self._last is not None and minute <= self._last:
            self._passes += 1
        self._last, self._since = minute, self.now()
        self._pending.append(Pending(minute, self._part(), rows))
        waiting = sum(len(each.rows) for each in self._pending)
        while len(self._pending) > 1 and (len(self._pending) > MAX_MINUTES or waiting > MAX_ROWS):
            waiting -= len(self._pending.popleft().rows)
            self._lost += 1

    def _told(self) -> list[Row]:
        """In the thread. The sum comes last: who finds it finds the others too, see ``watch``."""
        total, found = self._counting.take()
        return [*_rows(found), Row(ALL, "", *total)]

    def _part(self) -> int:
        """The same for all minutes of a run, until the clock goes back."""
        return zlib.crc32(f"{self._boot_id}:{self._passes}".encode()) >> 1

    async def flush(self) -> None:
        """Write what waits, the oldest first. StoreUnavailable: some of it waits still."""
        async with self._writing:
            while self._pending:
                first = self._pending[0]
                for start in range(0, len(first.rows), BATCH):
                    rows = first.rows[start : start + BATCH]
                    await self._store.beat(rollups.write, first.minute, self.node_id, first.part, rows)
                # It may have been given up meanwhile, for one that is newer.
                if self._pending and self._pending[0] is first:
                    self._pending.popleft()
            if self._lost:
                log.error(
                    "minutes of the history are lost: the store was away", extra={"minutes": self._lost}
                )
                self._lost = 0
            await self._look_at_the_clock()

    async def _tidy(self) -> None:
        """Forget what is over, add up what is old."""
        now = int(self.now() // MINUTE)
        for _ in range(PRUNES):
            if not await self._store.beat(rollups.prune, now):
                break
        await self._coarsening.turn(now)

    async def _look_at_the_clock(self) -> None:
        before = self._clock()
        told = await self._store.read(self._store_clock)
        after = self._clock()
        # Between two looks at our clock, unless somebody has set it just then.
        if 0 <= after - before < 1.0:
            self._offset = told - (before + after) / 2

    async def recent(self, route_id: str, minutes: int) -> Recent:
        """Of the last ``minutes`` and the one that is not over. ``ALL``: all routes together."""
        loop = asyncio.get_running_loop()
        wanted = None if route_id == ALL else route_id
        (requests, failed, latency), found = await loop.run_in_executor(
            self._thread, self._counting.peek, wanted
        )
        # From here on nothing is awaited: the minute cannot end in between.
        live = [Row(ALL, "", requests, failed, latency)] if wanted is None else _rows(found)
        now = self.now()
        minute = int(now // MINUTE)
        waiting = list(self._pending)
        pending = [
            (each.minute, row)
            for each in waiting
            if minute - minutes <= each.minute < minute
            for row in each.rows
            if row.route_id == route_id
        ]
        parts = {(each.minute, each.part) for each in waiting} | {(minute, self._part())}
        return Recent(now, minute, self._since, live, pending, frozenset(parts))

    async def stop(self) -> None:
        """Write the minute that is not over; after the last request."""
        try:
            async with asyncio.timeout(FAREWELL):
                await self._take(int(self.now() // MINUTE))
                await self.flush()
        except Exception as error:
            log.warning("the last minute of the history is not written", extra={"reason": str(error)})
        finally:
            self._thread.shutdown(wait=False)

    async def _guarded(self, action: Callable[[], Awaitable[object]]) -> None:
        """Whatever happens, there is a next minute; said once until it works again."""
        try:
            await action()
            self._failing = False
        except Exception as error:
            if not self._failing:
                is_known = isinstance(error, StoreUnavailable | OutcomeUnknown)
                trace = None if is_known else error
                log.error("the history cannot be written now", extra={"reason": str(error)}, exc_info=trace)
            self._failing = True


def _rows(found: Iterable[tuple[str | None, str, int, int, bytes]]) -> list[Row]:
    return [Row(REMOVED if route_id is None else route_id, *counts) for route_id, *counts in found]  # type: ignore[arg-type]
