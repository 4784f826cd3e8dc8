"""What nodes know of each other, and what they have in common without anybody configuring it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import update

from hotswap_proxy.admin.tokens import Tokens
from hotswap_proxy.errors import StoreUnavailable, ValidationFailed
from hotswap_proxy.fleet import nodes
from hotswap_proxy.fleet.common import common
from hotswap_proxy.fleet.following import FollowLoop
from hotswap_proxy.fleet.heartbeat import Heartbeat
from hotswap_proxy.fleet.nodes import Beat
from hotswap_proxy.fleet.view import FleetView
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store, tables
from hotswap_proxy.store.revisions import Head
from hotswap_proxy.store.users import User

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    opened = await Store.open(settings)
    yield opened
    await opened.close()


def own(node_id: str, boot_id: str = "1", revision: int = 0, uptime: float = 60.0) -> Beat:
    return Beat(node_id, boot_id, "Development", revision, {"status": "Healthy"}, uptime)


async def silent(store: Store, node_id: str, seconds: float) -> None:
    """The node's last beat was so long ago."""
    row = tables.nodes.c.node_id == node_id
    statement = update(tables.nodes).where(row).values(seen_at=tables.nodes.c.seen_at - seconds)
    await store.write(lambda connection: connection.execute(statement) and None)


async def test_a_node_is_live_until_it_is_not_heard_of(store: Store) -> None:
    for name in ("b", "a"):
        await store.beat(nodes.beat, own(name, revision=3))
    assert [(node.node_id, node.revision) for node in await nodes.live(store)] == [("a", 3), ("b", 3)]
    await silent(store, "a", 11)
    assert [node.node_id for node in await nodes.live(store)] == ["b"]
    seen = await store.beat(nodes.beat, own("b", revision=4))
    assert [(node.node_id, node.is_away) for node in seen.fleet] == [("a", True), ("b", False)]
    await store.beat(nodes.beat, own("a"))
    assert [node.node_id for node in await nodes.live(store)] == ["a", "b"]


async def test_one_that_ends_in_order_is_gone_and_one_that_was_lost_is_forgotten_later(store: Store) -> None:
    for name in ("a", "b"):
        await store.beat(nodes.beat, own(name))
    await store.beat(nodes.leave, "a", "another boot")
    assert len(await nodes.live(store)) == 2, "only the process that has the row can take it away"
    await store.beat(nodes.leave, "a", "1")
    assert [node.node_id for node in await nodes.live(store)] == ["b"]
    await silent(store, "b", nodes.FORGOTTEN + 1)
    await store.beat(nodes.beat, own("c"))
    assert [node.node_id for node in await store.read(nodes.read)] == ["c"]


async def test_of_two_processes_with_one_id_the_newer_has_the_row(store: Store) -> None:
    await store.beat(nodes.beat, own("a", "old", uptime=60))
    assert (await store.beat(nodes.beat, own("a", "new", uptime=1))).rival is None
    assert (await store.beat(nodes.beat, own("a", "old", uptime=61))).rival == "new"
    assert (await nodes.live(store))[0].boot_id == "new"
    await silent(store, "a", 11)  # the newer one is gone
    assert (await store.beat(nodes.beat, own("a", "old", uptime=62))).rival is None
    assert (await nodes.live(store))[0].boot_id == "old"


async def test_what_is_common_is_made_once(settings: Settings) -> None:
    stores = [await Store.open(settings) for _ in range(3)]
    try:
        found = await asyncio.gather(*(common(store, "fleet_id") for store in stores))
        assert len(set(found)) == 1 and len(found[0]) == 16
        assert await common(stores[0], "token_secret") != await common(stores[0], "limit_key")
    finally:
        for store in stores:
            await store.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_token_of_one_node_counts_at_the_others(settings: Settings, store: Store) -> None:
    mine, theirs = Tokens.open(settings), Tokens.open(settings)
    user = User("u1", "someone", "Admin", True, 1, "", "")
    await mine.load(store)
    await theirs.load(store)
    assert theirs.verify(mine.issue(user)[0]).user_id == "u1"


class Served:
    """A configuration that only tells."""

    revision, problem, remembered, has_to_try = 0, None, False, False

    def __init__(self) -> None:
        self.follows = 0
        self.error: Exception | None = None

    def serves(self, head: Head) -> bool:
        return head.revision == self.revision

    async def follow(self) -> bool:
        self.follows += 1
        if self.error is not None:
            raise self.error
        self.revision = 7
        return True


async def test_the_loop_tells_edges_and_does_not_hurry_after_a_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    configuration = Served()
    loop = FollowLoop(store, configuration)
    back: list[str] = []

    async def when_up() -> None:
        back.append("up")

    async def fail() -> None:
        raise ValidationFailed("a password that is too short")

    loop.when_up = [fail, when_up]  # what cannot be done does not stand in the way of the rest
    heartbeat = Heartbeat(store, Settings(node_id="a"), "1", lambda: 0, dict)
    view = FleetView("a", configuration, loop, heartbeat, None)
    state: dict[str, Any] = {"newest": 7}
    looked = asyncio.Event()

    async def read(*_: Any) -> Head:
        looked.set()
        if "error" in state:
            raise state["error"]
        return Head(state["newest"], None)

    monkeypatch.setattr(store, "read", read)
    monkeypatch.setattr("hotswap_proxy.fleet.following.POLL", 0.01)
    running = asyncio.create_task(loop.run())

    async def looks(count: int = 3) -> None:
        for _ in range(count):
            looked.clear()
            async with asyncio.timeout(10):
                await looked.wait()

    await looks()
    assert configuration.follows == 1 and back == ["up"] and not view.behind
    state["error"] = StoreUnavailable("gone")
    await looks()
    assert [each["reason"] for each in view.troubles()] == ["store"]
    assert view.own()["store"]["error"] == "gone"
    del state["error"]
    await looks()
    assert back == ["up", "up"] and view.troubles() == []
    assert caplog.text.count("the store is lost") == 1
    configuration.error = RuntimeError("cannot be compiled")
    state["newest"] = 8
    await looks(10)
    assert configuration.follows == 2, "it is tried again later"
    assert view.behind
    state["newest"] = 9
    await looks()
    assert configuration.follows == 3, "but at once when there is something newer"
    running.cancel()


async def test_others_are_shown_as_the_store_knew_them(store: Store) -> None:
    configuration = Served()
    loop = FollowLoop(store, configuration)
    heartbeat = Heartbeat(store, Settings(node_id="a"), "1", lambda: 0, lambda: {"status": "Healthy"})
    view = FleetView("a", configuration, loop, heartbeat, None)
    await store.beat(nodes.beat, own("b", revision=-1))
    await store.beat(nodes.beat, own("c"))
    await silent(store, "c", 11)
    await heartbeat.beat()
    told = [(each["nodeId"], each["status"], each["behind"]) for each in view.others()]
    assert told == [("b", "Healthy", True), ("c", "Away", False)]
    heartbeat.at -= 11
    assert {each["status"] for each in view.others()} == {"Unknown"}, "it is this node that hears nothing"
