"""Makes quarters of hours of this node's minutes that are older than anybody looks at one by one.

A day of 10,000 busy routes is 14 million minutes, and 3 million of these. Nothing is lost but the moment: the
counts and histograms are added up. ``windows`` reads quarters from their begin to their end.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from hotswap_proxy.observe import histogram as hist
from hotswap_proxy.store import rollups
from hotswap_proxy.store.rollups import QUARTER, Counted

from .encoding import add, encode

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hotswap_proxy.store import Store

# Minutes that stay as they are: what the detector learns from (``baseline.HISTORY``), what waits for the
# store (``recorder.MAX_MINUTES``), and a quarter.
FINE = 4 * 60
APART = 2  # minutes that another node's clock may be ahead of the one that reads
ROUTES = 200  # of one transaction: some 3,000 rows, 50 ms; the thread that does it also renews leases
_PART = -1  # no run's, see ``rollups.write``


def begin_of(minute: int) -> int:
    """Of its quarter."""
    return minute - minute % QUARTER


class Coarsening:
    """``next``: the quarter that comes next; None before the first turn."""

    def __init__(self, store: Store, node_id: str) -> None:
        self._store = store
        self._node_id = node_id
        self._next: int | None = None

    async def turn(self, now: int) -> None:
        """One quarter, if one is due: so a long absence is made up for bit by bit. Those of which nothing is
        left to do cost a look.
        """
        due = begin_of(now - FINE - APART)
        if self._next is None or self._next > due:  # the clock may have gone back
            oldest = await self._store.read(rollups.oldest)
            self._next = due if oldest is None else begin_of(max(oldest, now - rollups.KEPT))
        found: list[str] = []
        while self._next < due and not found:
            found = await self._store.read(rollups.routes_of, self._next, self._node_id, _PART)
            for start in range(0, len(found), ROUTES):
                part = found[start : start + ROUTES]
                await self._store.beat(_coarsen, self._next, self._node_id, part[0], part[-1])
            self._next += QUARTER


def _coarsen(connection: Connection, quarter: int, node_id: str, first: str, last: str) -> None:
    """All at once, and the same when it is done twice."""
    rows = rollups.take_quarter(connection, quarter, node_id, first, last)
    coarse = [
        _sum(*key, list(of_series)) for key, of_series in groupby(rows, lambda row: (row.route_id, row.arm))
    ]
    rollups.write(connection, quarter, node_id, _PART, coarse)


def _sum(route_id: str, arm: str, rows: list[Counted]) -> rollups.Row:
    latency = [0] * hist.SIZE
    for row in rows:
        add(latency, row.latency)
    requests, failed = sum(row.requests for row in rows), sum(row.failed for row in rows)
    return rollups.Row(route_id, arm, requests, failed, encode(latency))
