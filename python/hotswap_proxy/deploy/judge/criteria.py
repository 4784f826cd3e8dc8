"""What is judged: errors, unavailability, latency, aborts. A criterion knows both arms and one threshold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

from ..measurement import ArmCounts, Measurement
from ..record import Thresholds
from .bounds import Rate
from .comparison import (
    Limit,
    Slowness,
    not_slower,
    rate_difference,
    rate_exceeds,
    rate_within,
    slower,
)

TAIL = 0.01  # of the p99
# For a Pass it must be certain that less than this part of canary's requests is slower than its p99 may be.
# To be certain of the 1 % itself would take many thousands of requests with two equal arms, since there
# is no room between "1 %" and "not more than 1 %". Usual latencies (log-normal, sigma ½) made twice as
# long, a harm of twice the default threshold, put 4 % of the requests beyond; so such a candidate does
# not pass.
TAIL_TO_PASS = 0.03
SLACK_US = 2000.0  # 1 ms → 2 ms is a twentieth of a blink, and two buckets of a histogram at low load
ERROR_RATE = "error rate"
CRITERIA = 4  # share the chance of a false alarm


class Criterion(Protocol):
    """Certain at a level: ``enough`` is log(1/α)."""

    @property
    def is_telling(self) -> bool:
        """False where nothing happened in either arm: not worth a word."""

    def exceeded(self, enough: float) -> bool: ...

    def kept(self, enough: float) -> bool: ...

    def scaled(self, factor: float) -> Self:
        """The same rates after ``factor`` times as many requests."""

    def observed(self) -> str:
        """What was seen, for people: ``error rate 1.2 % against 0.9 %``."""

    def excess(self, enough: float) -> str:
        """Why the threshold is exceeded, after ``observed``."""


@dataclass(frozen=True, slots=True)
class RateCriterion:
    name: str
    canary: Rate
    stable: Rate | None
    margin: float  # 0–1

    @property
    def is_telling(self) -> bool:
        return self.name == ERROR_RATE or self.canary.hits > 0 or bool(self.stable and self.stable.hits)

    def exceeded(self, enough: float) -> bool:
        return rate_exceeds(self.canary, self.stable, self.margin, enough)

    def kept(self, enough: float) -> bool:
        return rate_within(self.canary, self.stable, self.margin, enough)

    def scaled(self, factor: float) -> Self:
        stable = self.stable.scaled(factor) if self.stable else None
        return replace(self, canary=self.canary.scaled(factor), stable=stable)

    def observed(self) -> str:
        mine = f"{self.name} {percent(self.canary)}"
        return mine if self.stable is None else f"{mine} against {percent(self.stable)}"

    def excess(self, enough: float) -> str:
        allowed = 100 * self.margin
        if self.stable is None:
            return f"more than {allowed:g} %"
        low, _ = rate_difference(self.canary, self.stable, enough)
        return f"at least {100 * low:.1f} points more, {allowed:g} are allowed"


@dataclass(frozen=True, slots=True)
class LatencyCriterion:
    canary: Slowness
    stable: Slowness
    increase: float  # percent

    @property
    def is_telling(self) -> bool:
        return True

    @property
    def limit(self) -> Limit:
        return Limit(1 + self.increase / 100, SLACK_US)

    def exceeded(self, enough: float) -> bool:
        return slower(self.canary, self.stable, self.limit, TAIL, enough)

    def kept(self, enough: float) -> bool:
        return not_slower(self.canary, self.stable, self.limit, TAIL, TAIL_TO_PASS, enough)

    def scaled(self, factor: float) -> Self:
        return replace(self, canary=self.canary.scaled(factor), stable=self.stable.scaled(factor))

    def observed(self) -> str:
        mine, other = (milliseconds(arm.quantile(1 - TAIL)) or 0.0 for arm in (self.canary, self.stable))
        return f"p99 latency {mine:g} ms against {other:g} ms"

    def excess(self, enough: float) -> str:
        return f"more than {self.increase:g} % longer"


def criteria(measured: Measurement, other: ArmCounts | None, thresholds: Thresholds) -> list[Criterion]:
    """``other`` is what the canary arm is compared with; None: nothing. Latency is left out where there
    is none to compare.
    """
    canary = measured.canary
    margin = thresholds.error_rate_increase / 100
    result: list[Criterion] = [
        RateCriterion(ERROR_RATE, failures(canary), failures(other) if other else None, margin),
        RateCriterion(
            "unavailability", unavailability(canary), unavailability(other) if other else None, margin
        ),
    ]
    if other is not None and canary.latency and other.latency:
        arms = Slowness(canary.latency), Slowness(other.latency)
        result.append(LatencyCriterion(*arms, thresholds.latency_increase))
    return result


def condemning(measured: Measurement, other: ArmCounts | None, thresholds: Thresholds) -> list[Criterion]:
    """What can only speak against the canary arm. Who waits in vain goes away: of a version that hangs, or
    sends half an answer, nothing else may ever be counted. But it takes clients without patience, and
    says nothing by itself; so no Pass waits for it, and without a comparison it is left out.
    """
    mine = aborts(measured.canary)
    if other is None or min(mine.trials, aborts(other).trials) < thresholds.minimum_requests:
        return []
    return [RateCriterion("aborted by clients", mine, aborts(other), thresholds.error_rate_increase / 100)]


def failures(arm: ArmCounts) -> Rate:
    return Rate(arm.failed, arm.requests)


def unavailability(arm: ArmCounts) -> Rate:
    return Rate(arm.unavailable, trials(arm))


def aborts(arm: ArmCounts) -> Rate:
    aborted = arm.excluded.get("aborted", 0)
    return Rate(aborted, trials(arm) + aborted)


def trials(arm: ArmCounts) -> int:
    """Requests that say something about the version."""
    return arm.requests + arm.unavailable


def percent(rate: Rate) -> str:
    return f"{100 * rate.estimate:.1f} %"


def milliseconds(microseconds: float | None) -> float | None:
    return None if microseconds is None else float(f"{microseconds / 1000:.3g}")
