"""In Production a change takes two people, whichever way it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hotswap_proxy.fleet.nodes import Beat, beat
from hotswap_proxy.store import versions
from tests.gateway import ROUTES, Gateway, problem, running
from tests.rollouts import DEPLOYMENTS, OTHER, begin, order, second_admin, staged

pytestmark = pytest.mark.anyio


@pytest.fixture
async def production(tmp_path: Path, database_url: str | None) -> AsyncIterator[Gateway]:
    settings = {"environment": "Production", "allowed_backend_hosts": ("127.0.0.1",)}
    async with running(tmp_path, database_url=database_url, **settings) as gateway:
        yield gateway


async def test_in_production_an_update_waits_for_another_administrator(production: Gateway) -> None:
    route_id = (await production.add_route())["routeId"]
    answer = await production.client.put(f"{ROUTES}/{route_id}", json={"backends": OTHER})
    told = answer.json()
    assert answer.status_code == 200 and told["configChangeApplied"] is False
    assert told["version"] == "1.1" and told["backends"][0]["name"] == "users-2"
    assert production.match("/users/1") == "1.0" and production.pick(route_id) == "users-1"
    found = (await production.client.get(f"{DEPLOYMENTS}/{told['deploymentId']}")).json()
    assert (found["status"], found["approvalStatus"]) == ("Pending", "Pending")
    assert (found["strategy"], found["configVersion"]) == ("Direct", "1.1")
    assert problem(await order(production, found, "approve"))[:2] == (403, "FORBIDDEN")
    second = await second_admin(production)
    approved = (await order(production, found, "approve", headers=second)).json()
    assert (approved["status"], approved["approvalStatus"]) == ("Approved", "Approved")
    assert approved["approvedBy"]["username"] == "second"


async def test_a_second_update_names_the_one_that_waits(production: Gateway) -> None:
    route_id = (await production.add_route())["routeId"]
    first = (await production.client.put(f"{ROUTES}/{route_id}", json={"priority": 1})).json()
    again = await production.client.put(f"{ROUTES}/{route_id}", json={"priority": 2})
    assert problem(again)[0] == 409 and first["deploymentId"] in again.text
    found = await production.store.read(versions.page, route_id, 10, 0)
    assert [each["version"] for each in found[0]] == ["1.1", "1.0"], "nothing more was staged"
    own = await order(production, first, "reject")
    assert problem(own)[:2] == (403, "FORBIDDEN") and "withdraw" in own.text
    headers = await second_admin(production)
    rejected = await order(production, first, "reject", {"reason": "too late today"}, headers=headers)
    assert rejected.json()["approvalStatus"] == "Rejected" and "too late today" in rejected.text
    third = await production.client.put(f"{ROUTES}/{route_id}", json={"priority": 2})
    assert third.json()["version"] == "1.2"


async def test_a_dry_run_in_production_answers_the_difference(production: Gateway) -> None:
    route_id = (await production.add_route())["routeId"]
    answer = await production.client.put(f"{ROUTES}/{route_id}?dryRun=true", json={"priority": 1})
    assert answer.json()["needsApproval"] == ["users"] and answer.json()["changed"] == 1
    assert (await production.client.get(DEPLOYMENTS)).json()["total"] == 0
    same = await production.client.put(f"{ROUTES}/{route_id}", json={"priority": 0})
    assert same.json()["configChangeApplied"] is True and same.json()["version"] == "1.0"


async def test_what_a_route_belongs_to_decides(gateway: Gateway, production: Gateway) -> None:
    elsewhere = (await gateway.add_route(environment="Production"))["routeId"]
    told = (await gateway.client.put(f"{ROUTES}/{elsewhere}", json={"environment": "QA"})).json()
    assert told["configChangeApplied"] is False, "out of Production is a change of Production"
    other = (await production.add_route(name="qa", environment="QA"))["routeId"]
    told = (await production.client.put(f"{ROUTES}/{other}", json={"priority": 1})).json()
    assert told["configChangeApplied"] is True


async def test_an_api_key_is_its_owner(production: Gateway) -> None:
    made = await begin(production, await staged(production))
    key = {"name": "ci", "role": "Admin"}
    answer = await production.client.post("/api/v1/authentication/api-keys", json=key)
    assert answer.status_code == 201, answer.text
    headers = {"authorization": f"Bearer {answer.json()['key']}"}
    for name in ("approve", "reject"):
        assert problem(await order(production, made, name, {}, headers=headers))[:2] == (403, "FORBIDDEN")
    second = await second_admin(production)
    assert (await order(production, made, "approve", headers=second)).status_code == 200


@pytest.mark.parametrize("strategy", ["Canary", "BlueGreen", "Direct", "ABTest"])
async def test_no_strategy_starts_in_production_by_its_author_alone(
    production: Gateway, strategy: str
) -> None:
    made = await begin(production, await staged(production), strategy=strategy)
    assert (made["status"], made["approvalStatus"]) == ("Pending", "Pending")
    assert problem(await order(production, made, "approve"))[:2] == (403, "FORBIDDEN")
    for name, body in (("promote", {}), ("resume", None), ("pause", None)):
        assert problem(await order(production, made, name, body))[0] == 409
    assert production.match("/users/1") == "1.0"


async def test_an_environment_that_is_given_cannot_evade_approval(production: Gateway) -> None:
    route_id = await staged(production)
    body = {"routeId": route_id, "configVersion": "1.1", "strategy": "Direct", "environment": "QA"}
    answer = await production.client.post(DEPLOYMENTS, json=body)
    assert answer.is_error or answer.json()["status"] == "Pending"
    assert production.match("/users/1") == "1.0"


async def test_an_operator_begins_and_an_administrator_approves(production: Gateway) -> None:
    route_id = await staged(production)
    operator = await production.as_role("Operator")
    made = await begin(production, route_id, headers=operator)
    assert problem(await order(production, made, "approve", headers=operator))[0] == 403
    assert (await order(production, made, "approve")).json()["status"] == "Approved"


async def join(gateway: Gateway, environment: str) -> None:
    """Another node tells of itself in the same store."""
    other = Beat("other", "boot", environment, 0, {}, 1.0)
    await gateway.store.write(beat, other)


async def test_what_a_production_node_of_the_fleet_serves_is_production_at_every_node(
    gateway: Gateway,
) -> None:
    """A route without an environment is served by all nodes, whatever that of the node that is asked is."""
    route_id = await staged(gateway)
    await join(gateway, "Production")
    file = {"routes": [{"name": "users", "path": "/users/**", "priority": 9, "backends": OTHER}]}
    refused = await gateway.client.post("/api/v1/gateway/config/apply", json=file)
    assert problem(refused)[0] == 409 and "approves" in refused.text
    empty = await gateway.client.post("/api/v1/gateway/config/apply?prune=true", json={"routes": []})
    assert problem(empty)[0] == 409
    made = await begin(gateway, route_id, strategy="Direct")
    assert (made["status"], made["approvalStatus"]) == ("Pending", "Pending")
    assert (await order(gateway, made, "rollback", {"reason": "test"})).status_code == 200
    told = (await gateway.client.put(f"{ROUTES}/{route_id}", json={"priority": 1})).json()
    assert told["configChangeApplied"] is False and gateway.match("/users/1") == "1.0"
    own = (await gateway.add_route(name="qa", pathPattern="/qa", environment="QA"))["routeId"]
    told = (await gateway.client.put(f"{ROUTES}/{own}", json={"priority": 1})).json()
    assert told["configChangeApplied"] is True, "what is served elsewhere only is not Production"


async def test_nodes_of_other_environments_make_nothing_production(gateway: Gateway) -> None:
    route_id = (await gateway.add_route())["routeId"]
    await join(gateway, "Staging")
    told = (await gateway.client.put(f"{ROUTES}/{route_id}", json={"priority": 1})).json()
    assert told["configChangeApplied"] is True


async def test_a_dry_run_of_a_removal_does_not_ask_for_an_approval_that_it_does_not_need(
    production: Gateway,
) -> None:
    route_id = (await production.add_route())["routeId"]
    told = (await production.client.delete(f"{ROUTES}/{route_id}?dryRun=true")).json()
    assert told["removed"] == 1 and "needsApproval" not in told
