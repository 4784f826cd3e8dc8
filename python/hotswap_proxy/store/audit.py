"""The audit log: who did what, when. Rows are only ever added, in the transaction of the write they tell
of, each linked to the row before (``audit_chain``); the database refuses anything else (migration 0002).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, func, insert, select

from . import audit_chain
from .tables import audit_logs
from .times import now

log = logging.getLogger(__name__)


class Author(NamedTuple):
    """Who asks for a change: a user of the API, by one of his API keys or not, or a part of the program
    ("file", "system").
    """

    username: str
    user_id: str | None = None
    trace_id: str | None = None
    client: str | None = None
    api_key_id: str | None = None

    @classmethod
    def of(cls, author: Author | str) -> Author:
        return cls(author) if isinstance(author, str) else author


@dataclass(slots=True)
class AuditEntry:
    """``action`` is ``<entityType>.<verb>``, such as ``route.update``; ``details`` holds no secrets."""

    action: str
    entity_id: str | None = None
    entity_name: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def entity_type(self) -> str:
        return self.action.partition(".")[0]


def append(connection: Connection, author: Author, entries: Sequence[AuditEntry]) -> None:
    """Add rows, in a transaction of ``Store.write``: what is added takes its place in the chain."""
    if not entries:
        return
    head = audit_chain.read_head(connection)
    at, rows = now(), []
    if head is None:  # somebody was here; the chain goes on, and says so
        head = audit_chain.last_row(connection)
        log.error("the audit log had lost its head", extra={"audit_id": head.audit_id})
        rows.append(_row(at, Author("system"), AuditEntry("audit.head_lost", details=head.answer())))
    rows += [_row(at, author, entry) for entry in entries]
    head = audit_chain.link(head, rows)
    connection.execute(insert(audit_logs), rows)
    audit_chain.write_head(connection, head)


def _row(at: str, author: Author, entry: AuditEntry) -> dict[str, Any]:
    """Strangers choose some of the texts. An entry must not fail for them, whatever the database takes."""
    values = {
        "at": at,
        "user_id": author.user_id,
        "username": author.username,
        "api_key_id": author.api_key_id,
        "action": entry.action,
        "entity_type": entry.entity_type,
        "entity_id": entry.entity_id,
        "entity_name": entry.entity_name,
        "details": orjson.dumps(entry.details).decode(),
        "trace_id": author.trace_id,
        "client": author.client,
    }
    for name, value in values.items():
        if isinstance(value, str) and (longest := _LONGEST[name]) is not None:
            values[name] = value.replace("\x00", "\ufffd")[:longest]
    return values


# Characters that a column takes; None: any number.
_LONGEST: dict[str, int | None] = {
    column.name: getattr(column.type, "length", None) for column in audit_logs.columns
}


@dataclass(slots=True, kw_only=True)
class AuditFilter:
    entity_type: str | None = None
    entity_id: str | None = None
    user_id: str | None = None
    since: str | None = None
    until: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        columns = audit_logs.c
        pairs = (
            (self.entity_type, columns.entity_type.__eq__),
            (self.entity_id, columns.entity_id.__eq__),
            (self.user_id, columns.user_id.__eq__),
            (self.since, columns.at.__ge__),
            (self.until, columns.at.__lt__),
        )
        return [compare(value) for value, compare in pairs if value is not None]


def page(
    connection: Connection, wanted: AuditFilter, limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """Newest first: (entries as answered by the API, total)."""
    conditions = wanted.conditions()
    total = connection.execute(select(func.count()).select_from(audit_logs).where(*conditions)).scalar_one()
    query = (
        select(audit_logs)
        .where(*conditions)
        .order_by(audit_logs.c.audit_id.desc())
        .limit(limit)
        .offset(offset)
    )
    entries = [
        {
            "auditId": row.audit_id,
            "timestamp": row.at,
            "userId": row.user_id,
            "username": row.username,
            "apiKeyId": row.api_key_id,
            "action": row.action,
            "entityType": row.entity_type,
            "entityId": row.entity_id,
            "entityName": row.entity_name,
            "details": orjson.loads(row.details),
            "traceId": row.trace_id,
            "client": row.client,
            "previousHash": row.previous_hash,
            "hash": row.hash,
        }
        for row in connection.execute(query)
    ]
    return entries, total
