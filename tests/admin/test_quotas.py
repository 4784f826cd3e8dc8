"""How often one user may call the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hotswap_proxy.admin.handlers import ENDPOINTS
from hotswap_proxy.admin.quotas import Quotas, kind_of
from hotswap_proxy.errors import RateLimited
from hotswap_proxy.settings import Settings
from tests.gateway import ROUTE, ROUTES, problem, running

pytestmark = pytest.mark.anyio
G = "/api/v1/gateway/"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def counted(quotas: Quotas, method: str, path: str, user: str = "u1") -> int:
    """How many calls pass, up to 100."""
    for number in range(100):
        try:
            quotas.count(user, method, path)
        except RateLimited:
            return number
    return 100


def test_the_limits_of_production_and_of_elsewhere() -> None:
    calls = (("GET", f"{G}routes"), ("PUT", f"{G}routes/{{id}}"), ("POST", f"{G}deployments"))
    production = Quotas(Settings(environment="Production"))
    assert [counted(production, *call) for call in calls] == [60, 10, 5]
    assert [counted(Quotas(Settings()), *call) for call in calls] == [100, 100, 100]
    given: dict[str, Any] = {"api_limit_reads": 0, "api_limit_route_writes": 3}
    assert [counted(Quotas(Settings(environment="Production", **given)), *call) for call in calls] == [
        100,
        3,
        5,
    ]
    assert [counted(Quotas(Settings(**given)), *call) for call in calls] == [100, 3, 100]


def test_each_user_is_counted_alone_and_a_minute_later_anew() -> None:
    clock = Clock()
    quotas = Quotas(Settings(api_limit_deployments=2), clock)
    call = ("POST", f"{G}deployments")
    assert [counted(quotas, *call, user) for user in ("u1", "u1", "u2")] == [2, 0, 2]
    clock.now += 20
    with pytest.raises(RateLimited) as caught:
        quotas.count("u1", *call)
    assert caught.value.headers == {"retry-after": "40"} and "2 new deployments" in caught.value.message
    clock.now += 40.1
    assert counted(quotas, *call) == 2


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "users", "reads"),
        ("POST", "gateway/config/validate", "reads"),
        ("POST", "gateway/deployments/simulate", "reads"),
        ("POST", "gateway/routes", "route_writes"),
        ("POST", "gateway/routes/{id}/versions", "route_writes"),
        ("DELETE", "gateway/backends/{id}", "route_writes"),
        ("POST", "gateway/config/apply", "route_writes"),
        ("POST", "gateway/deployments", "deployments"),
        ("POST", "gateway/deployments/{id}/rollback", None),
        ("PUT", "gateway/backends/{id}/circuit-breaker", None),
        ("POST", "users", None),
    ],
)
def test_what_a_call_counts_as(method: str, path: str, kind: str | None) -> None:
    assert kind_of(method, f"/api/v1/{path}") == kind


def test_every_read_and_every_write_of_routes_counts() -> None:
    for endpoint in ENDPOINTS:
        kind = kind_of(endpoint.method, endpoint.path)
        if endpoint.method == "GET":
            assert kind == "reads"
        elif endpoint.path.startswith((f"{G}routes", f"{G}config/apply")):
            assert kind == "route_writes", endpoint.path


async def test_a_user_over_the_limit_gets_429_by_token_and_by_key(tmp_path: Path) -> None:
    async with running(tmp_path, api_limit_reads=4, api_limit_route_writes=1) as gateway:
        made = await gateway.client.post("/api/v1/authentication/api-keys", json={"name": "ci"})
        key = {"authorization": f"Bearer {made.json()['key']}"}
        for headers in ({}, key, {}, key):
            assert (await gateway.client.get(ROUTES, headers=headers)).status_code == 200
        for headers in ({}, key):
            answer = await gateway.client.get(ROUTES, headers=headers)
            assert problem(answer)[:2] == (429, "RATE_LIMIT_EXCEEDED")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert (await gateway.client.post(ROUTES, json=ROUTE)).status_code == 201
        assert problem(await gateway.client.post(ROUTES, json=ROUTE))[0] == 429
        other = await gateway.as_role("Viewer")
        assert (await gateway.client.get(ROUTES, headers=other)).status_code == 200
        for path in ("/metrics", f"{G}health"):
            for _ in range(6):
                assert (await gateway.client.get(path)).status_code == 200
