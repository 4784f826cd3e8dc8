"""The trace of a deployment: one span from its creation to its end, one for each phase, one for a way back.

A deployment lasts for hours, is driven by whichever node has the lease, and outlives each of them. So each
span is told when it is over, by the node that ended it; its place follows from the deployment's id.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from hotswap_proxy.deploy.writing import new_events
from hotswap_proxy.observe.tracing.current import Value
from hotswap_proxy.observe.tracing.place import Happening, Place

if TYPE_CHECKING:
    from hotswap_proxy.deploy.record import Deployment, Event
    from hotswap_proxy.observe.tracing.spans import SdkTracer

_BACK = frozenset({"roll_back", "condemn", "cancel"})
_FAILED = frozenset({"Failed", "RolledBack"})


def tell(tracer: SdkTracer, before: Deployment | None, after: Deployment) -> None:
    """What is over with this transition. The span under way, an order by the API, is linked to it."""
    whole = Place.of("deployment", after.deployment_id)
    tracer.link(whole)
    about = _about(after)
    known = {phase.name for phase in before.phases if phase.completed_at} if before is not None else set()
    for number, phase in enumerate(after.phases):
        if phase.started_at is None or phase.completed_at is None or phase.name in known:
            continue
        place = Place(whole.trace_id, Place.of("phase", f"{after.deployment_id} {number}").span_id)
        told: dict[str, Value] = {
            "hotswap.phase.name": phase.name,
            "hotswap.phase.traffic_percentage": phase.traffic_percentage,
            "hotswap.phase.status": phase.status,
        }
        failed = after.message if phase.status == "Failed" else None
        times = (_nanos(phase.started_at), _nanos(phase.completed_at))
        tracer.tell("config.deploy.phase", place, times, about | told, parent=whole, failed=failed)
    for event in new_events(before, after):
        if event.event in _BACK:
            place = Place(whole.trace_id, Place.of("rollback", after.deployment_id).span_id)
            times = (_nanos(event.at), _nanos(after.completed_at or event.at))
            told = {"hotswap.rollback.reason": event.message, "hotswap.rollback.by": _by(event)}
            tracer.tell("config.rollback", place, times, about | told, parent=whole)
    if not after.is_active:
        failed = after.message or after.status if after.status in _FAILED else None
        happenings = [
            Happening(event.event, _nanos(event.at), {"message": event.message, "by": _by(event)})
            for event in after.events
        ]
        times = (_nanos(after.created_at), _nanos(after.completed_at or after.events[-1].at))
        tracer.tell("config.deploy", whole, times, about, happenings=happenings, failed=failed)


def _about(deployment: Deployment) -> dict[str, Value]:
    found = {
        "hotswap.deployment.id": deployment.deployment_id,
        "hotswap.deployment.strategy": deployment.strategy,
        "hotswap.deployment.status": deployment.status,
        "hotswap.route.id": deployment.route_id,
        "hotswap.route.name": deployment.route_name,
        "hotswap.route.stable_version": deployment.stable_version,
        "hotswap.route.version": deployment.config_version,
    }
    return {name: value for name, value in found.items() if value is not None}


def _by(event: Event) -> str:
    return event.by.username if event.by is not None else "system"


def _nanos(moment: str) -> int:
    """Since 1970, of RFC 3339."""
    parsed = datetime.fromisoformat(moment)
    return int(parsed.timestamp()) * 1_000_000_000 + parsed.microsecond * 1000
