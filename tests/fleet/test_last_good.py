"""The last good configuration on disk: what is read back, and what of a damaged file."""

from __future__ import annotations

import asyncio
import logging
import stat
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.fleet import lastgood, opening
from hotswap_proxy.fleet.lastgood import LastGood
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store
from tests.fleet.members import Member, member

pytestmark = pytest.mark.anyio


@pytest.fixture
def database_url() -> None:
    """What is kept does not depend on the database."""


@pytest.fixture
def kept(settings: Settings) -> LastGood:
    return LastGood(settings.data_dir, "Development")


@pytest.fixture
async def node(settings: Settings, kept: LastGood) -> AsyncIterator[Member]:
    async with member(settings, "a", keep=kept.note) as started:
        yield started


async def written(kept: LastGood) -> None:
    """Wait for the thread that writes."""
    await asyncio.get_running_loop().run_in_executor(kept._thread, lambda: None)
    await asyncio.sleep(0)


async def start_without_store(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, check: Callable[[Member], None]
) -> Member:
    async def away(_: Store) -> None:
        raise StoreUnavailable("the store is away")

    again = LastGood(settings.data_dir, settings.environment)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "prepare", away)
        async with member(settings, "a", keep=again.note, load=False) as started:
            await opening.begin(started.store, started.configuration, again)
            assert started.configuration.remembered
            check(started)
            patched.undo()
            await started.store.prepare()
            await started.configuration.follow()
            assert not started.configuration.remembered
            await again.close()
            return started


async def test_a_node_starts_with_what_was_live_last(
    node: Member, kept: LastGood, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = {"name": "b", "url": "http://users.internal:80", "healthCheck": {"type": "Tcp"}}
    await node.configuration.create_backend(backend, author="test")
    first = await node.create("users", backends=[{"name": "b"}])
    gone = await node.create("gone")
    await node.create("other")
    await node.configuration.delete_route(gone, author="test")
    await node.update(first, priority=7)
    node.resolver.known["users.internal"] = "10.0.0.8"
    assert await node.configuration.refresh_addresses()
    await written(kept)
    node.resolver.known.clear()

    def check(started: Member) -> None:
        assert started.match("/users") == "1.1" and started.match("/other") == "1.0"
        assert started.match("/gone") is None
        assert started.configuration.revision == node.configuration.revision == 6
        assert started.checker.registry.status("http://users.internal:80") is not None
        assert started.configuration._addresses.known["users.internal:80"], "resolved again, or remembered"

    await start_without_store(settings, monkeypatch, check)


async def test_it_is_private_and_written_anew_as_a_whole(node: Member, kept: LastGood) -> None:
    await node.create("users")
    await written(kept)
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    for index in range(30):
        await node.create(f"r{index}")
    await written(kept)
    before = kept.path.stat()
    await node.configuration.keep_whole()
    await written(kept)
    assert kept.path.stat().st_ino != before.st_ino and kept.path.stat().st_size < before.st_size
    found = kept.read()
    assert found is not None and len(found.objects["upsertRoutes"]) == 31 and found.revision == 31


@pytest.mark.parametrize("cut", [1, 20, 300])
async def test_a_torn_tail_is_left_out(node: Member, kept: LastGood, cut: int) -> None:
    await node.create("users")
    await written(kept)
    size = kept.path.stat().st_size
    await node.create("torn")
    await written(kept)
    assert kept.path.stat().st_size > size + 300
    with kept.path.open("r+b") as file:
        file.truncate(kept.path.stat().st_size - cut)
    found = kept.read()
    assert found is not None and found.revision == 1
    assert [one["name"] for one in found.objects["upsertRoutes"].values()] == ["users"]


async def test_a_flipped_bit_ends_what_is_believed(node: Member, kept: LastGood) -> None:
    for name in ("one", "two", "three"):
        await node.create(name)
    await written(kept)
    data = bytearray(kept.path.read_bytes())
    data[data.index(b'"name":"two"') + 9] ^= 1
    kept.path.write_bytes(data)
    found = kept.read()
    assert found is not None and found.revision == 1


@pytest.mark.parametrize(
    "content", [b"", b"hotswap-lkg 1\n", b"something else", b"hotswap-lkg 1\n" + bytes(64)]
)
async def test_a_file_without_a_whole_configuration_is_none(
    node: Member, kept: LastGood, content: bytes
) -> None:
    await written(kept)  # what is on its way would replace it
    kept.path.write_bytes(content)
    assert kept.read() is None


async def test_without_it_a_node_does_not_start_without_its_store(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreUnavailable, match="no last good configuration"):
        await start_without_store(settings, monkeypatch, lambda _: None)


async def test_that_of_another_environment_is_none(node: Member, kept: LastGood, settings: Settings) -> None:
    await written(kept)
    assert kept.read() is not None
    assert LastGood(settings.data_dir, "QA").read() is None


async def test_nothing_is_appended_behind_a_gap(
    node: Member, kept: LastGood, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    await node.create("one")
    with monkeypatch.context() as patched:
        patched.setattr(lastgood, "_append", fail)
        await node.create("two")
        await written(kept)
    assert kept.wants_all and "cannot be kept" in caplog.text
    await node.create("three")
    await written(kept)
    found = kept.read()
    assert found is not None and found.revision == 1
    with caplog.at_level(logging.INFO):
        await node.configuration.keep_whole()
        await written(kept)
    found = kept.read()
    assert found is not None and found.revision == 3 and not kept.wants_all
    assert "kept again" in caplog.text


async def test_what_was_on_its_way_when_a_write_failed_is_not_written_behind_it(
    node: Member, kept: LastGood, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread meets the next change before anybody has heard of the failure."""
    await node.create("one")
    await written(kept)
    append, failing, waiting = lastgood._append, [OSError("disk full")], threading.Event()

    def fail_once(*args: Any) -> None:
        waiting.wait(10)
        if failing:
            raise failing.pop()
        append(*args)

    monkeypatch.setattr(lastgood, "_append", fail_once)
    await node.create("two")
    await node.create("three")
    waiting.set()
    await written(kept)
    found = kept.read()
    assert found is not None and found.revision == 1 and kept.wants_all


async def test_a_long_journal_asks_for_a_whole_one(
    node: Member, kept: LastGood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastgood, "MOST_RECORDS", 3)
    for index in range(5):
        await node.create(f"r{index}")
    await written(kept)
    assert kept.wants_all
