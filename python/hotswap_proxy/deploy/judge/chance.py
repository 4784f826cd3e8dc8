"""Random counts for simulations: exact binomials, and histograms of latencies. Seeded by the caller."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import log, log1p
from random import Random
from statistics import NormalDist

from hotswap_proxy.observe import histogram

from ..measurement import Latency

_FEW = 20.0  # expected hits up to which counting them one by one is the fastest


def binomial(random: Random, trials: int, p: float) -> int:
    """How many of ``trials`` hit, each with probability ``p``."""
    if trials <= 0 or p <= 0.0:
        return 0
    if p >= 1.0:
        return trials
    if p > 0.5:
        return trials - binomial(random, trials, 1.0 - p)
    hits = 0
    while trials * p > _FEW:
        # The middle one of as many uniform numbers halves the question (Devroye 1986, chapter X.4).
        middle = (trials + 1) // 2
        split = random.betavariate(middle, trials + 1 - middle)
        if split > p:
            trials, p = middle - 1, p / split
        else:
            hits += middle
            trials, p = trials - middle, (p - split) / (1.0 - split)
            if p <= 0.0:
                return hits
    if trials <= 0 or p <= 0.0:
        return hits
    if p > 0.5:
        return hits + trials - binomial(random, trials, 1.0 - p)
    misses, gap = float(trials), log1p(-p)
    while True:
        run = (
            log(1.0 - random.random()) / gap
        )  # misses before the next hit, which is infinite for the least p
        if run >= misses:
            return hits
        misses -= int(run) + 1
        hits += 1


class Buckets:
    """Draws counts per bucket as a histogram says."""

    def __init__(self, latency: Latency) -> None:
        self._chances: list[tuple[int, float]] = []
        rest = float(sum(latency.values()))
        for bound, count in sorted(latency.items()):
            self._chances.append((bound, min(1.0, count / rest) if rest > 0 else 0.0))
            rest -= count

    def draw(self, random: Random, requests: int) -> dict[int, int]:
        drawn: dict[int, int] = {}
        for bound, chance in self._chances:
            if count := binomial(random, requests, chance):
                drawn[bound] = count
                requests -= count
                if not requests:
                    break
        return drawn


def log_normal(median_us: float, p99_us: float) -> dict[int, int]:
    """A usual histogram with these two quantiles: parts of a million per bucket."""
    normal = NormalDist(log(median_us), max(1e-3, log(p99_us / median_us) / NormalDist().inv_cdf(0.99)))
    result: dict[int, int] = {}
    below = 0.0
    for bound in histogram.UPPER:
        upto = normal.cdf(log(bound))
        if count := round(1e6 * (upto - below)):
            result[int(bound)] = count
        below = upto
    return result


def longer(latency: Latency, times: float, plus_us: float = 0.0) -> dict[int, int]:
    """The same requests, each so much slower, in the buckets where they would be counted."""
    result: dict[int, int] = {}
    for bound, count in latency.items():
        slow = bucket(bound * times + plus_us)
        result[slow] = result.get(slow, 0) + count
    return result


def coarse(latency: Latency) -> dict[int, int]:
    """With all buckets below the median as one: they say nothing about a p99, and cost as much to draw."""
    total, running = sum(latency.values()), 0
    result: dict[int, int] = {}
    for bound, count in sorted(latency.items()):
        running += count
        if running * 2 < total:
            continue
        result[bound] = count if result else running
    return result


def bucket(microseconds: float) -> int:
    """Upper bound of the bucket of a latency."""
    bounds: Sequence[float] = histogram.UPPER
    return int(bounds[min(bisect_left(bounds, microseconds), len(bounds) - 1)])
