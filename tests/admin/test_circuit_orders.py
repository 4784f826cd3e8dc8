"""Orders about circuit breakers through the API."""

from __future__ import annotations

import pytest

from tests.gateway import BACKENDS, CLOSED, Gateway

pytestmark = pytest.mark.anyio


async def test_a_registered_backend_and_a_routes_own(gateway: Gateway) -> None:
    made = await gateway.add_backend(url="http://127.0.0.1:9001")
    own = {"name": "own", "url": "http://127.0.0.1:9002"}
    route = {"name": "r", "path": "/r", "backends": [own]}
    found = (await gateway.client.post("/api/v1/gateway/routes", json=route)).json()
    for id, address in ((made["backendId"], "9001"), (found["backends"][0]["backendId"], "9002")):
        answer = await gateway.client.put(f"{BACKENDS}/{id}/circuit-breaker", json={"state": "Open"})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told["backendId"] == id
        assert told["circuitBreaker"] == {"state": "Open", "mode": "Open"}
        assert gateway.node.orders.pop() == (f"http://127.0.0.1:{address}", "Open")
        rows = (await gateway.client.get("/api/v1/audit-logs", params={"entityId": id})).json()
        entries = next(value for value in rows.values() if isinstance(value, list))
        assert entries[0]["action"] == "backend.circuit-breaker"
        assert entries[0]["details"] == {"state": "Open"}


async def test_mistakes(gateway: Gateway) -> None:
    made = await gateway.add_backend(url="http://127.0.0.1:9001")
    url = f"{BACKENDS}/{made['backendId']}/circuit-breaker"
    for body in ({"state": "Ajar"}, {}, {"state": "Open", "more": 1}):
        assert (await gateway.client.put(url, json=body)).status_code == 400
    answer = await gateway.client.put(f"{BACKENDS}/nobody/circuit-breaker", json={"state": "Open"})
    assert answer.status_code == 404
    assert gateway.node.orders == []


async def test_the_state_is_shown_and_may_be_sent_back(gateway: Gateway) -> None:
    made = await gateway.add_backend(url="http://127.0.0.1:9001")
    url = f"{BACKENDS}/{made['backendId']}"
    got = (await gateway.client.get(url)).json()
    assert (got["circuitBreaker"], got["ejectedUntil"]) == (CLOSED, None)
    health = (await gateway.client.get(f"{url}/health")).json()
    assert (health["circuitBreaker"], health["ejectedUntil"]) == (CLOSED, None)
    assert (await gateway.client.put(url, json=got)).status_code == 200
