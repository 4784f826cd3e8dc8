"""POST /gateway/deployments/simulate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from harness.redisserver import RedisServer

from hotswap_proxy.control import forecasting
from hotswap_proxy.fleet.redis import Redis
from tests.gateway import Gateway

PATH = "/api/v1/gateway/deployments/simulate"
BODY: dict[str, Any] = {
    "requestsPerSecond": 200,
    "runs": 20,
    "phases": [{"trafficPercentage": 10, "duration": "1m"}],
    "harms": [{"errorRateIncrease": 100}],
}

# Nothing of it is in the store.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]


async def test_a_forecast_is_answered(gateway: Gateway) -> None:
    answer = await gateway.client.post(PATH, json=BODY)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["plannedSeconds"] == 60 and body["falseAlarm"] == 0
    assert body["harms"][0]["chanceFound"] == 1 and body["harms"][0]["exposedRequests"]["median"] <= 60


async def test_what_is_wrong_is_named(gateway: Gateway) -> None:
    answer = await gateway.client.post(PATH, json=BODY | {"runs": 1, "rate": 3})
    assert answer.status_code == 400
    assert {detail["field"] for detail in answer.json()["error"]["details"]} == {"runs", "rate"}


async def test_what_would_take_too_long_is_refused_and_says_what_helps(gateway: Gateway) -> None:
    long = BODY | {"runs": 2000, "phases": [{"trafficPercentage": 10, "duration": "1h"}]}
    told = (await gateway.client.post(PATH, json=long)).text
    assert "runs: at most" in told
    endless = BODY | {"thresholds": {"window": "1ms"}}
    told = (await gateway.client.post(PATH, json=endless)).text
    assert "too long" in told and "at most" not in told


async def test_one_at_a_time(gateway: Gateway) -> None:
    answers = await asyncio.gather(*(gateway.client.post(PATH, json=BODY) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 429]
    assert (await gateway.client.post(PATH, json=BODY)).status_code == 200


async def test_a_forecast_that_takes_too_long_is_given_up(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasting, "TIMEOUT", 0.0)
    answer = await gateway.client.post(PATH, json=BODY)
    assert answer.status_code == 503 and "fewer runs" in answer.json()["error"]["message"]


async def test_a_process_that_fails_is_no_answer(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasting, "COMMAND", ("/bin/false",))
    assert (await gateway.client.post(PATH, json=BODY)).status_code == 503
    monkeypatch.setattr(forecasting, "COMMAND", ("/nothing/here",))
    assert (await gateway.client.post(PATH, json=BODY)).status_code == 503


@pytest.fixture
async def cache(gateway: Gateway, redis_server: RedisServer) -> AsyncIterator[Redis]:
    redis = gateway.context.cache = Redis(redis_server.url)
    up = asyncio.Event()
    redis.when_up(up.set)
    redis.start("fleet")
    async with asyncio.timeout(20):
        await up.wait()
    yield redis
    await redis.stop()


async def test_a_fleet_calculates_a_forecast_once(
    gateway: Gateway, cache: Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = (await gateway.client.post(PATH, json=BODY)).content
    monkeypatch.setattr(forecasting, "COMMAND", ("/bin/false",))
    assert (await gateway.client.post(PATH, json=BODY)).content == first
    assert (await gateway.client.post(PATH, json=BODY | {"seed": 7})).status_code == 503, "another question"
    (name,) = await cache.do(lambda client: client.keys("*forecast*"))
    assert 290_000 < await cache.do(lambda client: client.pttl(name)) <= 300_000
    await cache.do(lambda client: client.set(name, b'{"runs": "forged"}'))
    assert (await gateway.client.post(PATH, json=BODY)).status_code == 503, "what is no forecast is not shown"
    monkeypatch.undo()
    redis_server.kill()
    assert (await gateway.client.post(PATH, json=BODY)).content == first, "without Redis as with it"
