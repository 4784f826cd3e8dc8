"""What a rollout would be like at this traffic, before it starts: by simulation, seeded, pure.

``python -m hotswap_proxy.deploy.judge.forecast`` reads a SimulationRequest from standard input and writes the
answer: the control process has it calculated in a process of its own, where it holds nobody up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from math import ceil
from random import Random

from hotswap_proxy.model.base import duration_ms
from hotswap_proxy.model.simulation import (
    Harm,
    HarmForecast,
    PhaseForecast,
    SimulatedLatency,
    SimulationAnswer,
    SimulationRequest,
    Spread,
)

from ..measurement import Latency
from .chance import bucket, coarse, log_normal, longer
from .simulate import Outcome, Rollout, Step, Version, roll_out

GROWTH = 0.05
# A rollout is simulated until ten times its planned duration, or so many windows beyond it.
TIMES, WINDOWS = 10, 100


def forecast(request: SimulationRequest) -> SimulationAnswer:
    """The same request gives the same answer."""
    rollout, latency = _rollout(request), _latency(request)
    stable = Version(request.error_rate / 100, latency)
    healthy = _repeat(request, rollout, stable, stable)
    done = [outcome for outcome in healthy if outcome.kind == "Completed"]
    return SimulationAnswer.model_validate(
        {
            "runs": request.runs,
            "plannedSeconds": request.planned_seconds,
            "seconds": spread([outcome.seconds for outcome in done]),
            "completed": len(done) / request.runs,
            "falseAlarm": _part(healthy, "Failed"),
            "falseAlarmLimit": round(1 - request.thresholds.confidence, 6),
            "phases": [_phase(request, healthy, index) for index in range(len(request.phases))],
            "harms": [_harm(request, rollout, stable, latency, harm) for harm in request.harms],
            "thresholds": request.thresholds.document(),
        }
    )


def _rollout(request: SimulationRequest) -> Rollout:
    steps = tuple(
        Step(phase.traffic_percentage / 100, duration_ms(phase.duration) / 1000) for phase in request.phases
    )
    planned, window = request.planned_seconds, duration_ms(request.thresholds.window) / 1000
    horizon = min(TIMES * planned, planned + WINDOWS * window)
    return Rollout(request.requests_per_second, steps, request.thresholds, GROWTH, max(horizon, planned + 60))


def _latency(request: SimulationRequest) -> Latency | None:
    if request.latency is None:
        return None
    if isinstance(request.latency, SimulatedLatency):
        return coarse(log_normal(request.latency.p50 * 1000, request.latency.p99 * 1000))
    counted: dict[int, int] = {}
    for bound, count in request.latency:
        place = bucket(bound)
        counted[place] = counted.get(place, 0) + count
    return coarse(counted)


def _repeat(request: SimulationRequest, rollout: Rollout, stable: Version, canary: Version) -> list[Outcome]:
    random = Random(request.seed)  # noqa: S311  for a simulation
    return [roll_out(random, rollout, stable, canary) for _ in range(request.runs)]


def _phase(request: SimulationRequest, healthy: Sequence[Outcome], index: int) -> PhaseForecast:
    held = [outcome.held[index] for outcome in healthy if len(outcome.held) > index]
    phase = request.phases[index]
    return PhaseForecast.model_validate(
        {
            "trafficPercentage": phase.traffic_percentage,
            "duration": phase.duration,
            "chanceHeld": sum(held) / len(held) if held else None,
        }
    )


def _harm(
    request: SimulationRequest, rollout: Rollout, stable: Version, latency: Latency | None, harm: Harm
) -> HarmForecast:
    slow = longer(latency, 1 + harm.latency_increase / 100) if latency is not None else None
    bad = Version(min(1.0, (request.error_rate + harm.error_rate_increase) / 100), slow)
    outcomes = _repeat(request, rollout, stable, bad)
    found = [outcome for outcome in outcomes if outcome.kind == "Failed"]
    exposed = [float(outcome.exposed) for outcome in found]
    return HarmForecast.model_validate(
        {
            "errorRateIncrease": harm.error_rate_increase,
            "latencyIncrease": harm.latency_increase,
            "chanceFound": len(found) / request.runs,
            "chanceCompleted": _part(outcomes, "Completed"),
            "seconds": spread([outcome.seconds for outcome in found]),
            "exposedRequests": spread(exposed),
            "exposedUsers": spread([ceil(requests / request.requests_per_user) for requests in exposed]),
            "failedRequests": spread([outcome.failed for outcome in found]),
        }
    )


def _part(outcomes: Sequence[Outcome], kind: str) -> float:
    return sum(outcome.kind == kind for outcome in outcomes) / len(outcomes)


def spread(values: Sequence[float]) -> Spread | None:
    """Median and 95th percentile; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    median, p95 = (ordered[ceil(q * len(ordered)) - 1] for q in (0.5, 0.95))
    return Spread.model_validate({"median": round(float(median), 1), "p95": round(float(p95), 1)})


def main() -> None:
    os.nice(10)  # traffic and the control process come first
    request = SimulationRequest.model_validate_json(sys.stdin.buffer.read())
    sys.stdout.write(forecast(request).model_dump_json(by_alias=True))


if __name__ == "__main__":
    main()
