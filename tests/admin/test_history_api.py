"""``timeWindow`` and the history of a route: what may be asked, and what is answered."""

from __future__ import annotations

import time

import pytest

from hotswap_proxy.admin.shapes.history import ArmsWindow, RouteHistory
from hotswap_proxy.admin.shapes.objects import RouteStatistics
from hotswap_proxy.history.encoding import encode
from hotswap_proxy.observe import histogram
from hotswap_proxy.store import rollups
from hotswap_proxy.store.rollups import ALL, Row
from hotswap_proxy.store.times import of_seconds
from tests.gateway import ROUTES, Gateway, problem

pytestmark = pytest.mark.anyio

GATEWAY = "/api/v1/gateway"
WINDOWED = ("metrics", "routes/rt-1", "routes/rt-1/history")


async def minutes_of(gateway: Gateway, *back: int) -> int:
    """Another node has told of these minutes ago: 100 requests at 10 ms, 10 of the canary, which failed."""
    now = int(time.time() // 60)
    counts = [0] * histogram.SIZE
    counts[next(index for index, upper in enumerate(histogram.UPPER) if upper > 10_000)] = 100
    for minute in back:
        rows = [Row("rt-1", "stable", 100, 0, encode(counts)), Row("rt-1", "canary", 10, 10, b"")]
        await gateway.store.beat(
            rollups.write, now - minute, "other", 7, [*rows, Row(ALL, "", 110, 10, encode(counts))]
        )
    return now


@pytest.mark.parametrize("path", WINDOWED)
@pytest.mark.parametrize("window", ["0m", "25h", "90s", "5", "1.5m", "PT25H", "", "1d"])
async def test_windows_that_are_none(gateway: Gateway, path: str, window: str) -> None:
    await gateway.add_route(routeId="rt-1")
    answer = await gateway.client.get(f"{GATEWAY}/{path}", params={"timeWindow": window})
    assert problem(answer) == (400, "VALIDATION_ERROR", [("timeWindow", "time_window")])


async def test_a_step_that_does_not_fit(gateway: Gateway) -> None:
    await gateway.add_route(routeId="rt-1")
    url = f"{ROUTES}/rt-1/history"
    answer = await gateway.client.get(url, params={"timeWindow": "5m", "step": "15m"})
    assert problem(answer)[:2] == (400, "VALIDATION_ERROR")
    assert (await gateway.client.get(f"{ROUTES}/nobody/history")).status_code == 404
    assert (await gateway.client.get(f"{ROUTES}/nobody?timeWindow=5m")).status_code == 404


async def test_what_is_answered(gateway: Gateway) -> None:
    await gateway.add_route(routeId="rt-1")
    now = await minutes_of(gateway, 1, 3, 90)
    route = (await gateway.client.get(f"{ROUTES}/rt-1?timeWindow=PT5M")).json()["statistics"]
    assert (route["totalRequests"], route["failedRequests"], route["errorRate"]) == (220, 20, 0.090909)
    assert route["p99LatencyMs"] == route["p50LatencyMs"] == pytest.approx(10, rel=0.07)
    assert route["requestsPerSecond"] == round(220 / 300, 2)
    assert route["window"]["timeWindow"] == "PT5M"
    assert route["window"]["from"] == of_seconds((now - 5) * 60)
    assert route["arms"]["canary"] == {
        "requests": 20,
        "failed": 20,
        "errorRate": 1.0,
        "p50": None,
        "p95": None,
        "p99": None,
    }
    whole = (await gateway.client.get(f"{GATEWAY}/metrics?timeWindow=24h")).json()
    assert (whole["totalRequests"], whole["failedRequests"]) == (330, 30)
    assert whole["window"]["from"] == of_seconds((now - 90) * 60), "nothing is known from before then"

    history = (await gateway.client.get(f"{ROUTES}/rt-1/history?timeWindow=5m")).json()
    assert (history["routeId"], history["step"], len(history["points"])) == ("rt-1", "1m", 6)
    RouteHistory.model_validate(history)
    RouteStatistics.model_validate(route)
    assert [point["requests"] for point in history["points"]] == [0, 0, 110, 0, 110, 0]
    assert history["points"][0] == {
        "minute": of_seconds((now - 5) * 60),
        "requests": 0,
        "failed": 0,
        "errorRate": None,
        "p50": None,
        "p95": None,
        "p99": None,
        "arms": {},
    }
    assert history["points"][2]["arms"]["stable"]["requests"] == 100
    as_before = (await gateway.client.get(f"{ROUTES}/rt-1")).json()["statistics"]
    assert set(as_before) == {"totalRequests", "failedRequests", "averageLatencyMs", "p99LatencyMs"}


async def test_the_window_of_a_deployment(gateway: Gateway) -> None:
    await gateway.add_route(routeId="rt-1")
    await minutes_of(gateway, 1, 3)
    url = "http://127.0.0.1:9002"
    version = {"version": "2.0", "backends": [{"name": "users-1", "url": url}]}
    await gateway.client.post(f"{ROUTES}/rt-1/versions", json=version)
    order = {"routeId": "rt-1", "configVersion": "2.0", "strategy": "Canary"}
    made = (await gateway.client.post(f"{GATEWAY}/deployments", json=order)).json()
    path = f"{GATEWAY}/deployments/{made['deploymentId']}/metrics"
    assert "window" not in (await gateway.client.get(path)).json()
    window = (await gateway.client.get(f"{path}?timeWindow=1h")).json()["window"]
    assert (window["stable"]["requests"], window["canary"]["requests"]) == (0, 0), "from before it began"
    ArmsWindow.model_validate(window)
    assert problem(await gateway.client.get(f"{path}?timeWindow=1s"))[0] == 400
