"""POST /gateway/deployments/simulate."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hotswap_proxy.control import forecasting
from tests.gateway import Gateway

PATH = "/api/v1/gateway/deployments/simulate"
BODY: dict[str, Any] = {
    "requestsPerSecond": 200,
    "runs": 20,
    "phases": [{"trafficPercentage": 10, "duration": "1m"}],
    "harms": [{"errorRateIncrease": 100}],
}

pytestmark = pytest.mark.anyio


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
