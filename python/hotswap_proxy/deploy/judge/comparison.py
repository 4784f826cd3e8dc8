"""Is one arm worse than the other by more than is allowed? Evidence for yes and for no.

Two arms, each with a martingale of its own (``bounds``). Given the true values of both, the product of
the two is a martingale as well; so values of the pair are rejected where it reaches 1/α. "Worse by more
than allowed" is certain when every pair that is not so is rejected, "not worse" when every pair that is
so is. Comparing the ends of two confidence intervals (lower end of one above the upper end of the other)
is valid too, and needs up to twice as many requests. The pair of the observed values is never rejected,
so both can not be certain at once.

For latency the value is a quantile. That needs no union over the histogram's buckets: the true p99 of the
stable arm is one number, fixed before anybody looks. For each number y it could be, "y is the p99" says
that at most 1 % of the requests are slower than y and at least 1 % not faster, which are statements about
rates; rejecting each y by its own rates errs only if the true y is rejected (Howard and Ramdas 2022,
"Sequential estimation of quantiles", section 3, there with their own boundary). A bound that holds for
all quantiles at once would be wider for nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import exp, inf

from hotswap_proxy.observe import histogram

from ..measurement import Latency
from .bounds import (
    Rate,
    boundary,
    evidence_above,
    evidence_against,
    evidence_below,
    hedged,
    log_likelihood,
    log_mixture,
)

_STEPS = 40
# A value lies in its bucket: at most its upper bound, and at least that divided by this.
RESOLUTION = 1 + 1 / histogram.STEPS

# --- rates --------------------------------------------------------------------------------------------


def rate_exceeds(canary: Rate, stable: Rate | None, margin: float, enough: float) -> bool:
    """Is it certain that canary's rate is above stable's by more than ``margin`` (0–1)?

    ``stable`` None: above ``margin`` itself. ``enough`` is log(1/α).
    """
    if stable is None:
        return evidence_above(canary, margin) >= enough
    if canary.estimate - stable.estimate <= margin:
        return False
    return least_evidence(canary, stable, margin, enough) >= enough


def rate_within(canary: Rate, stable: Rate | None, margin: float, enough: float) -> bool:
    """Is it certain that canary's rate is not above stable's by ``margin`` or more?"""
    if margin >= 1:
        return True
    if stable is None:
        return evidence_below(canary, margin) >= enough
    if canary.estimate - stable.estimate >= margin:
        return False
    return least_evidence(canary, stable, margin, enough) >= enough


def rate_difference(canary: Rate, stable: Rate, enough: float) -> tuple[float, float]:
    """The differences, canary's rate minus stable's, that are not rejected."""
    observed = canary.estimate - stable.estimate

    def held(margin: float) -> bool:
        return least_evidence(canary, stable, margin, enough) < enough

    low = -1.0 if held(-1.0) else boundary(held, observed, -1.0)
    high = 1.0 if held(1.0) else boundary(held, observed, 1.0)
    return low, high


def least_evidence(canary: Rate, stable: Rate, margin: float, enough: float = inf) -> float:
    """The least evidence against a pair (p, p + margin); with ``enough`` any value on the same side of
    it.
    """
    constant_canary, constant_stable = log_mixture(canary), log_mixture(stable)

    def against(p: float) -> tuple[float, float]:
        """Evidence and its slope at stable's rate ``p``; convex, for both summands are."""
        mine, mine_slope = _hedged_slope(stable, p, constant_stable)
        other, other_slope = _hedged_slope(canary, p + margin, constant_canary)
        return mine + other, mine_slope + other_slope

    floor, ceiling = max(0.0, -margin), min(1.0, 1.0 - margin)
    ends = (stable.estimate, canary.estimate - margin)  # outside of them both summands rise
    low, high = (min(max(end, floor), ceiling) for end in (min(ends), max(ends)))
    if high <= low:
        return hedged(evidence_against(stable, low)) + hedged(evidence_against(canary, low + margin))
    least = inf
    for _ in range(_STEPS):
        middle = (low + high) / 2
        evidence, slope = against(middle)
        least = min(least, evidence)
        # Convex: it lies above its tangent. So both answers are often known long before the least is.
        if enough < inf and (least < enough or evidence - abs(slope) * (high - low) / 2 >= enough):
            break
        if slope > 0:
            high = middle
        else:
            low = middle
    return least


def _hedged_slope(rate: Rate, p: float, constant: float) -> tuple[float, float]:
    evidence = constant - log_likelihood(rate, p)
    if evidence == inf:
        return inf, (-inf if p <= 0.0 else inf)
    hits, rest = rate.hits, rate.trials - rate.hits
    slope = (rest / (1.0 - p) if rest else 0.0) - (hits / p if hits else 0.0)
    weight = 1.0 / (1.0 + exp(-evidence)) if evidence > -700 else 0.0
    return hedged(evidence), slope * weight


# --- quantiles ----------------------------------------------------------------------------------------


class Slowness:
    """A latency histogram, asked how many requests were slower than a bound. Microseconds."""

    def __init__(self, latency: Latency) -> None:
        self.bounds: Sequence[int] = sorted(latency)
        below = list(accumulate((latency[bound] for bound in self.bounds), initial=0))
        self.total: float = below[-1]
        self._from: Sequence[float] = [below[-1] - count for count in below]

    def scaled(self, factor: float) -> Slowness:
        """The same latencies of ``factor`` times as many requests."""
        result = Slowness({})
        result.bounds, result.total = self.bounds, self.total * factor
        result._from = [count * factor for count in self._from]
        return result

    def not_below(self, bound: float) -> Rate:
        return Rate(self._from[bisect_left(self.bounds, bound)], self.total)

    def above(self, bound: float) -> Rate:
        return Rate(self._from[bisect_right(self.bounds, bound)], self.total)

    def quantile(self, q: float) -> int | None:
        """Upper bound of the bucket in which the quantile lies; None without requests."""
        if not self.total:
            return None
        for bound in self.bounds:
            if self.above(bound).hits <= (1 - q) * self.total * (1 + 1e-12):
                return bound
        return self.bounds[-1]


def slower(canary: Slowness, stable: Slowness, limit: Limit, tail: float, enough: float) -> bool:
    """Is it certain that more than ``tail`` of canary's requests are beyond stable's quantile 1 − tail,
    times and plus what ``limit`` allows? That is: that its quantile is.

    A request counts against canary only if its whole bucket is beyond.
    """
    return all(
        hedged(evidence_below(mine, tail)) + hedged(evidence_above(other, tail)) >= enough
        for mine, other in _as_slow(canary, stable, limit)
    )


def _as_slow(canary: Slowness, stable: Slowness, limit: Limit) -> Iterator[tuple[Rate, Rate]]:
    # Between two of stable's bounds the upper one speaks most for canary; beyond all of them only stable's
    # evidence counts. That comes first, for it is what few requests do not have.
    yield Rate(0.0, stable.total), Rate(0.0, canary.total)
    for bound in reversed(stable.bounds):
        yield stable.not_below(bound), canary.not_below(limit(bound) * RESOLUTION)


def not_slower(
    canary: Slowness, stable: Slowness, limit: Limit, tail: float, allowed: float, enough: float
) -> bool:
    """Is it certain that less than ``allowed`` of canary's requests are beyond what ``limit`` makes of
    stable's quantile 1 − tail?
    """
    return all(
        hedged(evidence_above(stable.above(bound), tail))
        + hedged(evidence_below(canary.above(limit(bound / RESOLUTION)), allowed))
        >= enough
        for bound in (*reversed(stable.bounds), 0)
    )


class Limit:
    """What is allowed to the canary arm where the stable arm has a latency: ``times`` it plus ``plus``
    µs.
    """

    def __init__(self, times: float, plus: float) -> None:
        self._times, self._plus = times, plus

    def __call__(self, latency: float) -> float:
        return latency * self._times + self._plus
