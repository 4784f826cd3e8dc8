"""Answers about a span of time: the roll-ups of all nodes, and what this one has counted since its last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from hotswap_proxy.observe import histogram as hist
from hotswap_proxy.store import Store, rollups
from hotswap_proxy.store.rollups import ALL, QUARTER, Row
from hotswap_proxy.store.times import of_seconds

from .coarsening import FINE, begin_of
from .encoding import add
from .recorder import MINUTE, Recent, Recorder


@dataclass(slots=True)
class Sum:
    """Counts of a series over a span of time; ``latency``: all buckets."""

    requests: int = 0
    failed: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * hist.SIZE)

    def add(self, requests: int, failed: int, latency: bytes) -> None:
        self.requests += requests
        self.failed += failed
        add(self.latency, latency)

    def merge(self, other: Sum) -> None:
        self.requests += other.requests
        self.failed += other.failed
        self.latency = [one + another for one, another in zip(self.latency, other.latency, strict=True)]

    @property
    def error_rate(self) -> float | None:
        """Failed part of the requests, 0–1; None without requests."""
        return round(self.failed / self.requests, 6) if self.requests else None

    def answer(self) -> dict[str, Any]:
        """Counts, rate, and latencies in milliseconds."""
        latency = hist.milliseconds(self.latency)
        return {
            "requests": self.requests,
            "failed": self.failed,
            "errorRate": self.error_rate,
            **{name: latency[name] for name in ("p50", "p95", "p99")},
        }


def total(arms: Iterable[Sum]) -> Sum:
    whole = Sum()
    for each in arms:
        whole.merge(each)
    return whole


@dataclass(slots=True)
class Window:
    """``start`` to ``end``: what is covered, seconds since 1970. ``points``: minute (of its step) → arm →
    counts; the arm of ``ALL`` and of requests without a route is "".
    """

    text: str
    start: float
    end: float
    step: int
    points: dict[int, dict[str, Sum]]
    live_minute: int
    over: int  # requests of the minutes before that

    def arms(self) -> dict[str, Sum]:
        """Counts of the whole span."""
        found: dict[str, Sum] = {}
        for arms in self.points.values():
            for arm, counts in arms.items():
                found.setdefault(arm, Sum()).merge(counts)
        return found

    def answer(self) -> dict[str, str]:
        """``window`` of an answer."""
        return {"timeWindow": self.text, "from": of_seconds(self.start), "to": of_seconds(self.end)}

    def per_second(self) -> float:
        """Requests a second over the minutes that are over, of which all nodes have told; before there is
        one, over what there is of the present one.
        """
        full = min(self.live_minute * MINUTE, self.end) - self.start
        if full >= 1:
            requests, seconds = self.over, full
        else:
            requests, seconds = total(self.arms().values()).requests, self.end - self.start
        return round(requests / seconds, 2) if seconds >= 1 else float(requests)


class History:
    """Of all nodes, through the store; StoreUnavailable when it is away."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder

    async def window(
        self,
        route_id: str,
        text: str,
        minutes: int,
        *,
        step: int = 1,
        since: float = 0.0,
        until: float = float("inf"),
    ) -> Window:
        """The last ``minutes`` that are over and the one that is not, within ``since`` and ``until``; of
        ``ALL``: all routes together. A point is ``step`` minutes long and begins at a multiple of that.
        What is older than ``FINE`` is there by quarters of an hour: so are the ends and the points then.
        """
        recent = await self._recorder.recent(route_id, minutes)
        first = max(recent.minute - minutes, int(since // MINUTE))
        last = min(recent.minute, int(min(until, recent.now) // MINUTE))
        fine = recent.minute - FINE
        if first < fine:
            first, step = begin_of(first), -(-step // QUARTER) * QUARTER
        if last < fine:
            last = begin_of(last) + QUARTER - 1
        return await self._store.read(self._read, route_id, text, first, last, step, recent)

    def _read(
        self,
        connection: Connection,
        route_id: str,
        text: str,
        first: int,
        last: int,
        step: int,
        recent: Recent,
    ) -> Window:
        """In the store's thread: a day of a busy route is some ten milliseconds' work."""
        points: dict[int, dict[str, Sum]] = {}
        oldest = rollups.oldest(connection)
        known = [minute for minute, _ in recent.pending] + [recent.minute]
        if oldest is not None:
            known.append(oldest)
        first = max(first, min(known))
        over = 0

        def count(minute: int, row: Row | rollups.Counted) -> None:
            nonlocal over
            if first <= minute <= last:
                over += row.requests if minute < recent.minute else 0
                arms = points.setdefault(minute - minute % step, {})
                arms.setdefault(row.arm, Sum()).add(row.requests, row.failed, row.latency)

        own = self._recorder.node_id
        for row in rollups.of_route(connection, route_id, range(first, last + 1)):
            if row.node_id != own or (row.minute, row.part) not in recent.waiting:
                count(row.minute, row)
        for minute, pending in recent.pending:
            count(minute, pending)
        for live in recent.live:
            count(recent.minute, live)
        end = min(recent.now, (last + 1) * MINUTE)
        start = recent.since if first == recent.minute else first * MINUTE
        return Window(text, min(start, end), end, step, points, recent.minute, over)


def series(window: Window, shown: Callable[[Sum], dict[str, Any]] = Sum.answer) -> list[dict[str, Any]]:
    """The points of a graph, also of minutes without traffic."""
    width = window.step
    first = int(window.start // MINUTE)
    points = []
    for minute in range(first - first % width, int(window.end // MINUTE) + 1, width):
        if minute * MINUTE >= window.end:
            break
        arms = window.points.get(minute, {})
        points.append(
            {"minute": of_seconds(minute * MINUTE)}
            | shown(total(arms.values()))
            | {"arms": {arm: shown(counts) for arm, counts in sorted(arms.items())}}
        )
    return points


__all__ = ["ALL", "History", "Sum", "Window", "series", "total"]
