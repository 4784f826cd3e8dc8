"""A set of changes, written in one transaction: all of it or nothing, for one route or for ten thousand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, literal, select, update

from hotswap_proxy.errors import Conflict, Detail, NotFound

from . import audit, revisions
from .audit import AuditEntry, Author
from .revisions import Entry
from .tables import backends, deployments, route_backends, route_versions, routes
from .times import now

T = TypeVar("T")

BATCH = 500


@dataclass(slots=True, kw_only=True)
class RouteWrite:
    """A new or changed route. ``document`` and ``dns_names`` are JSON."""

    is_new: bool
    new_version: bool = True  # False: ``version`` is there already, and becomes the live one
    route_id: str
    name: str
    document: str
    version: str
    is_enabled: bool
    strategy: str
    environment: str | None
    etag: str
    dns_names: str | None
    backend_ids: list[str]  # of registered backends it refers to


@dataclass(slots=True, kw_only=True)
class BackendWrite:
    is_new: bool
    backend_id: str
    name: str
    document: str
    is_enabled: bool
    etag: str
    dns_names: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionWrite:
    """A version that is staged and not applied."""

    route_id: str
    version: str
    document: str
    description: str | None = None


@dataclass(slots=True)
class StoreChanges:
    routes: list[RouteWrite] = field(default_factory=list)
    removed_routes: list[str] = field(default_factory=list)
    backends: list[BackendWrite] = field(default_factory=list)
    removed_backends: list[str] = field(default_factory=list)
    staged: list[VersionWrite] = field(default_factory=list)
    audit: list[AuditEntry] = field(default_factory=list)
    by_deployment: str | None = None  # which may change its route; nobody else may until it has ended
    based_on: int | None = None  # the revision that the changes were worked out on

    def entries(self) -> list[Entry]:
        """What nodes have to read again."""
        ids = [row.route_id for row in self.routes] + self.removed_routes
        found = [Entry("route", id) for id in ids]
        ids = [row.backend_id for row in self.backends] + self.removed_backends
        return found + [Entry("backend", id) for id in ids]


class Outdated(Exception):  # noqa: N818  it says what happened
    """Another node was faster: what was worked out has to be worked out again."""


def write(connection: Connection, changes: StoreChanges, author: Author) -> int:
    """Write ``changes``; their revision. Order matters to the foreign keys: backends come before the routes
    and go after them. Outdated: there is a newer revision than the one they are based on. Conflict: a
    deployment is going on with what they change.
    """
    if changes.based_on is not None and revisions.current(connection) != changes.based_on:
        raise Outdated
    check_deployments(connection, changes)
    at = now()
    _delete(connection, routes.c.route_id, changes.removed_routes)
    _free_names(connection, backends.c.backend_id, changes.removed_backends)
    _write_rows(connection, backends.c.backend_id, changes.backends, author, at)
    _write_rows(connection, routes.c.route_id, changes.routes, author, at)
    _write_versions(connection, [row for row in changes.routes if row.new_version], author, at)
    _mark_live(connection, [row for row in changes.routes if not row.new_version], at)
    _write_versions(connection, changes.staged, author, at)
    _write_references(connection, changes.routes)
    _delete(connection, backends.c.backend_id, changes.removed_backends)
    for some in _in_batches(changes.audit):
        audit.append(connection, author, some)
    return revisions.advance(connection, changes.entries())


def check_deployments(connection: Connection, changes: StoreChanges) -> None:
    """Conflict: a deployment that has not ended goes on with a route or backend that is to be changed."""
    routes_changed = {row.route_id for row in changes.routes} | set(changes.removed_routes)
    if not routes_changed and not changes.removed_backends:
        return
    query = select(deployments.c.deployment_id, deployments.c.target_id, deployments.c.document).where(
        deployments.c.target.is_not(None), deployments.c.target_kind == "route"
    )
    for deployment_id, route_id, text in connection.execute(query).all():
        if deployment_id == changes.by_deployment:
            continue
        deployment = orjson.loads(text)
        going_on = (
            f"deployment {deployment_id} of route {deployment['routeName']} is {deployment['status']}; "
            "it has to end first (promote, roll back or reject it)"
        )
        if route_id in routes_changed:
            raise Conflict(going_on, [Detail("routeId", "deploying", going_on)])
        if changes.removed_backends:
            # Both: Direct makes the new version live at once, and the way back leads to the other.
            both = [deployment["configVersion"], deployment.get("stableVersion")]
            mine = (route_versions.c.route_id == route_id) & route_versions.c.version.in_(both)
            found = select(route_versions.c.version, route_versions.c.document).where(mine)
            for version, document in connection.execute(found).all():
                used = {each["backendId"] for each in orjson.loads(document)["backends"]}
                if gone := used.intersection(changes.removed_backends):
                    message = f"backend {min(gone)} is used by version {version}: {going_on}"
                    raise Conflict(message, [Detail("backendId", "deploying", message)])


def _in_batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Parameters are copied several times on their way; a batch at a time keeps ten thousand rows small."""
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def _delete(connection: Connection, key: Any, ids: Sequence[str]) -> None:
    for some in _in_batches(ids):
        connection.execute(delete(key.table).where(key == bindparam("key")), [{"key": one} for one in some])


def _free_names(connection: Connection, key: Any, ids: Sequence[str]) -> None:
    """Names are unique at every moment, and another object of this change may take over one of these."""
    for some in _in_batches(ids):
        connection.execute(
            update(key.table).where(key == bindparam("key")).values(name=literal("~") + key),
            [{"key": one} for one in some],
        )


def _renamed(connection: Connection, key: Any, rows: Sequence[RouteWrite | BackendWrite]) -> list[str]:
    """The ids of those which get another name: few, and a name costs two writes to an index."""
    names = {getattr(row, key.name): row.name for row in rows}
    found: list[str] = []
    for some in _in_batches(list(names)):
        stored = connection.execute(select(key, key.table.c.name).where(key.in_(some)))
        found += [id for id, name in stored if names[id] != name]
    return found


def _columns(row: RouteWrite | BackendWrite, author: Author, at: str) -> dict[str, Any]:
    names = [name for name in row.__slots__ if name not in ("is_new", "new_version", "backend_ids")]
    values = {name: getattr(row, name) for name in names}
    return values | {"updated_at": at, "updated_by": author.username}


def _write_rows(
    connection: Connection, key: Any, rows: Sequence[RouteWrite | BackendWrite], author: Author, at: str
) -> None:
    changed = [row for row in rows if not row.is_new]
    if len(changed) > 1:  # two objects may swap their names
        _free_names(connection, key, _renamed(connection, key, changed))
    for some in _in_batches(changed):
        parameters = [_columns(row, author, at) | {"key": getattr(row, key.name)} for row in some]
        values: dict[str, Any] = {
            name: bindparam(name) for name in parameters[0] if name not in ("key", key.name)
        }
        connection.execute(update(key.table).where(key == bindparam("key")).values(values), parameters)
    created = {"created_at": at, "created_by": author.username}
    for some in _in_batches([row for row in rows if row.is_new]):
        connection.execute(insert(key.table), [_columns(row, author, at) | created for row in some])


def _write_versions(
    connection: Connection, rows: Sequence[RouteWrite | VersionWrite], author: Author, at: str
) -> None:
    last = select(func.coalesce(func.max(route_versions.c.sequence), 0) + 1)
    statement = insert(route_versions).values(
        route_id=bindparam("route_id"),
        version=bindparam("version"),
        sequence=last.where(route_versions.c.route_id == bindparam("route_id")).scalar_subquery(),
        document=bindparam("document"),
        description=bindparam("description"),
        live_at=bindparam("live_at"),
        created_at=at,
        created_by=author.username,
    )
    for some in _in_batches(rows):
        connection.execute(statement, [_version(row, at) for row in some])


def _version(row: RouteWrite | VersionWrite, at: str) -> dict[str, Any]:
    values = {"route_id": row.route_id, "version": row.version, "document": row.document}
    if isinstance(row, VersionWrite):
        return values | {"description": row.description, "live_at": None}
    return values | {"description": None, "live_at": at}


def _mark_live(connection: Connection, rows: Sequence[RouteWrite], at: str) -> None:
    for row in rows:
        mine = (route_versions.c.route_id == row.route_id) & (route_versions.c.version == row.version)
        if connection.execute(update(route_versions).where(mine).values(live_at=at)).rowcount != 1:
            raise NotFound(f"no version {row.version} of route {row.route_id}")


def _write_references(connection: Connection, rows: Sequence[RouteWrite]) -> None:
    _delete(connection, route_backends.c.route_id, [row.route_id for row in rows if not row.is_new])
    references = [
        {"route_id": row.route_id, "backend_id": backend_id}
        for row in rows
        for backend_id in dict.fromkeys(row.backend_ids)
    ]
    for some in _in_batches(references):
        connection.execute(insert(route_backends), some)
