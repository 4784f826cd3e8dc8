"""The connection to Redis: messages, locks, and what callers see when it is gone, hangs and comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from harness.redisserver import RedisServer

from hotswap_proxy.fleet import turns
from hotswap_proxy.fleet.redis import Redis, RedisUnavailable
from hotswap_proxy.redisurl import check_redis_url, shown_redis_url

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    connection = Redis(redis_server.url)
    connection.start("fleet-1")
    await until(connection, True)
    yield connection
    await connection.stop()


async def until(connection: Redis, is_up: bool) -> None:
    async with asyncio.timeout(20):
        while connection.is_up is not is_up:  # noqa: ASYNC110  what it says, not how it says it
            await asyncio.sleep(0.01)


async def test_messages_reach_the_nodes_of_the_fleet_and_no_others(
    redis: Redis, redis_server: RedisServer
) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    elsewhere: list[bytes] = []
    other = Redis(redis_server.url)
    other.subscribe("news", elsewhere.append)
    other.start("fleet-2")
    await until(other, True)
    redis.subscribe("news", heard.put_nowait)  # while it is connected
    async with asyncio.timeout(10):
        while heard.empty():
            assert await redis.publish("news", "one")
            await asyncio.sleep(0.02)
    assert await heard.get() == b"one"
    await other.stop()
    assert elsewhere == []


async def test_a_handler_that_fails_does_not_end_the_others(redis: Redis) -> None:
    heard = asyncio.Event()

    def fail(_: bytes) -> None:
        raise RuntimeError("a handler's mistake")

    redis.subscribe("news", fail)
    redis.subscribe("news", lambda _: heard.set())
    async with asyncio.timeout(10):
        while not heard.is_set():
            await redis.publish("news", "one")
            await asyncio.sleep(0.02)


async def test_it_comes_back_by_itself_and_says_that_messages_may_be_missed(
    redis: Redis, redis_server: RedisServer
) -> None:
    connected = asyncio.Event()
    redis.when_up(connected.set)
    redis_server.kill()
    await until(redis, False)
    assert redis.error and not await redis.publish("news", "lost")
    with pytest.raises(RedisUnavailable, match="no connection"):
        await redis.do(lambda client: client.ping())
    async with redis.lock("apply", 10, "me") as has:
        assert not has
    redis_server.start()
    await until(redis, True)
    assert connected.is_set() and await redis.publish("news", "again")


async def test_a_server_that_hangs_is_given_up(redis: Redis, redis_server: RedisServer) -> None:
    redis_server.pause()
    begun = time.monotonic()
    assert not await redis.publish("news", "x")
    assert time.monotonic() - begun < 5, "half a second, on a machine that has time"
    await until(redis, False)
    redis_server.resume()
    await until(redis, True)


async def test_a_lost_subscription_is_told_even_if_it_stands_again_at_once(
    redis: Redis, redis_server: RedisServer
) -> None:
    connected = asyncio.Event()
    redis.when_up(connected.set)
    redis_server.command_raw("CLIENT", "KILL", "TYPE", "pubsub")
    async with asyncio.timeout(20):
        await connected.wait()
    await until(redis, True)


async def test_a_lock(redis: Redis) -> None:
    async with redis.lock("apply", 60, "me") as mine, redis.lock("apply", 60, "you") as yours:
        assert mine and not yours
    async with redis.lock("apply", 60, "you") as yours:
        assert yours, "it was given back"


async def test_a_lock_that_ran_out_is_not_taken_from_its_next_owner(redis: Redis) -> None:
    async with redis.lock("apply", 60, "me") as mine:
        assert mine
        await redis.do(lambda client: client.set(redis.key("apply"), "you"))
    assert await redis.do(lambda client: client.get(redis.key("apply"))) == b"you"


async def test_who_applies_takes_turns_and_waits_for_nobody_for_ever(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    async def apply(name: str) -> None:
        async with turns.turn(redis, name):
            order.append(f"{name} begins")
            await asyncio.sleep(0.05)
            order.append(f"{name} ends")

    await asyncio.gather(apply("a"), apply("b"))
    assert [each.split()[1] for each in order] == ["begins", "ends", "begins", "ends"]
    monkeypatch.setattr(turns, "PATIENCE", 0.2)
    async with redis.lock(turns.LOCK, 60, "somebody who hangs"):
        await apply("c")
    assert order[-1] == "c ends"


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://:p%40@h:6380/3",
        "rediss://u:p@h/0?ssl_ca_certs=/ca.pem",
        "unix:///run/redis.sock",
    ],
)
def test_urls(url: str) -> None:
    check_redis_url(url)
    assert "p%40" not in shown_redis_url(url) and "u:p" not in shown_redis_url(url)


@pytest.mark.parametrize(
    "url",
    ["http://secret@h", "redis://", "redis://h:secret", "redis://h/secret", "unix://", "redis://h?secret=1",
     "redis://[secret", "redis://h#secret"],
)  # fmt: skip
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        check_redis_url(url)
    assert "secret" not in str(refused.value)
