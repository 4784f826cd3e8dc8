"""What may become of a deployment and of its phases: two tables, and how they are applied.

What is not in a table is not possible: Conflict names the state and the event. Who writes a status goes
through ``apply`` or ``apply_to_phase``; there is no other place that does.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

from hotswap_proxy.errors import Conflict

from .record import Deployment, Event, Person, Phase, PhaseStatus, Status

EventName = Literal[
    "approve", "reject", "cancel", "start", "pause", "resume", "promote", "advance", "hold", "complete",
    "roll_back", "condemn", "fail",
]  # fmt: skip
PhaseEvent = Literal["begin", "skip", "pass", "fail"]
EVENTS: tuple[EventName, ...] = get_args(EventName)
PHASE_EVENTS: tuple[PhaseEvent, ...] = get_args(PhaseEvent)

MAX_EVENTS = 200  # that a record keeps; the audit log has all of them


class Move(NamedTuple):
    """Where an event leads to, and the sentence that is told of it."""

    status: Status
    sentence: str


# Events of people: approve, reject, cancel, pause, resume, promote, roll_back (complete by a promotion out
# of the last phase). Events of the engine: start, advance, hold, complete, condemn (the judge), fail.
TABLE: dict[tuple[Status, EventName], Move] = {
    ("Pending", "approve"): Move("Approved", "approved by {by}"),
    ("Pending", "reject"): Move("Failed", "rejected by {by}{reason}"),
    ("Pending", "cancel"): Move("RolledBack", "withdrawn by {by} before it began{reason}"),
    ("Pending", "fail"): Move("Failed", "failed before it began{reason}"),
    ("Approved", "start"): Move("InProgress", "started: {phase}"),
    ("Approved", "cancel"): Move("RolledBack", "withdrawn by {by} before it began{reason}"),
    ("Approved", "fail"): Move("Failed", "failed before it began{reason}"),
    ("InProgress", "pause"): Move("Paused", "paused by {by} in phase {phase}"),
    ("InProgress", "promote"): Move("InProgress", "promoted by {by} to {phase}"),
    ("InProgress", "advance"): Move("InProgress", "{reason}; on to {phase}"),
    ("InProgress", "hold"): Move("InProgress", "held in phase {phase}{reason}"),
    ("InProgress", "complete"): Move("Completed", "completed: all traffic has version {version}"),
    ("InProgress", "roll_back"): Move("RolledBack", "rolled back to version {stable} by {by}{reason}"),
    ("InProgress", "condemn"): Move("RolledBack", "rolled back to version {stable} by the judge{reason}"),
    ("InProgress", "fail"): Move("Failed", "failed{reason}"),
    ("Paused", "resume"): Move("InProgress", "resumed by {by} in phase {phase}"),
    ("Paused", "promote"): Move("InProgress", "promoted by {by} to {phase}"),
    ("Paused", "complete"): Move("Completed", "completed by {by}: all traffic has version {version}"),
    ("Paused", "roll_back"): Move("RolledBack", "rolled back to version {stable} by {by}{reason}"),
    ("Paused", "condemn"): Move("RolledBack", "rolled back to version {stable} by the judge{reason}"),
    ("Paused", "fail"): Move("Failed", "failed{reason}"),
}
FIRST: tuple[Status, ...] = ("Pending", "Approved")  # with and without somebody's approval
ENDED: tuple[Status, ...] = ("Completed", "Failed", "RolledBack")

PHASES: dict[tuple[PhaseStatus, PhaseEvent], PhaseStatus] = {
    ("Pending", "begin"): "InProgress",
    ("Pending", "skip"): "Skipped",
    ("InProgress", "pass"): "Completed",
    ("InProgress", "fail"): "Failed",
}


def apply(
    deployment: Deployment,
    event: EventName,
    at: str,
    *,
    by: Person | None = None,
    reason: str | None = None,
    **changes: Any,
) -> Deployment:
    """The record after ``event``, with ``changes`` of other fields made as well. Conflict: not possible now.

    ``reason`` ends the sentence, or begins it for an advance.
    """
    move = TABLE.get((deployment.status, event))
    if move is None:
        raise _impossible(deployment, event)
    changed = _copy(deployment, changes)
    ends = move.status in ENDED
    if ends:
        changed = _end(changed, event, at)
    message = move.sentence.format(
        by=by.username if by else "the engine",
        reason=(reason or "") if event == "advance" else f": {reason}" if reason else "",
        phase=changed.phase.name if changed.phases else "all at once",
        version=changed.config_version,
        stable=changed.stable_version,
    )
    told = Event(at=at, event=event, status=move.status, message=message, by=by)
    return _copy(
        changed,
        {
            "status": move.status,
            "message": message,
            "events": [*changed.events[-(MAX_EVENTS - 1) :], told],
            "completed_at": at if ends else None,
        },
    )


def apply_to_phase(phase: Phase, event: PhaseEvent, at: str) -> Phase:
    """The phase after ``event``."""
    status = PHASES.get((phase.status, event))
    if status is None:
        raise Conflict(f"phase {phase.name} is {phase.status}; {event} is not possible")
    times = {"started_at": at} if event == "begin" else {"completed_at": at}
    return phase.model_copy(update={"status": status} | times)


def allowed(status: Status) -> list[EventName]:
    """What may happen in a status, in the table's order."""
    return [event for state, event in TABLE if state == status]


def _end(deployment: Deployment, event: EventName, at: str) -> Deployment:
    """Every phase gets its end as well."""
    last: PhaseEvent = "pass" if event == "complete" else "fail"
    phases = [
        apply_to_phase(phase, last, at)
        if phase.status == "InProgress"
        else apply_to_phase(phase, "skip", at)
        if phase.status == "Pending"
        else phase
        for phase in deployment.phases
    ]
    share = 100.0 if event == "complete" else 0.0
    return _copy(deployment, {"phases": phases, "traffic_percentage": share, "paused_at": None})


def _copy(deployment: Deployment, changes: dict[str, Any]) -> Deployment:
    # Names are checked, for model_copy takes any; values come from this package, and mypy has seen them.
    if unknown := changes.keys() - Deployment.model_fields.keys():
        raise TypeError(f"not fields of a deployment: {', '.join(sorted(unknown))}")
    return deployment.model_copy(update=changes)


_ORDERS: dict[str, str] = {"roll_back": "roll back", "condemn": "roll back"}


def _impossible(deployment: Deployment, event: EventName) -> Conflict:
    order = _ORDERS.get(event, event)
    people = [_ORDERS.get(each, each) for each in allowed(deployment.status) if each not in _ENGINE]
    what = f"possible now: {', '.join(people)}" if people else "it has ended"
    return Conflict(
        f"deployment {deployment.deployment_id} is {deployment.status}; {order} is not possible ({what})"
    )


_ENGINE = ("start", "advance", "hold", "complete", "condemn", "fail")
