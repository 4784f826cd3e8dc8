"""Rollouts that never were: the judge on random counts, look by look, as the engine would ask it.

Requests come evenly and the arms get their exact shares, as in the data plane; what is random is which
requests fail and how long they take.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal, NamedTuple

from hotswap_proxy.model.base import duration_ms

from ..measurement import ArmCounts, Latency, Measurement
from ..record import Thresholds
from .chance import Buckets, binomial
from .verdict import Levels, examine


@dataclass(frozen=True, slots=True)
class Step:
    """One phase: canary's share 0–1, and its duration in seconds."""

    share: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is rolled out where. ``growth`` 0 looks each second; else looks become rarer with a phase's
    age, by this part of it, but not than the windows end: enough for a forecast, and much less to
    calculate.
    """

    rate: float  # requests/s, of both arms together
    steps: tuple[Step, ...]
    thresholds: Thresholds = field(default_factory=Thresholds)
    growth: float = 0.0
    horizon: float = 86_400.0  # seconds after which a simulation stops


class Version:
    """How one version of a service behaves."""

    def __init__(self, error_rate: float, latency: Latency | None = None) -> None:
        self.error_rate = error_rate
        self._buckets = Buckets(latency) if latency else None

    def serve(self, random: Random, requests: int) -> ArmCounts:
        latency = self._buckets.draw(random, requests) if self._buckets and requests else {}
        return ArmCounts(requests, binomial(random, requests, self.error_rate), latency=latency)


class Outcome(NamedTuple):
    """How it ended: condemned, through, or neither within the horizon."""

    kind: Literal["Failed", "Completed", "Open"]
    seconds: float
    exposed: int  # requests that the canary arm got
    failed: int  # of them
    held: tuple[bool, ...]  # of each phase that was reached: did it last longer than planned?


def roll_out(random: Random, rollout: Rollout, stable: Version, canary: Version) -> Outcome:
    """One rollout from the first phase to its end."""
    clock, total = 0.0, Measurement()
    held: list[bool] = []
    before: ArmCounts | None = None
    windows = 0
    for number, step in enumerate(rollout.steps, 1):
        phase = window = Measurement()
        windows += 1
        age = window_began = 0.0
        other_traffic = step.share < 1
        for moment in _looks(step, rollout):
            more = _serve(random, rollout.rate, step.share, (clock + age, clock + moment), stable, canary)
            age = moment
            phase, window = phase + more, window + more
            levels = Levels.of(rollout.thresholds.confidence, windows, number)
            other = phase.stable if other_traffic else before
            is_due = age >= step.seconds
            kind = examine(phase, window, other, rollout.thresholds, levels, may_pass=is_due).kind
            if kind == "Fail" or clock + age >= rollout.horizon:
                seen = total + phase
                end: Literal["Failed", "Open"] = "Failed" if kind == "Fail" else "Open"
                late = (*held, age > step.seconds)
                return Outcome(end, clock + age, seen.canary.requests, seen.canary.failed, late)
            if age - window_began >= _window(rollout):
                window, window_began, windows = Measurement(), age, windows + 1
            if kind == "Pass":
                break
        held.append(age > step.seconds)
        clock += age
        total = total + phase
        before = phase.stable if other_traffic else before
    return Outcome("Completed", clock, total.canary.requests, total.canary.failed, tuple(held))


def _window(rollout: Rollout) -> float:
    return duration_ms(rollout.thresholds.window) / 1000


def _looks(step: Step, rollout: Rollout) -> Iterator[float]:
    """Ages of the phase at which the judge is asked; they go on as long as somebody asks."""
    age, window = 0.0, _window(rollout)
    while True:
        following = age + max(1.0, age * rollout.growth)
        ends = [(age // window + 1) * window] if rollout.growth else []
        if age < step.seconds:
            ends.append(step.seconds)
        age = min([following, *ends])
        yield age


def _serve(
    random: Random, rate: float, share: float, between: tuple[float, float], stable: Version, canary: Version
) -> Measurement:
    """What both arms count between two moments. Rounding the sums, not the parts, loses no request."""
    start, end = (rate * moment for moment in between)
    mine = int(end * share) - int(start * share)
    everything = int(end) - int(start)
    return Measurement(stable.serve(random, max(0, everything - mine)), canary.serve(random, mine))
