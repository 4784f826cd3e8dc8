"""The audit log's chain: whoever changes, removes, moves or adds a row is found out, and where."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from hotswap_proxy.errors import Conflict, StoreUnavailable
from hotswap_proxy.postgresurl import PostgresUrl
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import FILE_NAME, AuditEntry, Author, Store, audit, audit_chain, migrate, postgres
from hotswap_proxy.store.audit import AuditFilter
from hotswap_proxy.store.audit_chain import BATCH, Head, Verified, verify
from hotswap_proxy.store.database import make_engine
from hotswap_proxy.store.migrations import audit_log

pytestmark = pytest.mark.anyio
ANN = Author("ann", "usr-1", "trace-ü", "192.0.2.1", "key-1")


def entry(number: int) -> AuditEntry:
    return AuditEntry("route.update", f"rt-{number}", f"näme {number}", {"number": number})


async def fill(store: Store, count: int = 6) -> None:
    for number in range(count):
        await store.write(audit.append, ANN, [entry(number)])


def _tamper(connection: Connection, statements: tuple[str, ...]) -> None:
    """Behind the program's back; the triggers have to go first."""
    audit_log.make_ordinary(connection)
    for statement in statements:
        connection.execute(text(statement))


async def tampered(store: Store, *statements: str) -> Verified:
    await store.write(_tamper, statements)
    return await verify(store)


async def test_an_untouched_log_is_valid_however_long(store: Store) -> None:
    assert await verify(store) == Verified(0, Head(), None)
    await store.write(audit.append, ANN, [entry(number) for number in range(2 * BATCH)])
    await fill(store, 3)
    found = await verify(store)
    assert found.checked == 2 * BATCH + 3 and found.broken is None
    assert found.head == await store.read(audit_chain.last_row)


async def test_the_documented_encoding_is_the_one_used(store: Store) -> None:
    """As somebody would who has only the table and docs/security.md."""
    await fill(store, 2)
    columns = ", ".join(audit_chain.FIELDS)

    def read(connection: Connection) -> list[Any]:
        query = f"SELECT {columns}, hash FROM audit_logs ORDER BY audit_id"
        return list(connection.execute(text(query)))

    previous = "0" * 64
    for *fields, stored in await store.read(read):
        assert fields[0] == previous
        message = ""
        for value in fields:
            message += "-," if value is None else f"{len(str(value).encode())}:{value},"
        assert stored == hashlib.sha256(message.encode()).hexdigest()
        previous = stored


@pytest.mark.parametrize(
    "change",
    [
        "username = 'bob'",
        "at = '2020-01-01T00:00:00.000000Z'",
        "details = '{}'",
        "entity_id = NULL",
        "client = '192.0.2.2'",
        "api_key_id = NULL",
        # A text that is moved from one column to the next.
        "entity_type = 'routert-', entity_id = '2'",
    ],
)
async def test_a_changed_row_is_found(store: Store, change: str) -> None:
    await fill(store)
    found = await tampered(store, f"UPDATE audit_logs SET {change} WHERE audit_id = 3")
    assert found.checked == 2 and found.broken is not None
    assert found.broken["auditId"] == 3 and "changed" in found.broken["what"]


async def test_a_row_whose_hash_was_made_to_fit_breaks_the_next(store: Store) -> None:
    await fill(store)
    await tampered(store, "UPDATE audit_logs SET username = 'bob' WHERE audit_id = 3")

    def rehash(connection: Connection) -> None:
        columns = ", ".join(audit_chain.FIELDS)
        row = connection.execute(text(f"SELECT {columns} FROM audit_logs WHERE audit_id = 3")).one()
        values = {"hash": audit_chain.digest(row)}
        connection.execute(text("UPDATE audit_logs SET hash = :hash WHERE audit_id = 3"), values)

    await store.write(rehash)
    found = await verify(store)
    assert found.broken is not None and found.broken["auditId"] == 4


async def test_a_removed_row_is_found(store: Store) -> None:
    await fill(store)
    found = await tampered(store, "DELETE FROM audit_logs WHERE audit_id = 3")
    assert found.broken is not None and found.broken["auditId"] == 4


async def test_a_removed_beginning_is_found(store: Store) -> None:
    await fill(store)
    found = await tampered(store, "DELETE FROM audit_logs WHERE audit_id < 3")
    assert found.broken is not None and found.broken["auditId"] == 3


@pytest.mark.parametrize("from_id", [6, 4, 1])
async def test_a_removed_tail_is_found(store: Store, from_id: int) -> None:
    await fill(store)
    found = await tampered(store, f"DELETE FROM audit_logs WHERE audit_id >= {from_id}")
    assert found.broken is not None and found.broken["auditId"] == from_id - 1
    assert f"{from_id - 1} rows, but had 6" in found.broken["what"]


async def test_exchanged_rows_are_found(store: Store) -> None:
    await fill(store)
    found = await tampered(
        store,
        "UPDATE audit_logs SET audit_id = 100 WHERE audit_id = 3",
        "UPDATE audit_logs SET audit_id = 3 WHERE audit_id = 4",
        "UPDATE audit_logs SET audit_id = 4 WHERE audit_id = 100",
    )
    assert found.broken is not None and found.broken["auditId"] == 3


@pytest.mark.parametrize("audit_id", [7, 100, 0, -5])
async def test_an_inserted_row_is_found(store: Store, audit_id: int) -> None:
    """Also one at an end that has its right place in the chain: head or first row do not know it."""
    await fill(store)

    def insert(connection: Connection) -> None:
        head = audit_chain.read_head(connection)
        assert head is not None
        row: dict[str, Any] = dict.fromkeys(audit_chain.FIELDS)
        previous = head.hash if audit_id > 0 else audit_chain.ROOT
        row |= {"previous_hash": previous, "audit_id": audit_id, "at": "2025-01-01T00:00:00.000000Z"}
        row |= {"username": "x", "action": "user.login", "entity_type": "user", "details": "{}"}
        row["hash"] = audit_chain.digest(row.values())
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO audit_logs ({names}) VALUES ({values})"), row)

    await store.write(insert)  # no trigger refuses it: the program inserts too
    found = await verify(store)
    assert found.broken is not None and found.broken["auditId"] == max(1, audit_id)


async def test_a_row_without_a_hash_is_found(store: Store) -> None:
    await fill(store, 2)
    found = await tampered(
        store,
        "INSERT INTO audit_logs (audit_id, at, username, action, entity_type, details)"
        " VALUES (3, 'x', 'x', 'x', 'x', '{}')",
    )
    assert found.broken is not None and found.broken["auditId"] == 3


async def test_a_lost_head_is_found_and_stays_in_the_log(store: Store) -> None:
    await fill(store, 3)
    found = await tampered(store, "DELETE FROM meta WHERE key = 'audit_head'")
    assert found.broken == {"auditId": None, "what": "the head is gone"}
    await fill(store, 1)
    assert (await verify(store)).broken is None
    rows, total = await store.read(audit.page, AuditFilter(entity_type="audit"), 10, 0)
    assert total == 1 and rows[0]["action"] == "audit.head_lost" and rows[0]["auditId"] == 4


async def test_a_log_that_was_rewritten_as_a_whole_is_found_by_a_head_noted_elsewhere(store: Store) -> None:
    await fill(store)
    noted = (await verify(store)).head
    assert noted is not None
    await fill(store, 2)
    assert (await verify(store, noted.hash)).expected == noted.audit_id

    def rewrite(connection: Connection) -> None:
        audit_log.make_ordinary(connection)
        connection.execute(text("UPDATE audit_logs SET username = 'bob' WHERE audit_id = 3"))
        audit_log.chain(connection)

    await store.write(rewrite)
    assert (await verify(store)).broken is None, "who can write everything can make a chain that is valid"
    found = await verify(store, noted.hash)
    assert found.broken is not None and "expected hash" in found.broken["what"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_logs SET username = 'bob'",
        "UPDATE audit_logs SET username = 'bob' WHERE audit_id = 1",
        "DELETE FROM audit_logs WHERE audit_id = 2",
        "DELETE FROM audit_logs",
    ],
)
async def test_the_database_refuses_changes(store: Store, statement: str) -> None:
    await fill(store, 2)
    with pytest.raises((Conflict, StoreUnavailable), match="append-only"):
        await store.write(_execute, statement)
    assert (await verify(store)).checked == 2


def _execute(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_sqlite_refuses_to_replace_a_row(store: Store) -> None:
    await fill(store, 2)
    with pytest.raises(Conflict, match="append-only"):
        await store.write(_execute, "REPLACE INTO audit_logs SELECT * FROM audit_logs WHERE audit_id = 1")


async def test_many_writers_make_one_chain(store: Store, tmp_path: Path, database_url: str | None) -> None:
    settings = Settings(data_dir=tmp_path, database_url=database_url)
    others = [await Store.open(settings) for _ in range(3)]
    try:
        await asyncio.gather(*(fill(each, 25) for each in (store, *others)))
        found = await verify(store)
        assert found.checked == 100 and found.broken is None
    finally:
        for other in others:
            await other.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_postgresql_refuses_to_empty_the_table(store: Store) -> None:
    await fill(store, 2)
    with pytest.raises((Conflict, StoreUnavailable), match="append-only"):
        await store.write(_execute, "TRUNCATE audit_logs")


async def test_a_verification_and_writers_do_not_disturb_each_other(store: Store) -> None:
    await store.write(audit.append, ANN, [entry(number) for number in range(3 * BATCH)])
    writing = asyncio.create_task(fill(store, 50))
    results = []
    while not writing.done():
        results.append(await verify(store))
    await writing
    assert all(found.broken is None for found in results) and results[0].checked >= 3 * BATCH


async def test_a_failed_transaction_leaves_the_chain_as_it_was(store: Store) -> None:
    await fill(store, 2)

    def fail(connection: Connection) -> None:
        audit.append(connection, ANN, [entry(1)])
        raise Conflict("no")

    with pytest.raises(Conflict):
        await store.write(fail)
    await store.rehearse(audit.append, ANN, [entry(1)])
    assert (await verify(store)).checked == 2


OLD_ROW = """INSERT INTO audit_logs (audit_id, at, username, action, entity_type, details)
    VALUES (:id, '2025-01-01T00:00:00.000000Z', 'ann', 'user.login', 'user', '{}')"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_rows_from_before_the_chain_are_linked_by_the_migration(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else None
    count = audit_log.BATCH + 7

    def make(connection: Connection) -> None:
        """A store of the version before, with rows and with gaps between their ids."""
        config = Config()
        config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text(OLD_ROW), [{"id": 2 * number} for number in range(1, count + 1)])

    if url is not None:
        postgres.run(PostgresUrl.parse(url), postgres.SCHEMA, make)
    else:
        engine = make_engine(tmp_path / FILE_NAME)
        with engine.begin() as connection:
            make(connection)
        engine.dispose()

    async def check() -> None:
        store = await Store.open(Settings(data_dir=tmp_path, database_url=url))
        await fill(store, 1)
        found = await verify(store)
        assert found.broken is None and found.checked == count + 1
        found = await tampered(store, "UPDATE audit_logs SET username = 'bob' WHERE audit_id = 4")
        assert found.broken is not None and found.broken["auditId"] == 4
        await store.close()

    asyncio.run(check())
