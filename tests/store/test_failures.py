"""A store that cannot be used: a clear error, nothing half done, and traffic does not notice."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection

from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import FILE_NAME, Store, database
from tests.gateway import ROUTE, ROUTES, Gateway, empty_store, problem, running

pytestmark = pytest.mark.anyio


sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@sqlite_only
async def test_a_locked_database_refuses_writes_and_answers_reads(
    gateway: Gateway,
) -> None:
    made = await gateway.add_route()
    before = gateway.configuration.generation
    other = sqlite3.connect(gateway.store.place, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        began = time.monotonic()
        answer = await gateway.client.post(ROUTES, json=ROUTE | {"name": "b", "pathPattern": "/b"})
        assert problem(answer)[:2] == (503, "SERVICE_UNAVAILABLE")
        assert "locked by another process" in answer.json()["error"]["message"]
        assert time.monotonic() - began < database.BUSY_TIMEOUT_MS / 1000 + 3
        assert (await gateway.client.get(f"{ROUTES}/{made['routeId']}")).is_success
        assert gateway.match("/users/1") == "1.0" and gateway.match("/b") is None
        assert gateway.configuration.generation == before
    finally:
        other.execute("ROLLBACK")
        other.close()
    await gateway.add_route(name="b", pathPattern="/b")
    assert gateway.match("/b") == "1.0"


@sqlite_only
async def test_reads_do_not_wait_for_a_write_that_waits_for_a_lock(gateway: Gateway) -> None:
    other = sqlite3.connect(gateway.store.place, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        write = asyncio.ensure_future(gateway.client.post(ROUTES, json=ROUTE))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        assert (await gateway.client.get(ROUTES)).is_success
        assert time.monotonic() - began < 1 and not write.done()
        assert problem(await write)[0] == 503
    finally:
        other.close()


def _limit_size(connection: Connection) -> None:
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")


@sqlite_only
async def test_a_full_store_keeps_what_it_had(gateway: Gateway, tmp_path: Path) -> None:
    await gateway.add_route()
    await gateway.store.write(_limit_size)
    refused = None
    for index in range(50):
        route = ROUTE | {"name": f"r{index}", "pathPattern": f"/r{index}", "hosts": ["h" * 60]}
        answer = await gateway.client.post(ROUTES, json=route)
        if answer.status_code != 201:
            refused = index
            break
    assert refused is not None
    assert problem(answer)[:2] == (503, "SERVICE_UNAVAILABLE")
    assert "full" in answer.json()["error"]["message"]
    assert gateway.match(f"/r{refused}", host="h" * 60) is None and gateway.match("/users/1") == "1.0"
    total = (await gateway.client.get(ROUTES)).json()["total"]
    assert total == refused + 1
    # The failed connection was given up with its limit, and the next change succeeds.
    again = await gateway.client.post(ROUTES, json=route)
    assert again.status_code == 201 and gateway.match(f"/r{refused}", host="h" * 60) == "1.0"


def test_a_full_disk_in_a_real_process(tmp_path: Path) -> None:
    """Files may not grow beyond a limit, as on a full disk; afterwards everything answered is there."""
    (tmp_path / FILE_NAME).write_bytes(empty_store())
    code = f"""
import asyncio, resource, signal
from pathlib import Path
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store
from hotswap_proxy.errors import StoreUnavailable

async def main():
    store = await Store.open(Settings(data_dir=Path({str(tmp_path)!r})))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = store.place.stat().st_size + 200_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    made = 0
    try:
        while made < 5000:
            await store.write(insert, made)
            made += 1
    except StoreUnavailable as error:
        print(made, error)

def insert(connection, number):
    connection.exec_driver_sql("INSERT INTO meta VALUES (?, ?)", (f"key-{{number}}", "x" * 2000))

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    made = int(done.stdout.split()[0])
    assert 0 < made < 5000 and "nothing was changed" in done.stdout
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM meta WHERE key LIKE 'key-%'").fetchone() == (made,)


@pytest.mark.parametrize("content", [b"not a database, but long enough to look at" * 100, b"\x00" * 8192])
async def test_a_damaged_file_is_named_at_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(StoreUnavailable) as caught:
        await Store.open(Settings(data_dir=tmp_path))
    assert str(tmp_path / FILE_NAME) in caught.value.message


@sqlite_only
async def test_a_file_damaged_while_running_does_not_stop_traffic(gateway: Gateway) -> None:
    await gateway.add_route()
    damage(gateway.store.place)
    answer = await gateway.client.get(ROUTES)
    assert problem(answer)[:2] == (503, "SERVICE_UNAVAILABLE")
    answer = await gateway.client.post(ROUTES, json=ROUTE | {"name": "b", "pathPattern": "/b"})
    assert problem(answer)[:2] == (503, "SERVICE_UNAVAILABLE")
    assert gateway.match("/users/1") == "1.0" and gateway.match("/b") is None


def damage(path: Path) -> None:
    """Overwrite a database, and its log of changes, in place."""
    for name in (path, Path(f"{path}-wal")):
        with name.open("r+b") as file:
            file.write(b"not a database" * (name.stat().st_size // 14 + 1))


async def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable) as caught:
        await Store.open(Settings(data_dir=tmp_path / "file" / "data"))
    assert caught.value.status == 503


async def test_everything_survives_a_restart(tmp_path: Path, database_url: str | None) -> None:
    async with running(tmp_path, database_url=database_url) as first:
        backend = await first.add_backend()
        route = await first.add_route(backends=["b1"])
        await first.client.put(f"{ROUTES}/{route['routeId']}", json={"priority": 7})
        await first.add_route(name="off", isEnabled=False)
        named = await first.add_route(
            name="named", pathPattern="/named", backends=[{"url": "http://users.internal:80"}]
        )
        before = (await first.client.get(ROUTES)).json()
    async with running(tmp_path, database_url=database_url) as second:
        assert (await second.client.get(ROUTES)).json() == before
        assert second.match("/users/1") == "1.1"
        assert second.pick(route["routeId"]) == "b1" and second.pick(named["routeId"]) == "users.internal:80"
        assert second.configuration.routes == 3 and second.configuration.backends >= 1
        assert (await second.client.get("/api/v1/gateway/backends")).json()["total"] == 1
        url = f"/api/v1/gateway/backends/{backend['backendId']}"
        assert problem(await second.client.delete(url))[0] == 409


def test_a_process_killed_in_the_middle_of_writes_loses_no_answered_one(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(empty_store())
    code = f"""
import asyncio
from pathlib import Path
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store

def insert(connection, number):
    connection.exec_driver_sql("INSERT INTO meta VALUES (?, ?)", (f"key-{{number}}", "x"))

async def main():
    store = await Store.open(Settings(data_dir=Path({str(tmp_path)!r})))
    for number in range(1_000_000):
        await store.write(insert, number)
        print(number, flush=True)

asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(30):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    answered = 30 + len(process.stdout.read().split())
    process.wait()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        kept = connection.execute("SELECT count(*) FROM meta WHERE key LIKE 'key-%'").fetchone()[0]
    assert kept in (answered, answered + 1)
