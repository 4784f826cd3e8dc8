"""Queries of registered backends. Functions of a connection, for ``Store.read`` and ``Store.write``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, func, or_, select

from . import routes
from .routes import CHUNK, Stored, stored
from .tables import backends


class Registered(NamedTuple):
    """What a reference to a backend needs to know of it."""

    backend_id: str
    name: str


_COLUMNS = (
    backends.c.document,
    backends.c.etag,
    backends.c.created_at,
    backends.c.created_by,
    backends.c.updated_at,
    backends.c.updated_by,
)


def get(connection: Connection, backend_id: str) -> Stored | None:
    row = connection.execute(select(*_COLUMNS).where(backends.c.backend_id == backend_id)).first()
    return None if row is None else stored(row)


def find_any(connection: Connection, backend_id: str) -> dict[str, Any] | None:
    """A registered backend, or else a route's own, as documents; a scan of all routes for the latter."""
    found = get(connection, backend_id)
    if found is not None:
        return found.document
    for text in routes.documents(connection):
        if backend_id in text:
            for backend in orjson.loads(text)["backends"]:
                if backend["backendId"] == backend_id and "url" in backend:
                    own: dict[str, Any] = backend
                    return own
    return None


def id_of_name(connection: Connection, name: str) -> str | None:
    return connection.execute(select(backends.c.backend_id).where(backends.c.name == name)).scalar()


def page(
    connection: Connection, is_enabled: bool | None, limit: int, offset: int
) -> tuple[list[Stored], int]:
    """By name: (backends, total)."""
    conditions = [] if is_enabled is None else [backends.c.is_enabled.is_(is_enabled)]
    total = connection.execute(select(func.count()).select_from(backends).where(*conditions)).scalar_one()
    query = select(*_COLUMNS).where(*conditions).order_by(backends.c.name).limit(limit).offset(offset)
    return [stored(row) for row in connection.execute(query)], total


def documents(connection: Connection) -> Iterator[str]:
    """The documents of all registered backends, by name, a batch at a time."""
    query = select(backends.c.document).order_by(backends.c.name)
    yield from connection.execute(query, execution_options={"yield_per": CHUNK}).scalars()


def some(connection: Connection, backend_ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(id, document) of those of these backends which there are."""
    wanted = sorted(backend_ids)
    for start in range(0, len(wanted), CHUNK):
        part = wanted[start : start + CHUNK]
        query = select(backends.c.backend_id, backends.c.document).where(backends.c.backend_id.in_(part))
        yield from ((row[0], row[1]) for row in connection.execute(query).all())


def find(connection: Connection, keys: Iterable[str]) -> list[Registered]:
    """The registered backends whose id or name is one of ``keys``."""
    wanted = list(keys)
    found: set[Registered] = set()
    for start in range(0, len(wanted), CHUNK // 2):
        part = wanted[start : start + CHUNK // 2]
        query = select(backends.c.backend_id, backends.c.name).where(
            or_(backends.c.backend_id.in_(part), backends.c.name.in_(part))
        )
        found.update(Registered(row[0], row[1]) for row in connection.execute(query))
    return list(found)
