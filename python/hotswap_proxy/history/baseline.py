"""What is ordinary for a route, and whether a minute is not: pure functions of numbers.

Robust statistics: the median and the median absolute deviation (MAD; times 1.4826 it is the standard
deviation of a normal distribution) of the minutes before. Up to half of those may be out of the ordinary
without moving them much, where a mean and a standard deviation would be spoiled by one.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from hotswap_proxy.observe import histogram as hist

Kind = Literal["errorRate", "latency", "trafficDrop", "trafficSpike"]
KINDS: tuple[Kind, ...] = ("errorRate", "latency", "trafficDrop", "trafficSpike")

HISTORY = 180  # minutes that are remembered
LEAST = 30  # of them that must be ordinary ones with data, before anything is judged
MAD_TO_DEVIATION = 1.4826

# A minute says something about errors from so many requests on, and about the p99 from so many.
ERROR_REQUESTS, LATENCY_REQUESTS = 30, 100
ERROR_SCORE, ERROR_FLOOR, ERROR_POINTS = 6.0, 0.005, 0.01
WILSON_Z = 3.29  # 99.95 % on one side
LATENCY_SCORE, LATENCY_FLOOR, LATENCY_FACTOR, LATENCY_MS = 6.0, 0.1, 1.5, 5.0
TRAFFIC_REQUESTS = 60  # a minute, in the median: with fewer, none is nothing unusual
TRAFFIC_SCORE, TRAFFIC_FLOOR = 6.0, 0.1
DROP_PART = 0.1
SPIKE_FACTOR, SPIKE_OVER_MOST, SPIKE_REQUESTS = 3.0, 1.5, 300

_NO_P99 = 0xFFFF
_LOG_MS = tuple(math.log(bound / 1000) for bound in hist.UPPER)


class Minute(NamedTuple):
    """What was counted in a minute. ``p99``: its bucket, see ``observe.histogram``; None without requests."""

    requests: int
    failed: int
    p99: int | None


class Ordinary(NamedTuple):
    """What is to be expected: of the logarithm of requests, of the failed part (0–1), or of the logarithm of
    a p99 in ms.
    """

    minutes: int  # with data
    median: float
    deviation: float
    least: float
    most: float


class Judgement(NamedTuple):
    """``anomalous`` None: there is too little to say. ``value`` and ``expected``: requests a minute, a failed
    part (0–1) or milliseconds. ``score``: how many deviations apart they are.
    """

    anomalous: bool | None
    value: float = 0.0
    expected: float = 0.0
    score: float = 0.0


UNKNOWN = Judgement(None)


def ordinary(values: Iterable[float]) -> Ordinary:
    """Median and spread of some values."""
    sorted_values = sorted(values)
    if not sorted_values:
        return Ordinary(0, 0.0, 0.0, 0.0, 0.0)
    middle = _median(sorted_values)
    deviation = _median(sorted(abs(value - middle) for value in sorted_values))
    return Ordinary(
        len(sorted_values), middle, MAD_TO_DEVIATION * deviation, sorted_values[0], sorted_values[-1]
    )


def _median(sorted_values: Sequence[float]) -> float:
    half = len(sorted_values) // 2
    if len(sorted_values) % 2:
        return sorted_values[half]
    return (sorted_values[half - 1] + sorted_values[half]) / 2


def wilson_lower(failed: int, requests: int, z: float = WILSON_Z) -> float:
    """The least failed part that is credible when so many of the requests failed (Wilson's interval)."""
    part, square = failed / requests, z * z
    center = part + square / (2 * requests)
    margin = z * math.sqrt(part * (1 - part) / requests + square / (4 * requests * requests))
    return max(0.0, (center - margin) / (1 + square / requests))


def judge(kind: Kind, minute: Minute, usual: Ordinary) -> Judgement:
    """Whether a minute is out of the ordinary."""
    if usual.minutes < LEAST:
        return UNKNOWN
    if kind == "errorRate":
        return _error_rate(minute, usual)
    if kind == "latency":
        return _latency(minute, usual)
    return _traffic(kind, minute, usual)


def _error_rate(minute: Minute, usual: Ordinary) -> Judgement:
    """Chance is taken into account twice: the deviation is at least that of so many requests at the usual
    rate, and what counts is not the rate but the least that is credible.
    """
    if minute.requests < ERROR_REQUESTS:
        return UNKNOWN
    rate = minute.failed / minute.requests
    likely = min(max(usual.median, 0.001), 0.999)
    by_chance = math.sqrt(likely * (1 - likely) / minute.requests)
    score = (rate - usual.median) / max(usual.deviation, by_chance, ERROR_FLOOR)
    credible = wilson_lower(minute.failed, minute.requests) >= usual.median + ERROR_POINTS
    anomalous = score >= ERROR_SCORE and credible and rate > usual.most
    return Judgement(anomalous, rate, usual.median, score)


def _latency(minute: Minute, usual: Ordinary) -> Judgement:
    """On a logarithmic scale: what is usual for a p99 is a factor."""
    if minute.p99 is None or minute.requests < LATENCY_REQUESTS:
        return UNKNOWN
    value, expected = math.exp(_LOG_MS[minute.p99]), math.exp(usual.median)
    score = (_LOG_MS[minute.p99] - usual.median) / max(usual.deviation, LATENCY_FLOOR)
    large = value >= LATENCY_FACTOR * expected and value - expected >= LATENCY_MS
    anomalous = score >= LATENCY_SCORE and large and _LOG_MS[minute.p99] > usual.most
    return Judgement(anomalous, value, expected, score)


def _traffic(kind: Kind, minute: Minute, usual: Ordinary) -> Judgement:
    """On a logarithmic scale: traffic that comes in bursts differs by factors. What was seen before, in all
    these hours, is nothing unusual.
    """
    expected = math.exp(usual.median)
    if expected < TRAFFIC_REQUESTS:
        return UNKNOWN
    value = _log(minute.requests)
    score = (value - usual.median) / max(usual.deviation, TRAFFIC_FLOOR)
    if kind == "trafficDrop":
        large = score <= -TRAFFIC_SCORE and minute.requests <= DROP_PART * expected and value < usual.least
    else:
        large = (
            score >= TRAFFIC_SCORE
            and minute.requests >= SPIKE_FACTOR * expected
            and minute.requests - expected >= SPIKE_REQUESTS
            and minute.requests >= SPIKE_OVER_MOST * math.exp(usual.most)
        )
    return Judgement(large, minute.requests, expected, score)


def _log(requests: int) -> float:
    """None at all is half a request."""
    return math.log(requests or 0.5)


class RouteHistory:
    """The last minutes of a route, both arms together: eleven bytes each. ``excluded``: a bit for each kind
    that the minute was out of the ordinary in, and so is no measure of what is.
    """

    def __init__(self) -> None:
        self._requests = array("I")
        self._failed = array("I")
        self._p99 = array("H")
        self._excluded = array("B")

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def is_silent(self) -> bool:
        """No request in all of it."""
        return not any(self._requests)

    def add(self, minute: Minute, excluded: Iterable[Kind] = ()) -> None:
        bits = sum(1 << KINDS.index(kind) for kind in set(excluded))
        most = 0xFFFFFFFF
        columns = (
            (self._requests, min(minute.requests, most)),
            (self._failed, min(minute.failed, most)),
            (self._p99, _NO_P99 if minute.p99 is None else minute.p99),
            (self._excluded, bits),
        )
        for column, value in columns:
            column.append(value)
            if len(column) > HISTORY:
                column.pop(0)

    def include(self, kind: Kind) -> None:
        """What was out of the ordinary in this is ordinary now."""
        keep = 0xFF ^ (1 << KINDS.index(kind))
        self._excluded = array("B", (bits & keep for bits in self._excluded))

    def usual(self, kind: Kind) -> Ordinary:
        bit = 1 << KINDS.index(kind)
        rows = zip(self._requests, self._failed, self._p99, self._excluded, strict=True)
        if kind == "errorRate":
            return ordinary(
                failed / requests
                for requests, failed, _, excluded in rows
                if requests >= ERROR_REQUESTS and not excluded & bit
            )
        if kind == "latency":
            return ordinary(
                _LOG_MS[p99]
                for requests, _, p99, excluded in rows
                if requests >= LATENCY_REQUESTS and p99 != _NO_P99 and not excluded & bit
            )
        return ordinary(_log(requests) for requests, _, _, excluded in rows if not excluded & bit)
