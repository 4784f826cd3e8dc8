"""Queries of deployments and of what was measured of them. Functions of a connection, for ``Store.read``,
``Store.write`` and ``Store.beat``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from hotswap_proxy.deploy.measurement import Measurement
from hotswap_proxy.deploy.record import Deployment, Status
from hotswap_proxy.errors import Conflict, Detail

from .changes import Outdated
from .routes import CHUNK
from .tables import deployment_measurements as measurements
from .tables import deployments
from .times import database_clock, now

KEPT = 1_000  # deployments that have ended


class Stored(NamedTuple):
    """A record as it was read. ``record_version`` says of which writing it is."""

    deployment: Deployment
    record_version: int


class NodeMeasurement(NamedTuple):
    """What one run of a node has counted, and what it had in flight then. ``measured_at``: database clock."""

    node_id: str
    boot_id: str
    measured_at: float
    counts: Measurement
    active: Mapping[str, int]  # arm → requests in flight


@dataclass(slots=True, kw_only=True)
class DeploymentFilter:
    status: Status | None = None
    route_id: str | None = None
    environment: str | None = None
    is_active: bool | None = None
    target_kind: str = "route"

    def conditions(self) -> list[ColumnElement[bool]]:
        columns = deployments.c
        found: list[ColumnElement[bool]] = [columns.target_kind == self.target_kind]
        if self.status is not None:
            found.append(columns.status == self.status)
        if self.route_id is not None:
            found.append(columns.target_id == self.route_id)
        if self.environment is not None:
            found.append(columns.environment == self.environment)
        if self.is_active is not None:
            found.append(columns.target.is_not(None) if self.is_active else columns.target.is_(None))
        return found


# --- records --------------------------------------------------------------------------------------


def get(connection: Connection, deployment_id: str) -> Stored | None:
    return _one(connection, deployments.c.deployment_id == deployment_id)


def active_on(connection: Connection, target_kind: str, target_id: str) -> Stored | None:
    """The deployment that has not ended of this target; there is one at most."""
    return _one(connection, deployments.c.target == _target(target_kind, target_id))


def active(connection: Connection, target_kind: str) -> list[Deployment]:
    """All that have not ended, of a kind of target."""
    query = select(deployments.c.document).where(
        deployments.c.target.is_not(None), deployments.c.target_kind == target_kind
    )
    return [Deployment.model_validate_json(text) for text in connection.execute(query).scalars()]


def driven_ids(connection: Connection) -> list[str]:
    """Of all deployments that the engine has something to do with, the oldest first: those that have not
    ended and do not wait for somebody's approval.
    """
    query = select(deployments.c.deployment_id).where(
        deployments.c.target.is_not(None), deployments.c.status != "Pending"
    )
    return list(connection.execute(query.order_by(deployments.c.created_at)).scalars())


def recent_keys(connection: Connection, since: str, limit: int) -> list[tuple[str, int]]:
    """(id, writing) of those that have not ended, the newest first; then of those ended after ``since``."""
    ended = deployments.c.target.is_(None)
    query = (
        select(deployments.c.deployment_id, deployments.c.record_version)
        .where(~ended | (deployments.c.updated_at >= since))
        .order_by(ended, deployments.c.created_at.desc(), deployments.c.deployment_id)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def page(
    connection: Connection, wanted: DeploymentFilter, limit: int, offset: int
) -> tuple[list[Deployment], int]:
    """Newest first: (deployments, total)."""
    conditions = wanted.conditions()
    total = connection.execute(select(func.count()).select_from(deployments).where(*conditions)).scalar_one()
    query = (
        select(deployments.c.document)
        .where(*conditions)
        .order_by(deployments.c.created_at.desc(), deployments.c.deployment_id)
        .limit(limit)
        .offset(offset)
    )
    return [Deployment.model_validate_json(text) for text in connection.execute(query).scalars()], total


def add(connection: Connection, deployment: Deployment) -> Stored:
    """Store a new record. Conflict: its target has another one that has not ended."""
    other = active_on(connection, deployment.target_kind, deployment.route_id)
    if other is not None and deployment.is_active:
        raise _busy(other.deployment)
    row = _columns(deployment) | {
        "deployment_id": deployment.deployment_id,
        "target_kind": deployment.target_kind,
        "target_id": deployment.route_id,
        "environment": deployment.environment,
        "record_version": 1,
        "created_at": deployment.created_at,
    }
    connection.execute(insert(deployments).values(row))
    return Stored(deployment, 1)


def save(connection: Connection, before: Stored, deployment: Deployment) -> Stored:
    """Compare and swap. Outdated: somebody else has written since ``before`` was read."""
    version = before.record_version + 1
    mine = (deployments.c.deployment_id == deployment.deployment_id) & (
        deployments.c.record_version == before.record_version
    )
    values = _columns(deployment) | {"record_version": version}
    if connection.execute(update(deployments).where(mine).values(values)).rowcount != 1:
        raise Outdated
    return Stored(deployment, version)


def prune(connection: Connection, kept: int = KEPT) -> int:
    """Forget the oldest of those that have ended, beyond ``kept``, and what was measured of any that has
    ended: its record has the total. How many records went.
    """
    ended = deployments.c.target.is_(None)
    over = select(deployments.c.deployment_id).where(ended)
    old = list(
        connection.execute(over.order_by(deployments.c.created_at.desc()).offset(kept).limit(CHUNK)).scalars()
    )
    connection.execute(delete(measurements).where(measurements.c.deployment_id.in_(over)))
    if old:
        connection.execute(delete(deployments).where(deployments.c.deployment_id.in_(old)))
    return len(old)


def _one(connection: Connection, condition: ColumnElement[bool]) -> Stored | None:
    query = select(deployments.c.document, deployments.c.record_version).where(condition)
    row = connection.execute(query).first()
    return None if row is None else Stored(Deployment.model_validate_json(row[0]), row[1])


def _target(kind: str, target_id: str) -> str:
    return f"{kind}:{target_id}"


def _columns(deployment: Deployment) -> dict[str, Any]:
    target = _target(deployment.target_kind, deployment.route_id) if deployment.is_active else None
    return {
        "target": target,
        "status": deployment.status,
        "document": orjson.dumps(deployment.document()).decode(),
        "updated_at": now(),
    }


def _busy(other: Deployment) -> Conflict:
    message = (
        f"deployment {other.deployment_id} of {other.route_name} is {other.status}; "
        "there is one at a time, and it has to end first"
    )
    return Conflict(message, [Detail("routeId", "deploying", message)])


# --- measurements ---------------------------------------------------------------------------------


def measure(
    connection: Connection, deployment_id: str, node_id: str, boot_id: str, document: Mapping[str, Any]
) -> None:
    """Note what a run of a node has counted until now: ``Measurement.document`` with ``active``. Nothing is
    noted of a deployment that has ended.
    """
    key = (
        (measurements.c.deployment_id == deployment_id)
        & (measurements.c.node_id == node_id)
        & (measurements.c.boot_id == boot_id)
    )
    values = {"measured_at": database_clock(connection), "document": orjson.dumps(document).decode()}
    if connection.execute(update(measurements).where(key).values(values)).rowcount:
        return
    active = deployments.c.target.is_not(None)
    known = select(deployments.c.deployment_id).where(deployments.c.deployment_id == deployment_id, active)
    if connection.execute(known).first() is None:
        return
    # The row is this run's own: nobody else makes it meanwhile.
    names = {"deployment_id": deployment_id, "node_id": node_id, "boot_id": boot_id}
    connection.execute(insert(measurements).values(names | values))


def measured(connection: Connection, deployment_id: str) -> list[NodeMeasurement]:
    """By node and run."""
    return list(_measured(connection, [deployment_id]))


def total(connection: Connection, deployment_id: str) -> Measurement:
    """Of all nodes together; of a deployment that has ended, what its record keeps."""
    stored = get(connection, deployment_id)
    if stored is not None and stored.deployment.measured is not None:
        return Measurement.of(stored.deployment.measured)
    return Measurement.total(each.counts for each in measured(connection, deployment_id))


def _measured(connection: Connection, deployment_ids: Collection[str]) -> Iterator[NodeMeasurement]:
    query = select(
        measurements.c.node_id,
        measurements.c.boot_id,
        measurements.c.measured_at,
        measurements.c.document,
    ).where(measurements.c.deployment_id.in_(list(deployment_ids)))
    for node_id, boot_id, measured_at, text in connection.execute(query).all():
        document = orjson.loads(text)
        yield NodeMeasurement(
            node_id, boot_id, measured_at, Measurement.of(document), document.get("active", {})
        )
