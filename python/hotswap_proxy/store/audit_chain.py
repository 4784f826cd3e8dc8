"""The chain of the audit log: each row's hash covers the row and the hash of the row before.

``hash`` is the hexadecimal SHA-256 of these fields, one after the other: previous_hash, audit_id, at,
user_id, username, api_key_id, action, entity_type, entity_id, entity_name, details, trace_id, client. Each is
written as a netstring (``<length in bytes>:<UTF-8 text>,``), NULL as ``-,``; ``audit_id`` as decimal digits,
``details`` as the text that is stored. The first row's previous_hash is 64 zeros.

The head (the newest row's id and hash, and how many rows there are) is kept in ``meta`` and written in the
same transaction, so that a tail that is cut off is missed. Writers take turns, so there is one chain.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from sqlalchemy import Connection, func, insert, select, update

from .tables import audit_logs, meta

if TYPE_CHECKING:
    from . import Store

ROOT = "0" * 64
BATCH = 500  # rows that are read at a time: other readers get their turn in between
FIELDS = (
    "previous_hash",
    "audit_id",
    "at",
    "user_id",
    "username",
    "api_key_id",
    "action",
    "entity_type",
    "entity_id",
    "entity_name",
    "details",
    "trace_id",
    "client",
)
_KEY = "audit_head"
_COLUMNS = tuple(audit_logs.c[name] for name in (*FIELDS, "hash"))


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain."""

    audit_id: int = 0
    hash: str = ROOT
    count: int = 0

    def answer(self) -> dict[str, Any]:
        return {"auditId": self.audit_id, "hash": self.hash, "count": self.count}


def digest(values: Iterable[str | int | None]) -> str:
    """The hash of a row, from its ``FIELDS`` in order."""
    parts = []
    for value in values:
        if value is None:
            parts.append("-,")
        else:
            text = value if isinstance(value, str) else str(value)
            size = len(text) if text.isascii() else len(text.encode())
            parts.append(f"{size}:{text},")
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def read_head(connection: Connection) -> Head | None:
    """None: it is gone or damaged, which no statement of this package leaves behind."""
    text = connection.execute(select(meta.c.value).where(meta.c.key == _KEY)).scalar()
    try:
        found = orjson.loads(text or "")
        return Head(int(found["auditId"]), str(found["hash"]), int(found["count"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def write_head(connection: Connection, head: Head) -> None:
    value = orjson.dumps(head.answer()).decode()
    if not connection.execute(update(meta).where(meta.c.key == _KEY).values(value=value)).rowcount:
        connection.execute(insert(meta).values(key=_KEY, value=value))


def last_row(connection: Connection) -> Head:
    """The head as the rows have it."""
    columns = audit_logs.c
    count = connection.execute(select(func.count()).select_from(audit_logs)).scalar_one()
    query = select(columns.audit_id, columns.hash).order_by(columns.audit_id.desc()).limit(1)
    row = connection.execute(query).first()
    return Head(row.audit_id, row.hash or ROOT, count) if row else Head()


def link(head: Head, rows: Iterable[dict[str, Any]]) -> Head:
    """Give each row (its columns by name) its place in the chain after ``head``; the new head."""
    for row in rows:
        row["audit_id"] = head.audit_id + 1
        row["previous_hash"] = head.hash
        row["hash"] = digest(row[name] for name in FIELDS)
        head = Head(row["audit_id"], row["hash"], head.count + 1)
    return head


# --- verification ---------------------------------------------------------------------------------


class Verified(NamedTuple):
    """``broken``: the first thing that is wrong, as {auditId, what}. ``expected``: where the expected hash
    was found.
    """

    checked: int
    head: Head | None
    broken: dict[str, Any] | None
    expected: int | None = None

    def answer(self) -> dict[str, Any]:
        return {
            "valid": self.broken is None,
            "checked": self.checked,
            "head": self.head.answer() if self.head else None,
            "firstBroken": self.broken,
            "expectedAuditId": self.expected,
        }


def _broken(audit_id: int | None, what: str) -> dict[str, Any]:
    return {"auditId": audit_id, "what": what}


class _Walk:
    """Follows the chain, row by row, until something is wrong."""

    def __init__(self, expect: str | None) -> None:
        self.seen = Head()
        self.broken: dict[str, Any] | None = None
        self.expected = 0 if expect == ROOT else None
        self._expect = expect

    def follow(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self._check(row._mapping)
            if self.broken:
                return

    def _check(self, row: Mapping[str, Any]) -> None:
        audit_id = row["audit_id"]
        if row["previous_hash"] != self.seen.hash:
            what = f"it does not follow row {self.seen.audit_id}: a row was removed, inserted or moved here"
            self.broken = _broken(audit_id, what)
        elif row["hash"] != digest(row[name] for name in FIELDS):
            self.broken = _broken(audit_id, "the row was changed: its hash is another")
        else:
            self.seen = Head(audit_id, row["hash"], self.seen.count + 1)
            if self.expected is None and row["hash"] == self._expect:
                self.expected = audit_id

    def end(self, head: Head | None) -> None:
        """No rows are left; ``head`` is what the database says of the last."""
        if head is None:
            self.broken = _broken(None, "the head is gone")
        elif head != self.seen:
            what = (
                f"the log ends here with {self.seen.count} rows, but had {head.count} up to {head.audit_id}"
            )
            self.broken = _broken(self.seen.audit_id, what)
        elif self._expect is not None and self.expected is None:
            self.broken = _broken(None, "no row has the expected hash: the log is not the one that had it")


def _batch(connection: Connection, after: int | None) -> tuple[list[Any], Head | None]:
    """Rows after an id, and the head of the same moment. None: from the very first, whatever its id. Ours
    begin with 1; one that was smuggled in before them must not be passed over.
    """
    query = select(*_COLUMNS).order_by(audit_logs.c.audit_id).limit(BATCH)
    if after is not None:
        query = query.where(audit_logs.c.audit_id > after)
    head = read_head(connection)
    return list(connection.execute(query)), head


async def verify(store: Store, expect: str | None = None) -> Verified:
    """Check every row and the head, batch by batch, while others read and write. ``expect``: a hash that some
    row must have, such as that of a head that was noted earlier in another place.
    """
    walk = _Walk(expect)
    while True:
        rows, head = await store.read(_batch, walk.seen.audit_id if walk.seen.count else None)
        await asyncio.to_thread(walk.follow, rows)
        if walk.broken is None and len(rows) < BATCH:
            walk.end(head)
        elif walk.broken is None:
            continue
        return Verified(walk.seen.count, head, walk.broken, walk.expected)
