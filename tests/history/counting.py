"""Stands for what workers have counted, and for the clocks."""

from __future__ import annotations

from collections import defaultdict

from hotswap_proxy.history.encoding import encode
from hotswap_proxy.history.recorder import Told
from hotswap_proxy.observe import histogram

START = 1_800_000_000.0  # a whole minute
FIRST = int(START // 60)


class Clock:
    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self, _connection: object = None) -> float:
        return self.now


def bucket(milliseconds: float) -> int:
    return next(index for index, upper in enumerate(histogram.UPPER) if milliseconds * 1000 < upper)


class Counts:
    """As ``_core.Rollups``."""

    def __init__(self) -> None:
        self.since: dict[tuple[str | None, str], list[tuple[bool, float]]] = defaultdict(list)

    def serve(
        self, route_id: str | None, arm: str = "stable", *milliseconds: float, failed: bool = False
    ) -> None:
        self.since[route_id, arm] += [(failed, each) for each in milliseconds or (1.0,)]

    def take(self) -> Told:
        told = self._told(dict(self.since))
        self.since.clear()
        return told

    def peek(self, route_id: str | None = None) -> Told:
        if route_id is None:
            return self._told(dict(self.since))[0], []
        return self._told({key: value for key, value in self.since.items() if key[0] == route_id})

    @staticmethod
    def _told(counted: dict[tuple[str | None, str], list[tuple[bool, float]]]) -> Told:
        every = [one for each in counted.values() for one in each]
        return _count(every), [(*key, *_count(value)) for key, value in counted.items()]


def _count(requests: list[tuple[bool, float]]) -> tuple[int, int, bytes]:
    counts = [0] * histogram.SIZE
    for _, milliseconds in requests:
        counts[bucket(milliseconds)] += 1
    return len(requests), sum(failed for failed, _ in requests), encode(counts)
