"""The verdict on what was measured: Fail, Pass or Hold, and why. Pure.

The chance of a false alarm, 1 − confidence of the whole deployment, is shared: half for the looks at whole
phases, half for those at windows, both in equal parts for the criteria; the k-th phase and the k-th
window get 1/(k(k + 1)) of it, which adds up to 1 however many there will be. Each share holds for all
moments at which one looks, since the evidence is valid at any time (``bounds``). A Pass needs every
criterion at the full level: to pass a bad candidate the one criterion that is exceeded would have to err,
in each of the phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log
from typing import NamedTuple

from ..measurement import ArmCounts, Measurement
from ..record import ArmFigures, Thresholds, Verdict, VerdictKind
from .bounds import interval
from .comparison import Slowness
from .criteria import (
    CRITERIA,
    TAIL,
    Criterion,
    aborts,
    condemning,
    criteria,
    failures,
    milliseconds,
    trials,
)

MAX_NEEDED = 10_000_000  # requests: beyond that an estimate is of no use
_STRAGGLERS = 50  # canary's requests for each of stable's: then those are late ones
_GROWTH = 1.5
_HALVINGS = 5


class Levels(NamedTuple):
    """How much evidence is enough: log(1/α)."""

    phase: float
    window: float
    keep: float

    @classmethod
    def of(cls, confidence: float, windows: int, phases: int) -> Levels:
        alpha = 1 - confidence

        def kth(number: int) -> float:
            return log(2 * CRITERIA * number * (number + 1) / alpha)

        return cls(kth(max(1, phases)), kth(max(1, windows)), log(1 / alpha))


def judge(
    phase: Measurement,
    window: Measurement,
    thresholds: Thresholds,
    *,
    windows: int = 1,
    phases: int = 1,
    before: ArmCounts | None = None,
    share: float | None = None,
) -> Verdict:
    """Judge the canary arm by both arms' counts since the phase and since the present window began.

    ``windows``, ``phases``: the numbers of the present ones, counted from 1 over the whole deployment.
    ``before``: the stable arm's counts while it had traffic, for when it gets none. ``share``: percent of
    the requests that the canary arm gets; without it the counts tell whether stable gets any.
    """
    levels = Levels.of(thresholds.confidence, windows, phases)
    other, against = _other(phase, before, share, thresholds)
    build = _Builder(phase.canary, other, thresholds, against)
    found = examine(phase, window, other, thresholds, levels)
    if found.failed is not None:
        recently = f"in the last {thresholds.window}: " if found.recently else ""
        why = found.failed.excess(levels.window if found.recently else levels.phase)
        return build.verdict("Fail", f"{recently}{found.failed.observed()}: {why}")
    if missing := _missing(phase.canary, other, thresholds.minimum_requests):
        return build.verdict("Hold", *missing)
    if found.kind == "Pass":
        return build.verdict("Pass", f"{_seen(found.criteria)}: within the thresholds")
    return build.verdict("Hold", *_undecided(found.criteria, phase.canary, levels))


class Finding(NamedTuple):
    """What ``judge`` puts into words. ``failed`` is what condemns the canary arm, ``recently``: in the
    window.
    """

    kind: VerdictKind
    criteria: Sequence[Criterion] = ()
    failed: Criterion | None = None
    recently: bool = False


def examine(
    phase: Measurement,
    window: Measurement,
    other: ArmCounts | None,
    thresholds: Thresholds,
    levels: Levels,
    *,
    may_pass: bool = True,
) -> Finding:
    """The rule by itself. ``other``: what the canary arm is compared with, None: nothing. ``may_pass`` False
    saves the work of finding out whether it does.
    """
    whole = _ready(phase, other, thresholds)
    if failed := _first_exceeded([*whole, *condemning(phase, other, thresholds)], levels.phase):
        return Finding("Fail", whole, failed)
    compared = window.stable if other is phase.stable else other
    recent = [*_ready(window, compared, thresholds), *condemning(window, compared, thresholds)]
    if failed := _first_exceeded(recent, levels.window):
        return Finding("Fail", whole, failed, recently=True)
    kept = may_pass and bool(whole) and all(criterion.kept(levels.keep) for criterion in whole)
    return Finding("Pass" if kept else "Hold", whole)


def _ready(measured: Measurement, other: ArmCounts | None, thresholds: Thresholds) -> list[Criterion]:
    """The criteria, once there are enough requests for them."""
    is_early = _missing(measured.canary, other, thresholds.minimum_requests)
    return [] if is_early else criteria(measured, other, thresholds)


def _other(
    phase: Measurement, before: ArmCounts | None, share: float | None, thresholds: Thresholds
) -> tuple[ArmCounts | None, str]:
    """What to compare with, and the words that say so."""
    mine, theirs = aborts(phase.canary).trials, trials(phase.stable)
    if share is not None:
        has_traffic = share < 100
    else:  # some requests may still be under way when the last share is given away
        has_traffic = theirs >= thresholds.minimum_requests or theirs * _STRAGGLERS >= mine
    if has_traffic or not mine:
        return phase.stable, ""
    if before is not None and trials(before) >= thresholds.minimum_requests:
        return before, "; compared with the stable version before, as it gets no requests now"
    return None, "; there is nothing to compare with, so only errors are judged, by themselves"


def _missing(canary: ArmCounts, other: ArmCounts | None, minimum: int) -> tuple[str, int | None] | None:
    """The reason to wait while an arm has too few requests for any verdict, and how many of canary's to
    wait for.
    """
    mine = trials(canary)
    if mine < minimum:
        return f"{mine} of {minimum} requests", minimum - mine
    if other is None or (theirs := trials(other)) >= minimum:
        return None
    needed = ceil(mine * (minimum - theirs) / theirs) if theirs else None
    return f"{theirs} of {minimum} requests of the stable arm", needed


def _first_exceeded(found: Sequence[Criterion], enough: float) -> Criterion | None:
    return next((criterion for criterion in found if criterion.exceeded(enough)), None)


def _seen(found: Sequence[Criterion]) -> str:
    telling = [criterion for criterion in found if criterion.is_telling] or found
    return ", ".join(criterion.observed() for criterion in telling)


def _undecided(found: Sequence[Criterion], canary: ArmCounts, levels: Levels) -> tuple[str, int | None]:
    open_ones = [criterion for criterion in found if not criterion.kept(levels.keep)]
    needed = requests_needed(found, trials(canary), levels)
    more = f", about {needed:,} more requests" if needed is not None else ""
    return f"not sure yet: {_seen(open_ones)}{more}", needed


def requests_needed(found: Sequence[Criterion], requests: int, levels: Levels) -> int | None:
    """After how many more requests of the canary arm, about, there is a verdict if the rates stay as they
    are; None if not within ``MAX_NEEDED``.
    """

    def is_decided(factor: float) -> bool:
        scaled = [criterion.scaled(factor) for criterion in found]
        return all(criterion.kept(levels.keep) for criterion in scaled) or any(
            criterion.exceeded(levels.phase) for criterion in scaled
        )

    low, high = 1.0, _GROWTH
    while not is_decided(high):
        low, high = high, high * _GROWTH
        if requests * low > MAX_NEEDED:
            return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_decided(middle) else (middle, high)
    return _rounded(requests * (high - 1))


def _rounded(number: float) -> int:
    """Two digits: it is an estimate."""
    whole = max(1, ceil(number))
    unit: int = 10 ** max(0, len(str(whole)) - 2)
    return -(-whole // unit) * unit


class _Builder:
    """Puts both arms' numbers beside whatever the verdict is."""

    def __init__(
        self, canary: ArmCounts, other: ArmCounts | None, thresholds: Thresholds, against: str
    ) -> None:
        self._alpha = 1 - thresholds.confidence
        self._against = against
        self._canary = self._figures(canary)
        self._stable = self._figures(other) if other else None

    def _figures(self, arm: ArmCounts) -> ArmFigures:
        low, high = interval(failures(arm), self._alpha)
        return ArmFigures(
            requests=arm.requests,
            failed=arm.failed,
            unavailable=arm.unavailable,
            error_rate=arm.error_rate,
            error_rate_low=round(low, 6),
            error_rate_high=round(high, 6),
            p99_latency=milliseconds(Slowness(arm.latency).quantile(1 - TAIL)),
        )

    def verdict(self, kind: VerdictKind, reason: str, needed: int | None = None) -> Verdict:
        mine, other = self._canary, self._stable
        their_rate, their_latency = (None, None) if other is None else (other.error_rate, other.p99_latency)
        return Verdict(
            kind=kind,
            reason=reason + self._against,
            requests_needed=needed,
            error_rate_delta=_difference(mine.error_rate, their_rate),
            p99_latency_delta=_difference(mine.p99_latency, their_latency),
            canary=mine,
            stable=other,
        )


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else round(one - other, 6)
