"""The next step of a deployment: a pure function of its record and of what is known.

Called again and again by whoever drives; returns the same object when there is nothing to do. Nothing here
reads a clock, waits, or remembers: another process can go on at any moment with the record alone.
"""

from __future__ import annotations

from typing import Any, Literal

from hotswap_proxy.model.base import duration_ms
from hotswap_proxy.store.times import seconds_of

from .facts import Facts
from .measurement import ArmCounts, Measurement
from .record import Deployment, Verdict
from .steps import begin, elapsed, go_on
from .transitions import apply

NOTED_EVERY = 5.0  # seconds; how old the numbers of the verdict in the record may be
NODE_TIMEOUT = 60.0  # seconds for a node that is alive to serve what it was told


def advance(deployment: Deployment, facts: Facts) -> Deployment:
    """The record as it has to be now."""
    if not deployment.is_active:
        return deployment
    if facts.problem is not None:
        return apply(deployment, "fail", facts.at, reason=facts.problem)
    if deployment.status == "Pending":
        return deployment
    if deployment.status == "Approved":
        return begin(deployment, facts)
    if deployment.strategy == "Direct":
        return _spread(deployment, facts)
    judged = _judged(deployment, facts)
    if judged.verdict is not None and judged.verdict.kind == "Fail":
        return apply(judged, "condemn", facts.at, reason=judged.verdict.reason)
    if judged.status == "Paused":
        return judged
    if judged.strategy == "Rolling":
        return _next_node(judged, facts)
    return _smoke_test(judged, facts) if wants_smoke(judged) else _timed(judged, facts)


def wants_smoke(deployment: Deployment) -> bool:
    """Whether the candidate version's backends have to be tested in the present phase."""
    if deployment.status != "InProgress":
        return False
    return deployment.strategy == "Rolling" or deployment.traffic_percentage == 0


def verdict_of(deployment: Deployment, facts: Facts) -> Verdict | None:
    """The judge's verdict on the present phase; None while there is nothing to be judged."""
    if deployment.baseline is None or deployment.window_baseline is None:
        return None
    if not deployment.is_under_way or deployment.traffic_percentage == 0:
        return None
    return facts.judge(
        facts.total - Measurement.of(deployment.baseline),
        facts.total - Measurement.of(deployment.window_baseline),
        deployment.thresholds,
        windows=deployment.windows,
        phases=deployment.current_phase + 1,
        before=ArmCounts.of(deployment.before) if deployment.before is not None else None,
        share=deployment.traffic_percentage,
    )


def _judged(deployment: Deployment, facts: Facts) -> Deployment:
    """With the verdict noted, where that says something new, and a new window begun when it is time."""
    verdict = verdict_of(deployment, facts)
    if verdict is None:
        return deployment
    changes: dict[str, Any] = {}
    old = deployment.verdict
    is_stale = deployment.verdict_at is None or facts.now - seconds_of(deployment.verdict_at) >= NOTED_EVERY
    if old is None or old.kind != verdict.kind or (is_stale and old != verdict):
        changes |= {"verdict": verdict, "verdict_at": facts.at}
    started = deployment.window_started_at
    if started is None or facts.now - seconds_of(started) >= _seconds(deployment.thresholds.window):
        changes |= {
            "window_baseline": facts.total.document(),
            "window_started_at": facts.at,
            "windows": deployment.windows + 1,
        }
    return deployment.model_copy(update=changes) if changes else deployment


def _timed(deployment: Deployment, facts: Facts) -> Deployment:
    """A phase with a share: it goes on when its time is over and the judge is sure."""
    phase, verdict = deployment.phase, deployment.verdict
    if phase.duration is None:
        return _wait(deployment, facts, "promotion", "until somebody promotes or ends it")
    if elapsed(deployment, facts.now) < _seconds(phase.duration):
        return deployment
    if verdict is None or verdict.kind != "Pass":
        why = verdict.reason if verdict is not None else "nothing was measured yet"
        return _wait(deployment, facts, "verdict", why)
    return _passed(deployment, facts, f"phase {phase.name} passed")


def _smoke_test(deployment: Deployment, facts: Facts) -> Deployment:
    if facts.smoke is None:
        return deployment
    if not facts.smoke.passed:
        return apply(deployment, "fail", facts.at, reason=facts.smoke.message)
    return _passed(deployment, facts, facts.smoke.message)


def _next_node(deployment: Deployment, facts: Facts) -> Deployment:
    """Rolling: the node of the present phase has to serve the candidate version, to be through with the other
    one, and to reach healthy backends; then it is the next one's turn.
    """
    node_id = (deployment.nodes or [])[deployment.current_phase]
    member = facts.members.get(node_id)
    if member is None:
        return _passed(deployment, facts, f"node {node_id} is away, and takes the version when it is back")
    waited = elapsed(deployment, facts.now)
    if member.revision < deployment.revision:
        if waited < NODE_TIMEOUT:
            return deployment
        reason = f"node {node_id} does not serve the version after {NODE_TIMEOUT:g} s"
        return apply(deployment, "fail", facts.at, reason=reason)
    drained = member.active == 0
    if facts.smoke is None or not (drained or waited >= _seconds(deployment.drain_timeout)):
        return deployment
    if not facts.smoke.passed:
        return apply(deployment, "fail", facts.at, reason=f"node {node_id}: {facts.smoke.message}")
    left = "drained" if drained else f"not drained in {deployment.drain_timeout}"
    return _passed(deployment, facts, f"node {node_id} {left}, {facts.smoke.message}")


def _passed(deployment: Deployment, facts: Facts, reason: str) -> Deployment:
    if not deployment.auto_promote:
        return _wait(deployment, facts, "promotion", f"{reason}; until somebody promotes it")
    return go_on(deployment, facts, reason)


def _spread(deployment: Deployment, facts: Facts) -> Deployment:
    """Direct: the version is live; the deployment is complete when every node that is alive serves it."""
    if deployment.status == "Paused":
        return deployment
    behind = sorted(id for id, member in facts.members.items() if member.revision < deployment.revision)
    if not behind:
        return go_on(deployment, facts, "")
    if elapsed(deployment, facts.now) < NODE_TIMEOUT:
        return deployment
    why = f"node {behind[0]} does not serve the version after {NODE_TIMEOUT:g} s; until it does"
    return _wait(deployment, facts, "promotion", why)


def _wait(
    deployment: Deployment, facts: Facts, what: Literal["verdict", "promotion"], why: str
) -> Deployment:
    """Say once what is waited for; the verdict's numbers are kept up to date beside it."""
    if deployment.waiting == what:
        return deployment
    return apply(deployment, "hold", facts.at, reason=why, waiting=what)


def _seconds(duration: str) -> float:
    return duration_ms(duration) / 1000
