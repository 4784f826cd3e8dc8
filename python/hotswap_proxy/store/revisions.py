"""Revisions of the configuration: what a node has to do to catch up.

Each transaction that changes what nodes serve counts one number up and notes what it changed. Writers take
turns (see ``database``), so the order of the numbers is the order of the commits: who has seen revision 7
has missed nothing before it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from .tables import changes, meta

Kind = Literal["route", "backend", "deployment", "all"]

_KEY = "revision"
# More than this is read as a whole just as fast.
MOST_ENTRIES = 500
KEPT = 10_000  # revisions that a node can be behind without reading everything


class Entry(NamedTuple):
    kind: Kind
    entity_id: str


class Since(NamedTuple):
    """What changed up to ``revision``. ``entries`` is None when everything has to be read again."""

    revision: int
    entries: frozenset[Entry] | None


def current(connection: Connection) -> int:
    """The newest revision; 0 before the first change."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == _KEY)).scalar()
    return int(found) if found is not None else 0


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
    if rows:
        connection.execute(insert(changes), rows)
    if revision % 100 == 0:
        connection.execute(delete(changes).where(changes.c.revision <= revision - KEPT))
    return revision


def since(connection: Connection, revision: int) -> Since:
    """What a node that serves ``revision`` has missed."""
    newest = current(connection)
    if revision == newest:
        return Since(newest, frozenset())
    if not newest - KEPT // 2 <= revision <= newest:  # long away, or another database
        return Since(newest, None)
    query = select(changes.c.kind, changes.c.entity_id).where(changes.c.revision > revision)
    entries = frozenset(Entry(kind, entity_id) for kind, entity_id in connection.execute(query))
    if any(entry.kind == "all" for entry in entries):
        return Since(newest, None)
    return Since(newest, entries)
