"""Every status with every event, for deployments and for phases; and the page that draws the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from hotswap_proxy.deploy.diagram import render
from hotswap_proxy.deploy.exposure import share_of
from hotswap_proxy.deploy.record import ACTIVE, Deployment, Person, Phase, PhaseStatus, Status
from hotswap_proxy.deploy.transitions import (
    ENDED,
    EVENTS,
    PHASE_EVENTS,
    PHASES,
    TABLE,
    allowed,
    apply,
    apply_to_phase,
)
from hotswap_proxy.errors import Conflict

AT = "2027-01-15T08:00:00.000000Z"
ANN = Person(username="ann", user_id="usr-ann")
STATUSES: tuple[Status, ...] = get_args(Status)
PAGE = Path(__file__).parents[2] / "docs" / "deployments.md"

# Written down once more, by status, so that no row of the table comes or goes unnoticed.
EXPECTED: dict[Status, dict[str, Status]] = {
    "Pending": {"approve": "Approved", "reject": "Failed", "cancel": "RolledBack", "fail": "Failed"},
    "Approved": {"start": "InProgress", "cancel": "RolledBack", "fail": "Failed"},
    "InProgress": {
        "pause": "Paused",
        "promote": "InProgress",
        "advance": "InProgress",
        "hold": "InProgress",
        "complete": "Completed",
        "roll_back": "RolledBack",
        "condemn": "RolledBack",
        "fail": "Failed",
    },
    "Paused": {
        "resume": "InProgress",
        "promote": "InProgress",
        "complete": "Completed",
        "roll_back": "RolledBack",
        "condemn": "RolledBack",
        "fail": "Failed",
    },
    "Completed": {},
    "Failed": {},
    "RolledBack": {},
}


def record(status: Status, **fields: Any) -> Deployment:
    phases = [
        Phase(name="10 %", traffic_percentage=10.0, duration="5m", status="InProgress", started_at=AT),
        Phase(name="100 %", traffic_percentage=100.0, duration="5m"),
    ]
    given: dict[str, Any] = {
        "deployment_id": "dep-1",
        "route_id": "rt-1",
        "route_name": "users",
        "stable_version": "1.0",
        "config_version": "2.0",
        "strategy": "Canary",
        "status": status,
        "approval_status": "NotRequired",
        "salt": "00" * 8,
        "phases": phases,
        "traffic_percentage": 10.0,
        "created_by": ANN,
        "created_at": AT,
    }
    return Deployment(**given | fields)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("status", STATUSES)
def test_every_status_with_every_event(status: Status, event: Any) -> None:
    before = record(status)
    expected = EXPECTED[status].get(event)
    if expected is None:
        with pytest.raises(Conflict) as refused:
            apply(before, event, AT, by=ANN)
        order = {"roll_back": "roll back", "condemn": "roll back"}.get(event, event)
        assert f"dep-1 is {status}; {order} is not possible" in refused.value.message
        return
    after = apply(before, event, AT, by=ANN, reason="a reason")
    assert after.status == expected
    assert before.status == status and not before.events, "the old record stays as it is"
    told = after.events[-1]
    assert (told.event, told.status, told.message, told.by) == (event, expected, after.message, ANN)
    assert "{" not in after.message and "None" not in after.message
    if expected in ENDED:
        assert after.completed_at == AT and not after.is_active and share_of(after, "n1") == 0
        assert all(phase.status not in ("Pending", "InProgress") for phase in after.phases)
    else:
        assert after.completed_at is None and after.is_active


def test_the_table_has_no_other_rows() -> None:
    rows = {(status, event): to for status, moves in EXPECTED.items() for event, to in moves.items()}
    assert {key: move.status for key, move in TABLE.items()} == rows
    assert all(not allowed(status) for status in ENDED)
    assert set(STATUSES) - set(ENDED) == ACTIVE


@pytest.mark.parametrize("event", PHASE_EVENTS)
@pytest.mark.parametrize("status", get_args(PhaseStatus))
def test_every_phase_status_with_every_event(status: PhaseStatus, event: Any) -> None:
    phase = Phase(name="10 %", traffic_percentage=10.0, status=status)
    expected = {
        ("Pending", "begin"): "InProgress",
        ("Pending", "skip"): "Skipped",
        ("InProgress", "pass"): "Completed",
        ("InProgress", "fail"): "Failed",
    }.get((status, event))
    assert PHASES.get((status, event)) == expected
    if expected is None:
        with pytest.raises(Conflict, match=f"phase 10 % is {status}; {event} is not possible"):
            apply_to_phase(phase, event, AT)
    else:
        assert apply_to_phase(phase, event, AT).status == expected


def test_fields_that_are_none_are_not_set() -> None:
    with pytest.raises(TypeError, match="trafic"):
        apply(record("InProgress"), "pause", AT, by=ANN, trafic=3)


def test_old_events_make_room() -> None:
    deployment = record("InProgress")
    for _ in range(250):
        deployment = apply(deployment, "hold", AT)
    assert len(deployment.events) == 200


def test_the_drawn_diagrams_are_those_of_the_tables() -> None:
    page = PAGE.read_text()
    assert render(page) == page, "run: python -m hotswap_proxy.deploy.diagram docs/deployments.md"
    with pytest.raises(ValueError, match="deployment diagram"):
        render("an empty page")
