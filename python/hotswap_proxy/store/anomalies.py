"""Queries of anomalies. Functions of a connection, for ``Store.read`` and ``Store.write``."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, delete, func, insert, select, update

from .tables import anomalies, deployments, route_versions, routes
from .times import database_clock, of_seconds

KEPT = 7 * 24 * 3600  # seconds, of those that have ended
_mine = anomalies.c

Anomaly = dict[str, Any]


class Change(NamedTuple):
    """What was changed of a route last. ``deployment_id``: if by a deployment."""

    at: str
    version: str
    deployment_id: str | None


def page(
    connection: Connection, route_id: str | None, is_active: bool | None, limit: int, offset: int
) -> tuple[list[Anomaly], int]:
    """Newest first: (anomalies, total)."""
    conditions = []
    if route_id is not None:
        conditions.append(_mine.route_id == route_id)
    if is_active is not None:
        conditions.append(_mine.ended_at.is_(None) if is_active else _mine.ended_at.is_not(None))
    total = connection.execute(select(func.count()).select_from(anomalies).where(*conditions)).scalar_one()
    query = (
        select(_mine.document)
        .where(*conditions)
        .order_by(_mine.started_at.desc(), _mine.anomaly_id)
        .limit(limit)
        .offset(offset)
    )
    return [orjson.loads(text) for text in connection.execute(query).scalars()], total


def active(connection: Connection) -> list[Anomaly]:
    """All that have not ended."""
    query = select(_mine.document).where(_mine.active.is_not(None)).order_by(_mine.started_at)
    return [orjson.loads(text) for text in connection.execute(query).scalars()]


def lately(connection: Connection, since: str) -> list[Anomaly]:
    """Those that have not ended, or not before ``since``."""
    query = select(_mine.document).where(_mine.active.is_not(None) | (_mine.ended_at >= since))
    return [orjson.loads(text) for text in connection.execute(query).scalars()]


def begin(connection: Connection, anomaly: Anomaly) -> bool:
    """Store a new one. False: there is one of this kind already."""
    name = _name(anomaly)
    if connection.execute(select(_mine.anomaly_id).where(_mine.active == name)).first() is not None:
        return False
    row = {
        "anomaly_id": anomaly["anomalyId"],
        "route_id": anomaly["routeId"],
        "active": name,
        "started_at": anomaly["startedAt"],
        "document": orjson.dumps(anomaly).decode(),
    }
    connection.execute(insert(anomalies).values(row))
    return True


def end(
    connection: Connection, kind: str, route_id: str, arm: str | None, ended_at: str, reason: str
) -> Anomaly | None:
    """The one of this kind that has not ended, ended; None: there is none."""
    name = _name({"kind": kind, "routeId": route_id, "arm": arm})
    found = connection.execute(select(_mine.document).where(_mine.active == name)).scalar()
    if found is None:
        return None
    anomaly: Anomaly = orjson.loads(found)
    # A clock that was set back must not end it before it began.
    anomaly |= {"endedAt": max(ended_at, anomaly["startedAt"]), "endReason": reason}
    values = {"active": None, "ended_at": anomaly["endedAt"], "document": orjson.dumps(anomaly).decode()}
    connection.execute(update(anomalies).where(_mine.active == name).values(values))
    return anomaly


def prune(connection: Connection, kept: float = KEPT) -> None:
    """Forget those that ended long ago."""
    limit = of_seconds(database_clock(connection) - kept)
    connection.execute(delete(anomalies).where(_mine.ended_at < limit))


def route(connection: Connection, route_id: str) -> tuple[str, bool] | None:
    """Name of a route and whether it is enabled; None: it is gone."""
    row = connection.execute(
        select(routes.c.name, routes.c.is_enabled).where(routes.c.route_id == route_id)
    ).first()
    return None if row is None else (row[0], row[1])


def latest_change(connection: Connection, route_id: str, since: str, until: str) -> Change | None:
    """What was changed of a route last in this time: a version that went live, or a step of a deployment."""
    found: list[Change] = []
    versions = route_versions.c
    live = (
        select(versions.live_at, versions.version)
        .where(versions.route_id == route_id, versions.live_at >= since, versions.live_at <= until)
        .order_by(versions.live_at.desc())
        .limit(1)
    )
    if row := connection.execute(live).first():
        found.append(Change(row[0], row[1], None))
    moved = (
        select(deployments.c.document)
        .where(deployments.c.target_id == route_id, deployments.c.updated_at >= since)
        .order_by(deployments.c.created_at.desc())
        .limit(1)
    )
    text = connection.execute(moved).scalar()
    if text is not None:
        document = orjson.loads(text)
        steps = [event["at"] for event in document["events"] if since <= event["at"] <= until]
        if steps:
            found.append(Change(max(steps), document["configVersion"], document["deploymentId"]))
    if not found:
        return None
    last = max(found)
    # The version went live by the deployment, in the same transaction.
    by_deployment = next((each for each in found if each.deployment_id is not None), None)
    if by_deployment is not None and by_deployment.version == last.version:
        return last._replace(deployment_id=by_deployment.deployment_id)
    return last


def _name(anomaly: Anomaly) -> str:
    return f"{anomaly['kind']}:{anomaly['arm'] or ''}:{anomaly['routeId']}"
