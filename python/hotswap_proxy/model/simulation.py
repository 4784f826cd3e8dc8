"""What ``deployments simulate`` is asked and answers. Percentages are 0–100, chances 0–1."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from hotswap_proxy.deploy.record import Thresholds

from .base import Duration, Model, duration_ms, problem
from .deployment import Share, ThresholdsGiven

MAX_PHASES = 20
MIN_RUNS, MAX_RUNS = 20, 2000
# Looks at the judge, in all: some tens of seconds of one core.
MAX_LOOKS = 500_000
LOOKS_OF_A_PHASE = 120  # about

Percent = Annotated[float, Field(ge=0, le=100)]
Milliseconds = Annotated[float, Field(ge=0.1, le=100_000)]


class SimulatedPhase(Model):
    traffic_percentage: Share
    duration: Duration


class SimulatedLatency(Model):
    """A log-normal distribution by two of its quantiles, milliseconds."""

    p50: Milliseconds
    p99: Milliseconds

    @model_validator(mode="after")
    def _check(self) -> SimulatedLatency:
        if self.p99 <= self.p50:
            raise problem("order", "p99 must be more than p50")
        return self


# Lax, because JSON has lists and no tuples; the numbers are strict.
Bucket = Annotated[
    tuple[Annotated[int, Field(ge=1, le=300_000_000)], Annotated[int, Field(ge=0, le=10**12)]],
    Field(strict=False),
]


class Harm(Model):
    """An assumed fault of the candidate version, from its first request on."""

    error_rate_increase: Percent = Field(0.0, description="percentage points over stable; at most all fail")
    latency_increase: float = Field(0.0, ge=0, le=10_000, description="percent; all requests so much slower")

    @model_validator(mode="after")
    def _check(self) -> Harm:
        if not self.error_rate_increase and not self.latency_increase:
            raise problem("required", "a harm needs errorRateIncrease or latencyIncrease above 0")
        return self


DEFAULT_PHASES = tuple(
    SimulatedPhase.model_validate({"trafficPercentage": share, "duration": "5m"})
    for share in (10.0, 50.0, 100.0)
)
DEFAULT_HARMS = tuple(Harm.model_validate({"errorRateIncrease": points}) for points in (6.0, 100.0))


class SimulationRequest(Model):
    """The traffic of a route as it is, and the rollout as it is planned."""

    requests_per_second: float = Field(ge=0.01, le=100_000)
    error_rate: Percent = Field(1.0, description="percent of the stable version's requests")
    latency: SimulatedLatency | Annotated[list[Bucket], Field(min_length=1, max_length=400)] | None = Field(
        None,
        description="of the stable version: two quantiles, or a histogram of [upper bound in microseconds, "
        "requests]; without it latency is left out",
    )
    phases: list[SimulatedPhase] = Field(list(DEFAULT_PHASES), min_length=1, max_length=MAX_PHASES)
    thresholds: ThresholdsGiven = Field(default_factory=ThresholdsGiven)
    harms: list[Harm] = Field(list(DEFAULT_HARMS), min_length=1, max_length=5)
    requests_per_user: float = Field(1.0, ge=1, le=1_000_000, description="during the rollout, on average")
    runs: int = Field(
        200, ge=MIN_RUNS, le=MAX_RUNS, description="of each: a healthy candidate, and each harm"
    )
    seed: int = Field(1, ge=0, le=2**32)

    @model_validator(mode="after")
    def _check(self) -> SimulationRequest:
        shares = [phase.traffic_percentage for phase in self.phases]
        if any(after <= before for before, after in pairwise(shares)):
            raise problem("order", "phases: each trafficPercentage must be more than the one before")
        if isinstance(self.latency, list) and not sum(count for _, count in self.latency):
            raise problem("required", "latency: a histogram needs requests")
        if any(harm.latency_increase for harm in self.harms) and self.latency is None:
            raise problem("required", "harms: latencyIncrease needs latency")
        looks = self.looks * self.runs
        if looks > MAX_LOOKS:
            allowed = MAX_LOOKS // self.looks
            told = (
                f"runs: at most {allowed} of so long a rollout" if allowed >= MIN_RUNS else "it is too long"
            )
            raise problem("limit", f"{told}; give it fewer harms, shorter phases or a longer window")
        return self

    @property
    def planned_seconds(self) -> float:
        return sum(duration_ms(phase.duration) for phase in self.phases) / 1000

    @property
    def looks(self) -> int:
        """How often a judge has to be asked in one rollout and all harms, about."""
        windows = self.planned_seconds * 1000 / duration_ms(self.thresholds.window)
        return round((len(self.harms) + 1) * (windows + LOOKS_OF_A_PHASE * len(self.phases)))


class Spread(Model):
    """Of the simulated rollouts that it happened to."""

    median: float
    p95: float


class PhaseForecast(Model):
    traffic_percentage: float
    duration: str
    chance_held: float | None = Field(description="that a healthy candidate is held longer; none got so far")


class HarmForecast(Model):
    """What becomes of a candidate with this fault."""

    error_rate_increase: float
    latency_increase: float
    chance_found: float = Field(description="rolled back before the rollout would be complete")
    chance_completed: float = Field(description="not found: all traffic went to it; else it is still held")
    seconds: Spread | None = Field(description="until it is rolled back")
    exposed_requests: Spread | None
    exposed_users: Spread | None = Field(
        description="at most, if each comes as often as requestsPerUser says"
    )
    failed_requests: Spread | None


class SimulationAnswer(Model):
    """``false_alarm`` is what was seen in ``runs``; ``false_alarm_limit`` what is guaranteed."""

    runs: int
    planned_seconds: float
    seconds: Spread | None = Field(description="of a healthy candidate's rollout")
    completed: float
    false_alarm: float
    false_alarm_limit: float
    phases: list[PhaseForecast]
    harms: list[HarmForecast]
    thresholds: Thresholds
