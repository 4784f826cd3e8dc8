"""Moves between phases, as pure functions of the record: begin, next, promote, pause, resume.

``advance`` (the engine) and ``commands`` (people) decide when; what happens then is the same and is here.
"""

from __future__ import annotations

from typing import Any

from hotswap_proxy.errors import Conflict, Detail, ValidationFailed
from hotswap_proxy.store.times import seconds_of

from .facts import Facts
from .measurement import ArmCounts, Measurement
from .plan import share_name
from .record import Deployment, Person, Phase
from .transitions import apply, apply_to_phase

MOST_PHASES = 60  # with those that promotions have added


def begin(deployment: Deployment, facts: Facts) -> Deployment:
    """An approved deployment starts."""
    changes = _enter(deployment, 0, facts) | {"started_at": facts.at}
    return apply(deployment, "start", facts.at, **changes)


def go_on(deployment: Deployment, facts: Facts, reason: str) -> Deployment:
    """By the engine: to the next phase, or to the end."""
    if deployment.is_last_phase:
        return apply(deployment, "complete", facts.at)
    changes = _enter(deployment, deployment.current_phase + 1, facts)
    return apply(deployment, "advance", facts.at, reason=reason, **changes)


def promote(deployment: Deployment, facts: Facts, by: Person, target: float | None = None) -> Deployment:
    """By hand: to the next phase (from the last one: complete), or to the share ``target``, in percent.

    A share between those of the phases gets a phase of its own, as long as the present one; phases below it
    are skipped. The present share again is no change. ValidationFailed: less than now, or a share with a
    strategy that has none to choose. Conflict: not under way.
    """
    # First: what is not possible at all is that, whatever the share.
    apply(deployment, "promote", facts.at, by=by)
    if target is None:
        if deployment.is_last_phase:
            return apply(deployment, "complete", facts.at, by=by)
        index = deployment.current_phase + 1
    else:
        _check_share(deployment, target)
        if target == deployment.traffic_percentage:
            return deployment
        deployment, index = _phase_for(deployment, target)
    return apply(deployment, "promote", facts.at, by=by, **_enter(deployment, index, facts))


def pause(deployment: Deployment, facts: Facts, by: Person) -> Deployment:
    return apply(deployment, "pause", facts.at, by=by, paused_at=facts.at)


def resume(deployment: Deployment, facts: Facts, by: Person) -> Deployment:
    """The phase goes on with the time that was left of it."""
    paused = deployment.paused_seconds
    if deployment.paused_at is not None:
        paused += max(0.0, facts.now - seconds_of(deployment.paused_at))
    return apply(deployment, "resume", facts.at, by=by, paused_at=None, paused_seconds=paused)


def elapsed(deployment: Deployment, now: float) -> float:
    """Seconds of the present phase, without those it was paused."""
    started, paused = deployment.phase.started_at, deployment.paused_seconds
    if started is None:
        return 0.0
    if deployment.paused_at is not None:
        paused += max(0.0, now - seconds_of(deployment.paused_at))
    return max(0.0, now - seconds_of(started) - paused)


def _enter(deployment: Deployment, index: int, facts: Facts) -> dict[str, Any]:
    """The fields that change when phase ``index`` begins; those before it end."""
    phases = list(deployment.phases)
    for at, phase in enumerate(phases[:index]):
        if phase.status == "InProgress":
            phases[at] = apply_to_phase(phase, "pass", facts.at)
        elif phase.status == "Pending":
            phases[at] = apply_to_phase(phase, "skip", facts.at)
    phases[index] = apply_to_phase(phases[index], "begin", facts.at)
    total = facts.total.document()
    share = phases[index].traffic_percentage
    changes: dict[str, Any] = {
        "phases": phases,
        "current_phase": index,
        "traffic_percentage": share,
        "verdict": None,
        "verdict_at": None,
        "waiting": None,
        "baseline": total,
        "window_baseline": total,
        "window_started_at": facts.at,
        "windows": deployment.windows + 1,
        "paused_at": None,
        "paused_seconds": 0.0,
    }
    if share == 100:
        changes["before"] = _before(deployment, facts.total)
    if deployment.nodes is not None:
        changes["nodes_done"] = deployment.nodes[: index + 1]
    return changes


def _before(deployment: Deployment, total: Measurement) -> dict[str, Any] | None:
    """What the canary arm is compared with when the stable arm gets nothing any more: that of the phase that
    ends now, or of all phases if the last one had too few requests.
    """
    counts: ArmCounts = total.stable
    if deployment.baseline is not None:
        recent = counts - Measurement.of(deployment.baseline).stable
        if recent.requests >= deployment.thresholds.minimum_requests:
            counts = recent
    return counts.document() if counts.requests else None


def _check_share(deployment: Deployment, target: float) -> None:
    if deployment.strategy not in ("Canary", "ABTest") and target != 100:
        message = f"{deployment.strategy} has no shares to choose; promote without targetPercentage"
        raise ValidationFailed.of([Detail("targetPercentage", "strategy", message)])
    if deployment.strategy == "Rolling":
        message = "Rolling goes from node to node; promote without targetPercentage"
        raise ValidationFailed.of([Detail("targetPercentage", "strategy", message)])
    if not 0 < target <= 100 or target < deployment.traffic_percentage:
        message = (
            f"{target:g} is not from {deployment.traffic_percentage:g}, the present share, to 100; "
            "there is no way down but to roll back"
        )
        raise ValidationFailed.of([Detail("targetPercentage", "range", message)])


def _phase_for(deployment: Deployment, target: float) -> tuple[Deployment, int]:
    """The record with a phase of exactly this share, and its index."""
    phases, now = deployment.phases, deployment.current_phase
    later = range(now + 1, len(phases))
    index = next((at for at in later if phases[at].traffic_percentage >= target), len(phases))
    if index < len(phases) and phases[index].traffic_percentage == target:
        return deployment, index
    if len(phases) >= MOST_PHASES:
        raise Conflict(f"deployment {deployment.deployment_id} has {len(phases)} phases; that is enough")
    added = Phase(name=share_name(target), traffic_percentage=target, duration=deployment.phase.duration)
    changed = [*phases[:index], added, *phases[index:]]
    return deployment.model_copy(update={"phases": changed}), index
