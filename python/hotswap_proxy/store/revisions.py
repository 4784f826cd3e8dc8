"""Revisions of the configuration: what a node has to do to catch up.

Each transaction that changes what nodes serve counts one number up and notes what it changed. Writers take
turns (see ``database``), so the order of the numbers is the order of the commits: who has seen revision 7
has missed nothing before it.

Each revision has a random mark as well. A database that was restored from a backup counts on from an older
number, and by the time a node looks it may have a number that the node knows: by the mark it is another one.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Literal, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from .tables import changes, meta

Kind = Literal["route", "backend", "deployment", "all"]

_KEY = "revision"
_MARK = "mark"  # the kind of the entries that hold marks
# More than this is read as a whole just as fast.
MOST_ENTRIES = 500
KEPT = 10_000  # revisions that a node can be behind without reading everything


class Entry(NamedTuple):
    kind: Kind
    entity_id: str


class Head(NamedTuple):
    """The newest revision. ``mark`` is None before the first one, and of one made before there were marks."""

    revision: int
    mark: str | None


class Since(NamedTuple):
    """What changed up to ``head``. ``entries`` is None when everything has to be read again."""

    head: Head
    entries: frozenset[Entry] | None


def current(connection: Connection) -> int:
    """The newest revision; 0 before the first change."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == _KEY)).scalar()
    return int(found) if found is not None else 0


def head(connection: Connection) -> Head:
    revision = current(connection)
    return Head(revision, _mark(connection, revision))


def _mark(connection: Connection, revision: int) -> str | None:
    mine = (changes.c.revision == revision) & (changes.c.kind == _MARK)
    return connection.execute(select(changes.c.entity_id).where(mine)).scalar()


def advance(connection: Connection, entries: Collection[Entry]) -> int:
    """The number of this transaction's revision, which changes ``entries``."""
    revision = current(connection) + 1
    if revision == 1:
        connection.execute(insert(meta).values(key=_KEY, value="1"))
    else:
        connection.execute(update(meta).where(meta.c.key == _KEY).values(value=str(revision)))
    if len(entries) > MOST_ENTRIES:
        entries = [Entry("all", "")]
    rows = [{"revision": revision, "kind": kind, "entity_id": entity_id} for kind, entity_id in set(entries)]
    rows.append({"revision": revision, "kind": _MARK, "entity_id": secrets.token_hex(8)})
    connection.execute(insert(changes), rows)
    if revision % 100 == 0:
        connection.execute(delete(changes).where(changes.c.revision <= revision - KEPT))
    return revision


def since(connection: Connection, revision: int, mark: str | None = None) -> Since:
    """What a node that serves ``revision`` has missed. ``mark``: of that revision, if the node knows it."""
    newest = head(connection)
    if not newest.revision - KEPT // 2 <= revision <= newest.revision:  # long away, or another database
        return Since(newest, None)
    if mark is not None and mark != _mark(connection, revision):
        return Since(newest, None)
    if revision == newest.revision:
        return Since(newest, frozenset())
    query = select(changes.c.kind, changes.c.entity_id).where(
        changes.c.revision > revision, changes.c.kind != _MARK
    )
    entries = frozenset(Entry(kind, entity_id) for kind, entity_id in connection.execute(query))
    if any(entry.kind == "all" for entry in entries):
        return Since(newest, None)
    return Since(newest, entries)
