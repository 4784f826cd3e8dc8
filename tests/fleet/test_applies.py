"""Files applied at the nodes of a fleet, beside the changes of others."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from hotswap_proxy.control.apply import LocalWork
from tests.fleet.members import Member, route

pytestmark = pytest.mark.anyio
Pair = tuple[Member, Member]


async def test_applies_at_two_nodes_at_once_do_not_undo_each_other(pair: Pair) -> None:
    def file(name: str) -> bytes:
        return orjson.dumps({"version": "1", "routes": [route(f"{name}{index}") for index in range(5)]})

    await asyncio.gather(
        *(
            node.configuration.apply(file(name), prune=False, author="test")
            for node, name in zip(pair, "ab", strict=True)
        )
    )
    for node in pair:
        await node.configuration.follow()
        assert node.configuration.routes == 10


async def test_a_node_follows_the_others_while_it_prepares_a_file(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that takes long, or a file system that hangs: a rollback must get here all the same."""
    a, b = pair
    begun, go_on, attempts = asyncio.Event(), asyncio.Event(), 0
    prepare = LocalWork.prepare

    async def slow(self: LocalWork) -> Any:
        nonlocal attempts
        attempts += 1
        begun.set()
        await go_on.wait()
        return await prepare(self)

    monkeypatch.setattr(LocalWork, "prepare", slow)
    file = orjson.dumps({"version": "1", "routes": [route("filed")]})
    async with asyncio.timeout(30):
        applying = asyncio.create_task(b.configuration.apply(file, prune=False, author="test"))
        await begun.wait()
        await a.create("elsewhere")
        await b.configuration.follow()
        assert b.match("/elsewhere") == "1.0"
        await b.create("here")
        go_on.set()
        await applying
    assert attempts == 2, "it was worked out on what there is by then"
    assert [b.match(path) for path in ("/filed", "/here", "/elsewhere")] == ["1.0"] * 3


async def test_a_file_is_applied_although_others_change_something_all_the_time(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, b = pair
    count, waiting = 0, []
    prepare = LocalWork.prepare

    async def slow(self: LocalWork) -> Any:
        """Someone changes something at this node each time: in the end he has to wait."""
        nonlocal count
        found = await prepare(self)
        count += 1
        other = asyncio.create_task(b.create(f"other{count}"))
        waiting.append(other)
        await asyncio.wait([other], timeout=0.5)
        return found

    monkeypatch.setattr(LocalWork, "prepare", slow)
    await b.configuration.apply(
        orjson.dumps({"version": "1", "routes": [route("filed")]}), prune=False, author="test"
    )
    await asyncio.gather(*waiting)
    assert count == 4 and b.match("/filed") == b.match("/other4") == "1.0"
