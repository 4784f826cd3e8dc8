"""Webhooks: what is sent, tried again, given up; and that nobody waits for them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest
from harness.backend import Backend, Received, ok

from hotswap_proxy.control import webhooks
from hotswap_proxy.control.health.alerts import Alerts
from hotswap_proxy.control.health.machine import Health, State
from hotswap_proxy.control.health.registry import Probed, Target
from hotswap_proxy.control.health.spec import read_spec
from hotswap_proxy.model import HealthCheck

pytestmark = pytest.mark.anyio
UP, DOWN = Health(State.UP), Health(State.DOWN)


def target(address: str = "http://10.0.0.1:80") -> Target:
    made = Target(address, read_spec(HealthCheck.model_validate({}).document()), DOWN)
    made.users["backend:be-1", "be-1"] = "users-1"
    made.last = Probed(0.0, False, "connection refused", 0.001)
    return made


@pytest.fixture
async def hooks() -> AsyncIterator[list[Backend]]:
    pair = [Backend(), Backend()]
    yield pair
    for hook in pair:
        hook.close()


async def running(*urls: str) -> Alerts:
    alerts = Alerts(urls, {"nodeId": "n1", "environment": "QA"}, pause=0.01)
    alerts.start()
    return alerts


async def received(hook: Backend, count: int) -> list[Received]:
    await asyncio.to_thread(hook.wait, lambda: len(hook.requests) >= count)
    return hook.requests


async def test_a_flip_is_posted_to_every_url(hooks: list[Backend]) -> None:
    alerts = await running(f"{hooks[0].url}/hook?key=1", hooks[1].url)
    alerts.send(target(), UP, DOWN)
    for hook, path in zip(hooks, ("/hook?key=1", "/"), strict=True):
        (request,) = await received(hook, 1)
        assert (request.method, request.target) == ("POST", path)
        assert request.header("content-type") == "application/json"
        body = json.loads(request.body)
        assert body.pop("at").endswith("Z")
        assert body.pop("eventId") == request.header("x-hotswap-event-id")
        assert body == {
            "event": "backend.unhealthy",
            "nodeId": "n1",
            "environment": "QA",
            "address": "http://10.0.0.1:80",
            "backends": [{"backendId": "be-1", "name": "users-1"}],
            "previousStatus": "Healthy",
            "healthStatus": "Unhealthy",
            "reason": "connection refused",
        }
    await alerts.stop()


async def test_it_is_tried_again_a_little(hooks: list[Backend]) -> None:
    answers = iter([b"500 No", b"503 No", b"200 OK", b"404 No", *[b"500 No"] * 3])
    hooks[0].script = lambda _request: ok(status=next(answers))
    alerts = await running(hooks[0].url)
    for _ in range(3):
        alerts.send(target(), UP, DOWN)
    await received(hooks[0], 7)  # three tries, then one that is refused for good, then three in vain
    await asyncio.sleep(0.1)
    assert len(hooks[0].requests) == 7
    assert alerts.results == {"delivered": 1, "failed": 2, "dropped": 0}
    await alerts.stop()


async def test_a_dead_hook_holds_nobody_up_and_its_path_is_not_logged(
    hooks: list[Backend], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT", 0.2)
    monkeypatch.setattr(webhooks, "ATTEMPTS", 1)
    silent = await asyncio.start_server(lambda _r, _w: asyncio.sleep(30), "127.0.0.1", 0)
    alerts = await running(f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/s3cret", hooks[1].url)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            alerts.send(target(), UP, DOWN)
        await received(hooks[1], 5)
        assert alerts.results["failed"] <= 1
        await asyncio.sleep(0.5)
    assert alerts.results["failed"] >= 1
    (line,) = [record for record in caplog.records if "webhook" in record.message]
    assert line.reason == "no answer in time"  # type: ignore[attr-defined]
    assert "s3cret" not in str(vars(line))
    await alerts.stop()
    silent.close()


async def test_what_waits_is_bounded_and_the_newest_stays(
    hooks: list[Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "QUEUE", 3)
    alerts = Alerts((hooks[0].url,), {})
    for number in range(10):
        alerts.send(target(f"http://10.0.0.1:{number + 1}"), UP, DOWN)
    assert alerts.results["dropped"] == 7
    alerts.start()
    requests = await received(hooks[0], 3)
    assert [json.loads(request.body)["address"][-2:] for request in requests] == [":8", ":9", "10"]
    await alerts.stop()


async def test_without_urls_nothing_is_kept() -> None:
    Alerts((), {}).send(target(), UP, DOWN)
