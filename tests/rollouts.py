"""Deployments of the in-process control plane (``gateway``): what their tests have in common."""

from __future__ import annotations

from typing import Any

from tests.gateway import PASSWORD, ROUTES, Gateway, login

DEPLOYMENTS = "/api/v1/gateway/deployments"
OTHER = [{"name": "users-2", "url": "http://127.0.0.1:9002"}]


async def staged(gateway: Gateway, **fields: Any) -> str:
    """Id of a route with version 1.0 live and 1.1 staged."""
    route_id = str((await gateway.add_route(**fields))["routeId"])
    answer = await gateway.client.post(f"{ROUTES}/{route_id}/versions", json={"backends": OTHER})
    assert answer.status_code == 201, answer.text
    return route_id


async def begin(gateway: Gateway, route_id: str, headers: Any = None, **fields: Any) -> dict[str, Any]:
    body = {"routeId": route_id, "configVersion": "1.1", "strategy": "Canary"} | fields
    answer = await gateway.client.post(DEPLOYMENTS, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def order(
    gateway: Gateway, deployment: dict[str, Any], name: str, body: Any = None, **more: Any
) -> Any:
    url = f"{DEPLOYMENTS}/{deployment['deploymentId']}/{name}"
    return await gateway.client.post(url, json=body, **more)


async def second_admin(gateway: Gateway) -> dict[str, str]:
    user = {"username": "second", "password": PASSWORD, "role": "Admin"}
    assert (await gateway.client.post("/api/v1/users", json=user)).status_code == 201
    return await login(gateway.client, "second")
