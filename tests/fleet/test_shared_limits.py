"""Rate limits shared by two nodes through a real Redis: workers serve, control processes exchange."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from harness.backend import Backend, ok
from harness.client import Client
from harness.redisserver import RedisServer
from harness.wait import eventually
from harness.worker import Plane, backend, route

from hotswap_proxy.fleet.limits import LimitExchange
from hotswap_proxy.fleet.redis import Redis

ALGORITHMS = ("FixedWindow", "SlidingWindow", "TokenBucket")
LIMIT = 40
DAY = 86_400_000  # nothing comes back during a test
KEY = bytes(range(16))


class Loop:
    """An event loop in a thread: that of the control processes."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class Site:
    """One node: a worker, and what of a control process takes part."""

    def __init__(self, control: Loop, redis_url: str, fleet_id: str, known: Callable[[], int]) -> None:
        self.plane = Plane("native")
        self.plane.node.set_limits_key(KEY)
        self._control = control
        self._client: Client | None = None
        control.run(self._start(redis_url, fleet_id, known))

    async def _start(self, redis_url: str, fleet_id: str, known: Callable[[], int]) -> None:
        self._redis = Redis(redis_url)
        self.limits = LimitExchange(self.plane.node, self._redis, secrets.token_hex(8), known)
        self._redis.start(fleet_id)
        self._task = asyncio.create_task(self.limits.run())

    @property
    def mode(self) -> str:
        return self.limits.exchange.mode

    def ask(self, times: int = 1, pause: float = 0.0) -> int:
        """How many of ``times`` requests are let through; any answer but 200 and 429 is an error."""
        self._client = self._client or Client(self.plane.port)
        passed = 0
        for _ in range(times):
            status = self._client.get().status
            assert status in (200, 429)
            passed += status == 200
            time.sleep(pause)
        return passed

    def close(self, in_order: bool = True) -> None:
        async def stop() -> None:
            self._task.cancel()
            if in_order:
                await self.limits.stop()
            await self._redis.stop()

        self._control.run(stop())
        if self._client is not None:
            self._client.sock.close()
        self.plane.close()


class Fleet:
    def __init__(self, server: RedisServer, target: Backend) -> None:
        self.control = Loop()
        self.sites: list[Site] = []
        self.known = 0
        self._server, self._target, self._id = server, target, secrets.token_hex(4)

    def join(self, kind: str, known: int | None = None) -> Site:
        """A node comes. ``known``: as many as the store knows of from then on."""
        self.known = known or self.known + 1
        site = Site(self.control, self._server.url, self._id, lambda: self.known)
        self.sites.append(site)
        self.limit(kind, site)
        return site

    def limit(self, kind: str, site: Site, window_ms: int = DAY) -> None:
        rule = {"type": kind, "requests": LIMIT, "windowMs": window_ms, "keyBy": "ClientIP"}
        site.plane.publish(route("/**", backend(self._target.url), policy={"rateLimit": rule}))

    def until(self, mode: str) -> None:
        nodes = len(self.sites)
        eventually(
            lambda: all(
                (site.mode, site.limits.exchange.nodes) == (mode, max(nodes, self.known))
                for site in self.sites
            )
        )

    def at_once(self, *asked: tuple[int, float]) -> list[int]:
        """(requests, pause between them) for each node, at the same time: how many passed."""
        with ThreadPoolExecutor(len(self.sites)) as pool:
            turns = [
                pool.submit(site.ask, *work) for site, work in zip(self.sites, asked, strict=True) if work[0]
            ]
            return [turn.result() for turn in turns]

    def settled(self) -> None:
        """Wait until all have heard of everything."""
        eventually(lambda: not any(site.limits.exchange._batches for site in self.sites))
        time.sleep(0.05)
        eventually(lambda: not any(site.limits.exchange._batches for site in self.sites))

    def close(self) -> None:
        for site in self.sites:
            site.close()
        self.control.close()


@pytest.fixture
def fleet(redis_server: RedisServer) -> Iterator[Fleet]:
    target = Backend(lambda _request: ok())
    fleet = Fleet(redis_server, target)
    yield fleet
    fleet.close()
    target.close()


@pytest.mark.parametrize("kind", ALGORITHMS)
@pytest.mark.parametrize("load", [(60, 60), (108, 12), (120, 0)], ids=["even", "skewed", "one-sided"])
def test_the_limit_is_the_fleets(fleet: Fleet, kind: str, load: tuple[int, int]) -> None:
    for _ in range(2):
        fleet.join(kind)
    fleet.until("sharing")
    seconds = 0.4
    passed = sum(fleet.at_once(*((times, seconds / max(times, 1)) for times in load)))
    fleet.settled()
    passed += sum(site.ask(10, 0.02) for site in fleet.sites)  # whatever is left, for whoever comes
    assert 38 <= passed <= 42


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_a_burst_at_both_at_the_same_instant(fleet: Fleet, kind: str) -> None:
    for _ in range(2):
        fleet.join(kind)
    fleet.until("sharing")
    passed = fleet.at_once((80, 0), (80, 0))
    assert sum(passed) <= 42
    fleet.settled()
    passed += [site.ask(10, 0.02) for site in fleet.sites]
    assert 38 <= sum(passed) <= 42


def test_each_node_tells_what_is_left_of_the_fleet(fleet: Fleet) -> None:
    one, other = fleet.join("FixedWindow"), fleet.join("FixedWindow")
    fleet.until("sharing")
    assert one.ask(10, 0.01) == 10
    fleet.settled()
    with Client(other.plane.port) as client:
        assert client.get().header("X-RateLimit-Remaining") == str(LIMIT - 11)


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_without_redis_each_node_has_its_share_and_with_it_the_rest_is_shared(
    fleet: Fleet, redis_server: RedisServer, kind: str
) -> None:
    for _ in range(2):
        fleet.join(kind)
    fleet.until("sharing")
    redis_server.kill()
    # At once, before anybody has noticed.
    assert fleet.at_once((30, 0), (5, 0)) == [20, 5]
    fleet.until("apart")
    assert fleet.at_once((30, 0), (5, 0)) == [0, 5]
    redis_server.start()
    fleet.until("sharing")
    fleet.settled()
    passed = fleet.at_once((40, 0.01), (40, 0.01))
    assert 8 <= sum(passed) <= 12, "30 of 40 are used up"


def test_a_redis_that_was_never_there(fleet: Fleet, redis_server: RedisServer) -> None:
    redis_server.kill()
    for _ in range(2):
        fleet.join("FixedWindow", known=2)
    fleet.until("apart")
    assert fleet.at_once((30, 0), (30, 0)) == [20, 20]


def test_a_node_that_joins_knows_what_was_used_and_one_that_leaves_gives_its_share_back(fleet: Fleet) -> None:
    one = fleet.join("FixedWindow")
    eventually(lambda: fleet.sites[0].limits._link.is_up)
    assert one.ask(30) == 30, "alone"
    other = fleet.join("FixedWindow")
    fleet.until("sharing")
    eventually(lambda: _remaining(other) < 10)
    fleet.settled()
    assert 7 <= other.ask(40, 0.02) <= 10
    fleet.sites.remove(other)
    other.close()
    fleet.known = 1
    eventually(lambda: one.mode == "alone")
    fleet.limit("TokenBucket", one)  # begins anew
    assert one.ask(60) == LIMIT


def test_a_node_that_dies_is_missed_until_the_store_has_given_it_up(fleet: Fleet) -> None:
    one, other = fleet.join("FixedWindow"), fleet.join("FixedWindow")
    fleet.until("sharing")
    fleet.sites.remove(other)
    other.close(in_order=False)
    eventually(lambda: one.mode == "apart")
    assert one.ask(30) == 20
    fleet.known = 1
    eventually(lambda: one.mode == "alone")
    fleet.settled()
    assert one.ask(30) == 20


def _remaining(site: Site) -> int:
    with Client(site.plane.port) as client:
        return int(client.get().header("X-RateLimit-Remaining") or -1)
