"""Queries of routes and their versions. Functions of a connection, for ``Store.read`` and ``Store.write``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, func, or_, select

from .tables import backends, route_backends, route_versions, routes

CHUNK = 500  # parameters in one IN list; SQLite allows 999 in its older versions


class Stored(NamedTuple):
    """A route or backend as it is stored. ``document`` is the whole object, camelCase."""

    document: dict[str, Any]
    etag: str
    created_at: str
    created_by: str
    updated_at: str
    updated_by: str

    def answer(self) -> dict[str, Any]:
        """The object as the API answers it."""
        return self.document | {
            "createdAt": self.created_at,
            "createdBy": self.created_by,
            "updatedAt": self.updated_at,
            "updatedBy": self.updated_by,
        }


def stored(row: Any) -> Stored:
    """A row of the columns below."""
    return Stored(orjson.loads(row[0]), *row[1:])


_COLUMNS = (
    routes.c.document,
    routes.c.etag,
    routes.c.created_at,
    routes.c.created_by,
    routes.c.updated_at,
    routes.c.updated_by,
)


@dataclass(slots=True, kw_only=True)
class RouteFilter:
    is_enabled: bool | None = None
    strategy: str | None = None
    environment: str | None = None
    name: str | None = None  # a part of it

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.is_enabled is not None:
            found.append(routes.c.is_enabled.is_(self.is_enabled))
        if self.strategy is not None:
            found.append(routes.c.strategy == self.strategy)
        if self.environment is not None:
            found.append(served_by(self.environment))
        if self.name is not None:
            found.append(routes.c.name.icontains(self.name, autoescape=True))
        return found


def served_by(environment: str) -> ColumnElement[bool]:
    """A node serves the routes of its own environment and those of any."""
    return or_(routes.c.environment.is_(None), routes.c.environment == environment)


def get(connection: Connection, route_id: str) -> Stored | None:
    row = connection.execute(select(*_COLUMNS).where(routes.c.route_id == route_id)).first()
    return None if row is None else stored(row)


def id_of_name(connection: Connection, name: str) -> str | None:
    return connection.execute(select(routes.c.route_id).where(routes.c.name == name)).scalar()


def page(connection: Connection, wanted: RouteFilter, limit: int, offset: int) -> tuple[list[Stored], int]:
    """By name: (routes, total)."""
    conditions = wanted.conditions()
    total = connection.execute(select(func.count()).select_from(routes).where(*conditions)).scalar_one()
    query = select(*_COLUMNS).where(*conditions).order_by(routes.c.name).limit(limit).offset(offset)
    return [stored(row) for row in connection.execute(query)], total


def documents(connection: Connection, environment: str | None = None) -> Iterator[str]:
    """The documents of all routes (or of those a node of ``environment`` serves), by name, a batch at a
    time.
    """
    query = select(routes.c.document).order_by(routes.c.name)
    if environment is not None:
        query = query.where(served_by(environment))
    yield from connection.execute(query, execution_options={"yield_per": CHUNK}).scalars()


def some(
    connection: Connection, route_ids: Iterable[str], environment: str | None = None
) -> Iterator[tuple[str, str]]:
    """(id, document) of those of these routes which there are (and a node of ``environment`` serves)."""
    wanted = sorted(route_ids)
    for start in range(0, len(wanted), CHUNK):
        part = wanted[start : start + CHUNK]
        query = select(routes.c.route_id, routes.c.document).where(routes.c.route_id.in_(part))
        if environment is not None:
            query = query.where(served_by(environment))
        yield from ((row[0], row[1]) for row in connection.execute(query).all())


def history(connection: Connection, route_ids: Iterable[str]) -> dict[str, set[str]]:
    """The names of all versions ever made of these routes, those of removed routes too."""
    wanted = list(route_ids)
    found: dict[str, set[str]] = {}
    for start in range(0, len(wanted), CHUNK):
        query = select(route_versions.c.route_id, route_versions.c.version).where(
            route_versions.c.route_id.in_(wanted[start : start + CHUNK])
        )
        for route_id, name in connection.execute(query):
            found.setdefault(route_id, set()).add(name)
    return found


def using(connection: Connection, backend_id: str) -> list[tuple[str, str]]:
    """(id, name) of the routes which refer to this registered backend."""
    query = (
        select(routes.c.route_id, routes.c.name)
        .join(route_backends, route_backends.c.route_id == routes.c.route_id)
        .where(route_backends.c.backend_id == backend_id)
        .order_by(routes.c.name)
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def dns_names(connection: Connection, environment: str) -> set[str]:
    """The host:port of every backend whose host is a name, as far as this node needs them."""
    found: set[str] = set()
    for query in (
        select(routes.c.dns_names).where(routes.c.dns_names.is_not(None), served_by(environment)),
        select(backends.c.dns_names).where(backends.c.dns_names.is_not(None)),
    ):
        for text in connection.execute(query).scalars():
            found.update(orjson.loads(text))
    return found


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(routes)).scalar_one()
