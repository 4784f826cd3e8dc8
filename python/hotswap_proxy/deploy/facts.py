"""What is known when the next step of a deployment is worked out. All that ``advance`` may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from hotswap_proxy.store.times import of_seconds

from .measurement import ArmCounts, Measurement
from .record import Thresholds, Verdict


class Judge(Protocol):
    """A pure function; see ``judge.verdict``."""

    def __call__(
        self,
        phase: Measurement,
        window: Measurement,
        thresholds: Thresholds,
        *,
        windows: int,
        phases: int,
        before: ArmCounts | None,
        share: float | None,
    ) -> Verdict: ...


class Member(NamedTuple):
    """One of those who have to get the candidate version: a node now, an instance one day."""

    revision: int  # the newest that it serves
    active: int  # requests in flight on the version that it had


class Smoke(NamedTuple):
    """How the test of the candidate version's backends ended, in one sentence."""

    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """``now``: the store's clock, seconds. ``problem``: why the target cannot go on. ``smoke``: of the
    present phase, when it has ended. ``members``: those that are alive.
    """

    now: float
    judge: Judge
    total: Measurement = field(default_factory=Measurement)
    members: Mapping[str, Member] = field(default_factory=dict)
    smoke: Smoke | None = None
    problem: str | None = None

    @property
    def at(self) -> str:
        return of_seconds(self.now)
