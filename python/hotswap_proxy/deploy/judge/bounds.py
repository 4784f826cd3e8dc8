"""Evidence about a rate that stays valid however often one looks, as a pure function of counts.

For a rate p, ``k`` of ``n`` and a Beta(½, ½) mixture over the alternatives, the ratio

    M(p) = B(k + ½, n − k + ½) / B(½, ½)  /  (p^k · (1 − p)^(n − k))

is a martingale that starts at 1 if p is the true rate (Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon
2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"). By Ville's inequality it ever
reaches 1/α with a probability of at most α: whoever rejects the rates with M(p) ≥ 1/α errs at most that
often, over all looks together. Half a success and half a failure (Jeffreys) is the mixture that loses
least near 0 and 1, where error rates are.

Everything here is in logarithms; "evidence" means log M and its like, and is compared with log(1/α).
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, lgamma, log, log1p
from typing import NamedTuple

_HALF = 0.5
_LOG_B0 = 2 * lgamma(_HALF)  # log B(½, ½)
_LOG_2 = log(2.0)
_STEPS = 50  # halvings: far below what a count can tell


class Rate(NamedTuple):
    """``hits`` of ``trials``, both ≥ 0; fractions where counts are thought on."""

    hits: float
    trials: float

    @property
    def estimate(self) -> float:
        return self.hits / self.trials if self.trials else 0.0

    def scaled(self, factor: float) -> Rate:
        return Rate(self.hits * factor, self.trials * factor)


def log_mixture(rate: Rate) -> float:
    """Logarithm of the counts' probability under the mixture: what does not depend on p."""
    hits, trials = rate
    return lgamma(hits + _HALF) + lgamma(trials - hits + _HALF) - lgamma(trials + 1.0) - _LOG_B0


def log_likelihood(rate: Rate, p: float) -> float:
    hits, trials = rate
    rest = trials - hits
    if (hits and p <= 0.0) or (rest and p >= 1.0):
        return -inf
    return (hits * log(p) if hits else 0.0) + (rest * log1p(-p) if rest else 0.0)


def evidence_against(rate: Rate, p: float) -> float:
    """log M(p); least at the estimate, where it is not above 0, and convex in p."""
    return log_mixture(rate) - log_likelihood(rate, p)


def evidence_above(rate: Rate, p: float) -> float:
    """Evidence that the true rate is above ``p``: the least against any rate that is not."""
    return evidence_against(rate, min(p, rate.estimate))


def evidence_below(rate: Rate, p: float) -> float:
    """Evidence that the true rate is below ``p``."""
    return evidence_against(rate, max(p, rate.estimate))


def hedged(evidence: float) -> float:
    """log((1 + M)/2): half of the stake is kept.

    It is a martingale too. In a product of two arms this bounds what an arm that says nothing can cost:
    log 2, where M itself sinks with √n at the very rate that is true.
    """
    return max(evidence, 0.0) + log1p(exp(-abs(evidence))) - _LOG_2


def interval(rate: Rate, alpha: float) -> tuple[float, float]:
    """The rates that are not rejected: they cover the true one at all times with probability 1 − alpha."""
    enough, estimate = log(1 / alpha), rate.estimate
    if not rate.trials:
        return 0.0, 1.0

    def held(p: float) -> bool:
        return evidence_against(rate, p) < enough

    low = 0.0 if held(0.0) else boundary(held, estimate, 0.0)
    high = 1.0 if held(1.0) else boundary(held, estimate, 1.0)
    return low, high


def boundary(held: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where ``held`` ends between a point at which it holds and one at which it does not; not too
    near.
    """
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if held(middle):
            inside = middle
        else:
            outside = middle
    return outside
