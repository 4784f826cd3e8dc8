"""PostgreSQL as the store: what can go wrong with a server, and what two nodes on one database do."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from harness.postgres import PASSWORD, ROLE, PostgresServer, database_of
from sqlalchemy import Connection, text

from hotswap_proxy.errors import Conflict, OutcomeUnknown, StoreUnavailable, ValidationFailed
from hotswap_proxy.postgresurl import PostgresUrl
from hotswap_proxy.settings import Settings, SettingsError
from hotswap_proxy.store import Store, migrate, postgres
from hotswap_proxy.store import postgres as postgres_lanes
from hotswap_proxy.store.tables import metadata
from tests.gateway import ROUTES, Gateway, problem

pytestmark = pytest.mark.anyio
both = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
READ_BOUND = 5.0


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(Settings(database_url=database_url))
    yield opened
    await opened.close()


def put(connection: Connection, key: str, value: str = "x") -> None:
    connection.execute(text("INSERT INTO meta VALUES (:key, :value)"), {"key": key, "value": value})


def keys(connection: Connection) -> list[str]:
    return list(connection.execute(text('SELECT key FROM meta ORDER BY key COLLATE "C"')).scalars())


# --- the server fails ---------------------------------------------------------------------------------


@both
async def test_a_killed_server_is_an_outage_and_the_next_one_is_used_at_once(
    gateway: Gateway, postgres: PostgresServer
) -> None:
    await gateway.add_route()
    postgres.kill()
    answer = await gateway.client.get(ROUTES)
    assert problem(answer)[:2] == (503, "SERVICE_UNAVAILABLE")
    message = answer.json()["error"]["message"]
    assert "cannot be reached" in message and PASSWORD not in message
    assert gateway.match("/users/1") == "1.0"
    postgres.start()
    assert (await gateway.client.get(ROUTES)).json()["total"] == 1
    await gateway.add_route(name="b", pathPattern="/b")
    postgres.kill()
    postgres.start()  # nobody has asked meanwhile: the lost connections are not noticed by a caller
    await gateway.add_route(name="c", pathPattern="/c")


@both
async def test_a_server_killed_in_the_middle_of_a_write_has_nothing_of_it(
    store: Store, postgres: PostgresServer
) -> None:
    def write(connection: Connection) -> None:
        put(connection, "a")
        postgres.kill()
        put(connection, "b")

    with pytest.raises(StoreUnavailable):
        await store.write(write)
    postgres.start()
    assert not {"a", "b"} & set(await store.read(keys))


@both
async def test_a_lost_answer_to_a_commit_is_asked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is lost when the server has committed, and when it has not."""
    commit = postgres.AsyncConnection.commit

    async def lost_after(self: Any) -> None:
        await commit(self)
        (await self.get_raw_connection()).driver_connection.terminate()
        raise ConnectionResetError

    async def lost_before(self: Any) -> None:
        (await self.get_raw_connection()).driver_connection.terminate()
        raise ConnectionResetError

    await store.write(put, "first")
    monkeypatch.setattr(postgres.AsyncConnection, "commit", lost_after)
    await store.write(put, "committed")
    monkeypatch.setattr(postgres.AsyncConnection, "commit", lost_before)
    with pytest.raises(StoreUnavailable):
        await store.write(put, "aborted")
    monkeypatch.undo()
    found = await store.read(keys)
    assert "committed" in found and "aborted" not in found


@both
async def test_an_outcome_that_nobody_tells_is_unknown(
    store: Store, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hotswap_proxy.store import postgres as module

    async def killed(self: Any) -> None:
        postgres.kill()
        (await self.get_raw_connection()).driver_connection.terminate()
        raise ConnectionResetError

    monkeypatch.setattr(module, "OUTCOME_SECONDS", 0.3)
    monkeypatch.setattr(module.AsyncConnection, "commit", killed)
    with pytest.raises(OutcomeUnknown, match="not known"):
        await store.write(put, "a")


@both
async def test_a_server_that_hangs_does_not_make_callers_hang(store: Store, postgres: PostgresServer) -> None:
    await store.read(keys)
    postgres.pause()
    began = time.monotonic()
    answers = await asyncio.gather(*(store.read(keys) for _ in range(20)), return_exceptions=True)
    assert time.monotonic() - began < READ_BOUND * 2, "not one after the other"
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert "does not answer" in str(answers[0])
    postgres.resume()
    await store.write(put, "a")
    assert "a" in await store.read(keys)


@both
async def test_a_store_is_closed_although_the_server_hangs(
    database_url: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for the answers of what is under way, in any of the lanes."""
    for kind in ("READ", "WRITE", "BEAT"):
        patient = replace(getattr(postgres_lanes, kind), answer=120.0)
        monkeypatch.setattr(postgres_lanes, kind, patient)
    store = await Store.open(Settings(database_url=database_url))
    for lane in (store.read, store.write, store.beat):
        await lane(keys)
    postgres.pause()
    calls = [asyncio.create_task(lane(keys)) for lane in (store.read, store.read, store.write, store.beat)]
    await asyncio.sleep(0)  # they are under way
    async with asyncio.timeout(30):
        await store.close()
        for found in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(found, StoreUnavailable)


@both
async def test_reads_go_on_while_writers_take_turns(store: Store, database_url: str) -> None:
    other = await Store.open(Settings(database_url=database_url))
    inside, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> int:
        put(connection, "slow")
        inside.set()
        assert go_on.wait(20)
        return int(connection.execute(text("SELECT count(*) FROM meta")).scalar_one())

    first = asyncio.ensure_future(store.write(slow))
    await asyncio.to_thread(inside.wait)
    second = asyncio.ensure_future(other.write(keys))
    assert "slow" not in await other.read(keys)
    await other.beat(put, "beat")  # needs no turn
    assert not second.done()
    go_on.set()
    await first
    assert {"slow", "beat"} <= set(await second), "who waited sees what was committed meanwhile"
    await other.close()


@both
async def test_a_writer_that_waits_too_long_is_told_why(
    store: Store, postgres: PostgresServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from hotswap_proxy.store import postgres as module

    hurried = module.PostgresLane(PostgresUrl.parse(database_url), replace(module.WRITE, lock=0.2))
    inside, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        inside.set()
        assert go_on.wait(20)

    first = asyncio.ensure_future(store.write(slow))
    await asyncio.to_thread(inside.wait)
    with pytest.raises(StoreUnavailable, match="locked by another writer"):
        await hurried.run(keys)
    go_on.set()
    await first
    await hurried.close()


# --- several nodes ------------------------------------------------------------------------------------


@both
async def test_two_nodes_make_one_first_administrator(database_url: str) -> None:
    stores = [await Store.open(Settings(database_url=database_url)) for _ in range(3)]
    made = await asyncio.gather(*(store.users.ensure_first_admin(Settings()) for store in stores))
    assert sum(password is not None for password in made) == 1
    for store in stores:
        await store.close()


def test_starts_at_the_same_time_migrate_once(postgres_url: str) -> None:
    code = (
        "import sys; from hotswap_proxy.postgresurl import PostgresUrl; "
        "from hotswap_proxy.store.migrate import ensure_schema;"
        "print(ensure_schema(PostgresUrl.parse(sys.stdin.readline().strip())))"
    )
    pipe = subprocess.PIPE
    starts = [
        subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(3)
    ]
    told = [start.communicate(f"{postgres_url}\n", timeout=90) for start in starts]
    assert sorted(out.strip() for out, _ in told) == ["False", "False", "True"], told


# --- the schema ---------------------------------------------------------------------------------------


@both
async def test_the_migrations_make_the_tables_that_the_queries_use(store: Store) -> None:
    def compare(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert await store.read(compare) == []


@both
async def test_names_are_in_the_order_of_bytes(gateway: Gateway, postgres: PostgresServer) -> None:
    names = ["b", "B", "a-1", "a1", "A", "_"]
    for name in names:
        await gateway.add_route(name=name, pathPattern=f"/{names.index(name)}")
    listed = (await gateway.client.get(ROUTES)).json()["routes"]
    assert [route["name"] for route in listed] == sorted(names)
    found = (await gateway.client.get(ROUTES, params={"name": "A"})).json()["routes"]
    assert [route["name"] for route in found] == ["A", "a-1", "a1"]


def test_a_newer_schema_is_left_alone(postgres: PostgresServer, postgres_url: str) -> None:
    url = PostgresUrl.parse(postgres_url)
    assert migrate.ensure_schema(url) is True and migrate.ensure_schema(url) is False
    postgres.sql("UPDATE alembic_version SET version_num = '9999'", url.database)
    with pytest.raises(StoreUnavailable, match="newer program"):
        migrate.ensure_schema(url)


def test_a_failed_migration_leaves_nothing_behind(postgres: PostgresServer, postgres_url: str) -> None:
    name = database_of(postgres_url)
    postgres.sql("CREATE TABLE users (x int)", name)
    with pytest.raises(StoreUnavailable, match=r"cannot be migrated.*users") as caught:
        migrate.ensure_schema(PostgresUrl.parse(postgres_url))
    assert PASSWORD not in caught.value.message
    assert postgres.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name) == [("users",)]


# --- what is refused ----------------------------------------------------------------------------------


@both
async def test_another_process_was_faster(store: Store) -> None:
    await store.write(put, "a")
    with pytest.raises(Conflict, match="changed meanwhile"):
        await store.write(put, "a")
    with pytest.raises(ValidationFailed, match="NUL"):
        await store.write(put, "nul", "\x00")
    with pytest.raises(ValidationFailed, match="longer"):
        await store.write(put, "k" * 65)
    await store.rehearse(put, "rehearsed")
    assert "rehearsed" not in await store.read(keys)


@both
async def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.read(put, "a")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("%40ss", "-"), "refuses the user or password"),
        (("/test.*", "/nothing"), "does not exist"),
        ((":[0-9]+/", ":1/"), "cannot be reached"),
        (("$", "?sslmode=require"), "cannot be reached.*SSL"),
    ],
)
async def test_a_wrong_url_is_told_apart(postgres_url: str, change: tuple[str, str], said: str) -> None:
    wrong = re.sub(*change, postgres_url)
    with pytest.raises(StoreUnavailable, match=said) as caught:
        await Store.open(Settings(database_url=wrong))
    assert "p%40ss" not in caught.value.message and PASSWORD not in caught.value.message


async def test_too_many_connections(postgres: PostgresServer, postgres_url: str) -> None:
    postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0")
    try:
        with pytest.raises(StoreUnavailable, match="too many connections"):
            await Store.open(Settings(database_url=postgres_url))
    finally:
        postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")


# --- the URL ------------------------------------------------------------------------------------------


def test_urls_are_read_and_shown_without_their_secrets() -> None:
    url = PostgresUrl.parse("postgres://u:s%40cret@[::1]:6432/db?sslmode=verify-full&sslrootcert=/ca.pem")
    assert url.password == "s@cret" and (url.host, url.port) == ("::1", 6432)
    assert str(url) == "postgresql://u@[::1]:6432/db" and "cret" not in repr(url)
    assert url.arguments()["dsn"] == "postgresql://?sslmode=verify-full&sslrootcert=%2Fca.pem"
    assert PostgresUrl.parse("postgresql+asyncpg://u@h/db").port == 5432
    assert PostgresUrl.parse("postgresql://u@/db?host=/run/postgresql").host == "/run/postgresql"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:s3cret@h/db",
        "u:s3cret@h/db",
        "postgresql://u:s3cret@h",
        "postgresql://u:s3cret@/db",
        "postgresql://:s3cret@h/db",
        "postgresql://u:s3cret@h:port/db",
        "postgresql://u:s3c/ret@h/db",
        "postgresql://u:s3c#ret@h/db",
        "postgresql://u:s3cret@h/db?sslmode=maybe",
        "postgresql://u:s3cret@h/db?options=-c",
        "postgresql://u:s3cret@h1,h2/db",
    ],
)
def test_urls_that_cannot_be_used_are_refused_without_showing_them(url: str) -> None:
    with pytest.raises(SettingsError, match="HOTSWAP_DATABASE_URL") as caught:
        Settings.from_environment({"HOTSWAP_DATABASE_URL": url})
    assert "s3c" not in str(caught.value) and "ret" not in str(caught.value)


@both
def test_the_password_is_in_no_command_line_and_no_child_environment(
    database_url: str, tmp_path: Path
) -> None:
    """A node on PostgreSQL, started as an operator does, with a file."""
    from tests.node import Node, write_config

    config = write_config(tmp_path / "gateway.yaml", 9, routes=3)
    node = Node(
        tmp_path, "--config", str(config), HOTSWAP_ADMIN_USERNAME="admin", HOTSWAP_DATABASE_URL=database_url
    )
    try:
        node.start()
        assert node.ready["routes"] == "3", "the file was applied to the database"
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line, environ = (process / "cmdline").read_text(), (process / "environ").read_text()
            except OSError:
                continue
            assert database_url not in line
            if int(process.name) not in (os.getpid(), node.process.pid):
                assert database_url not in environ, line
    finally:
        node.clean_up()
