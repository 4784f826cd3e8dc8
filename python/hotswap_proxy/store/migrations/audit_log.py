"""What migrations do to the audit log beyond its columns: its chain, and the triggers that keep it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, select, text, update

from hotswap_proxy.store import audit_chain
from hotswap_proxy.store.tables import audit_logs

BATCH = 500
REFUSAL = "audit_logs is append-only"

# REPLACE deletes without asking triggers for deletions, so the insertion has to be asked.
_SQLITE = tuple(
    f"CREATE TRIGGER audit_logs_no_{name} BEFORE {event} BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
    for name, event in (
        ("update", "UPDATE ON audit_logs"),
        ("delete", "DELETE ON audit_logs"),
        (
            "replace",
            "INSERT ON audit_logs WHEN EXISTS (SELECT 1 FROM audit_logs WHERE audit_id = NEW.audit_id)",
        ),
    )
)
_SQLITE_BACK = tuple(f"DROP TRIGGER audit_logs_no_{what}" for what in ("update", "delete", "replace"))

_POSTGRESQL = (
    f"""CREATE FUNCTION audit_logs_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$""",
    """CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse()""",
)
_POSTGRESQL_BACK = (
    "DROP TRIGGER audit_logs_append_only ON audit_logs",
    "DROP FUNCTION audit_logs_refuse()",
)


def chain(connection: Connection) -> None:
    """Link the rows that there are, so that a change of an old one is seen as well; write the first head."""
    head = audit_chain.Head()
    columns = [audit_logs.c[name] for name in audit_chain.FIELDS]
    place = (
        update(audit_logs)
        .where(audit_logs.c.audit_id == bindparam("key"))
        .values(previous_hash=bindparam("previous"), hash=bindparam("own"))
    )
    while True:
        query = select(*columns).where(audit_logs.c.audit_id > head.audit_id)
        rows = connection.execute(query.order_by(audit_logs.c.audit_id).limit(BATCH)).all()
        if not rows:
            break
        placed: list[dict[str, Any]] = []
        for row in rows:
            hashed = audit_chain.digest((head.hash, *row[1:]))
            placed.append({"key": row.audit_id, "previous": head.hash, "own": hashed})
            head = audit_chain.Head(row.audit_id, hashed, head.count + 1)
        connection.execute(place, placed)
    audit_chain.write_head(connection, head)


def make_append_only(connection: Connection) -> None:
    _run(connection, _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL)


def make_ordinary(connection: Connection) -> None:
    _run(connection, _SQLITE_BACK if connection.dialect.name == "sqlite" else _POSTGRESQL_BACK)


def _run(connection: Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        connection.execute(text(statement))
