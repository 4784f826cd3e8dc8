"""Writing a transition: everything that belongs to it in one transaction, whoever makes it.

The record by compare-and-swap, what becomes of the target, the audit log, the revision that nodes follow; and
with ``fencing`` the proof that the writer still has the lease. All of it is committed, or nothing is.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from hotswap_proxy.observe.tracing import current
from hotswap_proxy.store import deployments, leases, revisions
from hotswap_proxy.store.audit import AuditEntry, Author, append
from hotswap_proxy.store.deployments import Stored
from hotswap_proxy.store.revisions import Entry

from . import exposure
from .announce import Announce
from .record import Deployment, Event
from .targets.base import Target

LEASE = "deployments"

# Of the events that others are told of, the names that they know them by.
TOLD = {
    "create": "deployment.created",
    "approve": "deployment.approved",
    "reject": "deployment.rejected",
    "cancel": "deployment.rolledBack",
    "start": "deployment.started",
    "pause": "deployment.paused",
    "resume": "deployment.resumed",
    "promote": "deployment.promoted",
    "advance": "deployment.promoted",
    "hold": "deployment.held",
    "complete": "deployment.completed",
    "roll_back": "deployment.rolledBack",
    "condemn": "deployment.rolledBack",
    "fail": "deployment.failed",
}


def write(
    connection: Connection,
    before: Stored | None,
    after: Deployment,
    author: Author,
    target: Target,
    fencing: int | None = None,
) -> Stored:
    """The record as it is stored now; ``before`` None: a new one. LeaseLost: the fencing number is not the
    present one. Outdated: the record was written meanwhile. CannotGoLive: see ``Target``. Conflict:
    see ``deployments.add``.
    """
    if fencing is not None:
        leases.check(connection, LEASE, fencing)
    old = before.deployment if before is not None else None
    if not after.is_active:
        total = deployments.total(connection, after.deployment_id)
        after = after.model_copy(update={"measured": total.document()})
    version = _live_version(old, after)
    if version is not None:
        target.make_live(connection, after, version, author)
    if _concerns_nodes(old, after):
        # Last, so that who serves this revision serves all of the transition.
        revision = revisions.advance(connection, [Entry("deployment", after.deployment_id)])
        after = after.model_copy(update={"revision": revision})
    if before is None:
        stored = deployments.add(connection, after)
    else:
        stored = deployments.save(connection, before, after)
    if not after.is_active:
        deployments.prune(connection)
    append(connection, author, [_audited(after, event) for event in new_events(old, after)])
    return stored


def new_events(before: Deployment | None, after: Deployment) -> list[Event]:
    """What has happened between two records."""
    last = before.events[-1] if before is not None and before.events else None
    found: list[Event] = []
    for event in reversed(after.events):
        if event is last or event == last:
            break
        found.append(event)
    return found[::-1]


def announce_changes(announce: Announce, before: Deployment | None, after: Deployment) -> None:
    """Tell others what has happened; after it was committed."""
    current.deployment(before, after)
    for event in new_events(before, after):
        announce(TOLD[event.event], **_told(after, event))


def _live_version(before: Deployment | None, after: Deployment) -> str | None:
    """The version that the target's live one becomes with this transition, if it does."""
    was_under_way = before is not None and before.is_under_way
    if after.strategy == "Direct":
        if after.is_under_way and not was_under_way:
            return after.config_version
        # Direct fails only when its target is gone or was changed by others: then there is nothing to undo.
        return after.stable_version if after.status == "RolledBack" and was_under_way else None
    return after.config_version if after.status == "Completed" else None


def _concerns_nodes(before: Deployment | None, after: Deployment) -> bool:
    if before is None:
        return after.is_under_way
    return exposure.differs(before, after)


def _audited(deployment: Deployment, event: Event) -> AuditEntry:
    details = {key: value for key, value in _told(deployment, event).items() if key != "deploymentId"}
    action = f"deployment.{event.event}"
    return AuditEntry(action, deployment.deployment_id, deployment.route_name, details)


def _told(deployment: Deployment, event: Event) -> dict[str, object]:
    return dict(_fields(deployment, event))


def _fields(deployment: Deployment, event: Event) -> Iterator[tuple[str, object]]:
    yield "deploymentId", deployment.deployment_id
    yield "routeId", deployment.route_id
    yield "routeName", deployment.route_name
    yield "stableVersion", deployment.stable_version
    yield "configVersion", deployment.config_version
    yield "strategy", deployment.strategy
    yield "environment", deployment.environment
    yield "status", event.status
    yield "trafficPercentage", deployment.traffic_percentage
    yield "message", event.message
    if event.by is not None:
        yield "by", event.by.username
