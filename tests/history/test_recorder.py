"""Each request is in the store once, in its minute, whatever happens to the node, its clock or the store."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from history.counting import FIRST, START, Clock, Counts

from hotswap_proxy import _core
from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.history import recorder as module
from hotswap_proxy.history.recorder import Recorder, Told
from hotswap_proxy.history.windows import ALL, History
from hotswap_proxy.store import Store, rollups

pytestmark = pytest.mark.anyio


class Node:
    def __init__(self, store: Store, name: str = "n1", boot: str = "b1", clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.counts = Counts()
        self.recorder = Recorder(self.counts, store, name, boot, clock=self.clock, store_clock=self.clock)
        self.history = History(store, self.recorder)

    async def minute(self, **more: Any) -> None:
        """Let a minute pass."""
        self.clock.now += 60
        await self.recorder.turn()

    async def requests(self, route_id: str = "r", minutes: int = 60, **more: Any) -> int:
        window = await self.history.window(route_id, f"{minutes}m", minutes, **more)
        return sum(counts.requests for counts in window.arms().values())


async def rows(store: Store, minute: int) -> list[tuple[str, str, int, int]]:
    found = await store.read(lambda connection: list(rollups.of_minute(connection, minute)))
    return [row[:4] for row in found]


def test_what_a_real_node_tells_is_understood() -> None:
    node = _core.Node(1)
    counting = _core.Rollups(node)
    assert counting.take() == ((0, 0, b""), [])
    assert counting.peek() == ((0, 0, b""), [])
    assert counting.peek("r") == ((0, 0, b""), [])


async def test_a_minute_is_written_when_it_is_over(store: Store) -> None:
    node = Node(store)
    node.counts.serve("r", "stable", 1, 2, 3)
    node.counts.serve("r", "canary", 5, failed=True)
    node.counts.serve("", "", 1)
    node.counts.serve(None, "", 1)
    assert await node.requests() == 4, "the live minute"
    assert await node.requests(ALL) == 6
    await node.minute()
    assert await rows(store, FIRST) == [
        ("", "", 1, 0),
        ("(all)", "", 6, 1),
        ("(removed)", "", 1, 0),
        ("r", "canary", 1, 1),
        ("r", "stable", 3, 0),
    ]
    assert await node.requests() == 4
    await node.minute()
    assert await rows(store, FIRST + 1) == [("(all)", "", 0, 0)], "it was here, and served nothing"
    assert await node.requests() == 4
    assert await node.requests(minutes=1) == 0


async def test_a_node_that_is_restarted_in_the_middle_of_a_minute(store: Store) -> None:
    first = Node(store)
    first.counts.serve("r")
    first.clock.now += 20
    await first.recorder.stop()
    assert await rows(store, FIRST) == [("(all)", "", 1, 0), ("r", "stable", 1, 0)]

    second = Node(store, boot="b2", clock=Clock(START + 30))
    second.counts.serve("r")
    second.counts.serve("r")
    assert await second.requests() == 3, "the minute that is not over, of both runs"
    second.clock.now = START + 60
    await second.recorder.turn()
    assert sum(row[2] for row in await rows(store, FIRST) if row[0] == "r") == 3
    assert await second.requests() == 3


async def test_a_clock_that_goes_back_loses_nothing(store: Store) -> None:
    node = Node(store)
    for _ in range(3):
        node.counts.serve("r")
        await node.minute()
    node.clock.now -= 120
    for _ in range(3):
        node.counts.serve("r")
        await node.minute()
    assert await node.requests() == 6
    found = [sum(row[2] for row in await rows(store, FIRST + back) if row[0] == "r") for back in range(5)]
    assert found == [1, 2, 2, 1, 0]


async def test_minutes_are_those_of_the_stores_clock(store: Store) -> None:
    node = Node(store)
    ours = Clock(START - 3000)
    node.recorder = Recorder(node.counts, store, "n1", "b1", clock=ours, store_clock=node.clock)
    node.counts.serve("r")
    await node.recorder.flush()  # hears of the time
    ours.now += 60
    node.clock.now += 60
    await node.recorder.turn()
    assert ("r", "stable", 1, 0) in await rows(store, FIRST)


async def test_the_store_is_away_for_some_minutes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(store)

    async def away(*_args: Any, **_more: Any) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "beat", away)
        for _ in range(3):
            node.counts.serve("r")
            with pytest.raises(StoreUnavailable):
                await node.minute()
        assert await node.requests() == 3, "what waits is in the answers of this node"
        assert await node.requests(minutes=2) == 2
    assert await rows(store, FIRST) == []
    await node.minute()
    assert [("r", "stable", 1, 0) in await rows(store, FIRST + each) for each in range(3)] == [True] * 3
    assert await node.requests() == 3


async def test_a_write_whose_outcome_is_not_known_is_made_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(store)
    monkeypatch.setattr(module, "BATCH", 2)
    for name in "abcde":
        node.counts.serve(name)
    real, calls = store.beat, 0

    async def lost(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        done = await real(*args, **more)
        if calls == 2:
            raise StoreUnavailable("it was written, but who knows")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(store, "beat", lost)
        with pytest.raises(StoreUnavailable):
            await node.minute()
    assert await node.requests("a") == 1, "it is in the store and waits still"
    await node.minute()
    assert [row for row in await rows(store, FIRST) if row[0] in "abcde"] == [
        (name, "stable", 1, 0) for name in "abcde"
    ]


async def test_what_waits_has_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(store)
    monkeypatch.setattr(module, "MAX_MINUTES", 5)

    async def away(*_args: Any, **_more: Any) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "beat", away)
        for _ in range(9):
            node.counts.serve("r")
            with pytest.raises(StoreUnavailable):
                await node.minute()
    await node.minute()
    assert await node.requests() == 4, "the last five minutes, one of them without requests"
    monkeypatch.setattr(module, "MAX_ROWS", 10)
    with monkeypatch.context() as patch:
        patch.setattr(store, "beat", away)
        for _ in range(9):
            for name in "xyz":
                node.counts.serve(name)
            with pytest.raises(StoreUnavailable):
                await node.minute()
        assert await node.requests("x") == 2


async def test_who_is_ended_while_he_takes_a_minute_writes_it(store: Store) -> None:
    node = Node(store)
    taking, going_on = asyncio.Event(), threading.Event()
    loop, take = asyncio.get_running_loop(), node.counts.take

    def slow() -> Told:
        told = take()
        loop.call_soon_threadsafe(taking.set)
        going_on.wait()
        return told

    node.counts.take = slow  # type: ignore[method-assign]
    node.counts.serve("r")
    node.clock.now += 60
    turn = asyncio.create_task(node.recorder.turn())
    await taking.wait()
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)
    going_on.set()
    await node.recorder.stop()
    assert await rows(store, FIRST) == [("(all)", "", 1, 0), ("r", "stable", 1, 0)]


async def test_old_minutes_go(store: Store) -> None:
    node = Node(store)
    node.counts.serve("r")
    await node.minute()
    node.clock.now += 24 * 3600
    await node.minute()
    assert await rows(store, FIRST) == []


async def test_the_loop_wakes_at_the_end_of_a_minute(store: Store) -> None:
    node = Node(store)
    node.clock.now += 17
    node.counts.serve("r")
    waited: list[float] = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        node.clock.now += seconds
        if len(waited) == 3:
            done.set()
            await asyncio.Event().wait()

    clock = node.clock
    recorder = Recorder(node.counts, store, "n1", "b1", clock=clock, store_clock=clock, sleep=sleep)
    running = asyncio.create_task(recorder.run())
    await done.wait()
    running.cancel()
    assert waited == [43.0, 60.0, 60.0]
    assert ("r", "stable", 1, 0) in await rows(store, FIRST)
    assert await rows(store, FIRST + 1) == [("(all)", "", 0, 0)]
