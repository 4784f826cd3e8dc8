"""Versions of routes: immutable documents, one of which is live."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Connection, func, select

from .tables import deployments, route_versions, routes

_mine = route_versions.c
_COLUMNS = (_mine.version, _mine.description, _mine.live_at, _mine.created_at, _mine.created_by)
LIVE = "live"  # stands for the name of the live version


def page(connection: Connection, route_id: str, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Newest first: (versions without their documents, total)."""
    mine = _mine.route_id == route_id
    total = connection.execute(select(func.count()).select_from(route_versions).where(mine)).scalar_one()
    query = select(*_COLUMNS).where(mine).order_by(_mine.sequence.desc()).limit(limit).offset(offset)
    live, deploying = live_name(connection, route_id), _deploying(connection, route_id)
    return [_told(row, live, deploying) for row in connection.execute(query)], total


def get(connection: Connection, route_id: str, name: str) -> dict[str, Any] | None:
    """One with its document, ``route``; the live one by the name ``live``, unless there is one called so."""
    query = select(*_COLUMNS, _mine.document).where(_mine.route_id == route_id)
    row = connection.execute(query.where(_mine.version == name)).first()
    live = live_name(connection, route_id)
    if row is None and name == LIVE and live is not None:
        row = connection.execute(query.where(_mine.version == live)).first()
    if row is None:
        return None
    return _told(row, live, _deploying(connection, route_id)) | {"route": orjson.loads(row.document)}


def live_name(connection: Connection, route_id: str) -> str | None:
    return connection.execute(select(routes.c.version).where(routes.c.route_id == route_id)).scalar()


def _deploying(connection: Connection, route_id: str) -> str | None:
    """The version that an active deployment goes to."""
    query = select(deployments.c.document).where(
        deployments.c.target_id == route_id,
        deployments.c.target_kind == "route",
        deployments.c.target.is_not(None),
    )
    document = connection.execute(query).scalar()
    return None if document is None else str(orjson.loads(document)["configVersion"])


def _told(row: Any, live: str | None, deploying: str | None) -> dict[str, Any]:
    """``state``: Live; Deploying, a deployment that has not ended goes there; Staged, it was never live;
    Previous, it was.
    """
    if row.version == live:
        state = "Live"
    elif row.version == deploying:
        state = "Deploying"
    else:
        state = "Previous" if row.live_at else "Staged"
    told = {"version": row.version, "state": state, "description": row.description, "liveAt": row.live_at}
    return told | {"createdAt": row.created_at, "createdBy": row.created_by}
