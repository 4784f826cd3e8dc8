"""Versions of a route: staged, listed, compared; and what may not be changed at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from hotswap_proxy.control.changeset import route_write
from hotswap_proxy.errors import Conflict, NotFound
from hotswap_proxy.store import Author, StoreChanges, changes, versions
from hotswap_proxy.store.tables import deployments
from tests.gateway import ROUTE, ROUTES, Gateway, problem, running

pytestmark = pytest.mark.anyio
OTHER = [{"name": "users-2", "url": "http://127.0.0.1:9002"}]
SECRET = "a secret of thirty-two bytes or so"


async def stage(gateway: Gateway, route_id: str, query: str = "", **fields: Any) -> dict[str, Any]:
    answer = await gateway.client.post(f"{ROUTES}/{route_id}/versions{query}", json=fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def states(gateway: Gateway, route_id: str) -> dict[str, str]:
    found = (await gateway.client.get(f"{ROUTES}/{route_id}/versions")).json()["versions"]
    return {each["version"]: each["state"] for each in found}


def begin(connection: Connection, route_id: str, version: str) -> None:
    """An active deployment, as far as other writers look at it."""
    document = f'{{"routeName": "users", "status": "InProgress", "configVersion": "{version}"}}'
    row = {"deployment_id": "dep-1", "target_kind": "route", "target_id": route_id}
    row |= {"target": f"route:{route_id}", "status": "InProgress", "record_version": 1}
    row |= {"document": document, "created_at": "2026", "updated_at": "2026"}
    connection.execute(insert(deployments).values(row))


async def test_a_staged_version_is_kept_and_not_served(gateway: Gateway) -> None:
    route_id = (await gateway.add_route())["routeId"]
    before = gateway.configuration.generation
    made = await stage(gateway, route_id, "?description=for%20friday", backends=OTHER, timeoutSeconds=9)
    assert (made["version"], made["state"], made["liveAt"]) == ("1.1", "Staged", None)
    assert (made["description"], made["createdBy"]) == ("for friday", "admin")
    assert made["route"]["timeoutSeconds"] == 9 and made["route"]["pathPattern"] == "/users/**"
    assert gateway.match("/users/1") == "1.0" and gateway.pick(route_id) == "users-1"
    assert gateway.configuration.generation == before
    live = (await gateway.client.get(f"{ROUTES}/{route_id}")).json()
    assert live["version"] == "1.0" and live["timeoutSeconds"] == 30
    assert await states(gateway, route_id) == {"1.1": "Staged", "1.0": "Live"}
    audit = (await gateway.client.get("/api/v1/audit-logs")).json()["auditLogs"][0]
    assert audit["action"] == "route.stage" and audit["details"]["version"] == "1.1"


async def test_a_change_counts_on_from_what_is_staged(gateway: Gateway) -> None:
    route_id = (await gateway.add_route())["routeId"]
    await stage(gateway, route_id, timeoutSeconds=9)
    put = (await gateway.client.put(f"{ROUTES}/{route_id}", json={"priority": 1})).json()
    assert put["version"] == "1.2" and put["timeoutSeconds"] == 30, "what is staged is not in it"
    assert await states(gateway, route_id) == {"1.2": "Live", "1.1": "Staged", "1.0": "Previous"}


async def test_a_version_can_be_made_from_an_earlier_one(gateway: Gateway) -> None:
    route_id = (await gateway.add_route(timeoutSeconds=7))["routeId"]
    await gateway.client.put(f"{ROUTES}/{route_id}", json={"timeoutSeconds": 8, "priority": 2})
    made = await stage(gateway, route_id, "?base=1.0", methods=["GET"])
    assert made["version"] == "1.2"
    assert made["route"]["timeoutSeconds"] == 7 and made["route"]["priority"] == 0
    missing = await gateway.client.post(f"{ROUTES}/{route_id}/versions?base=9", json={})
    assert problem(missing)[:2] == (404, "NOT_FOUND")


async def test_a_version_has_a_name_of_its_own(gateway: Gateway) -> None:
    url = f"{ROUTES}/{(await gateway.add_route())['routeId']}/versions"
    assert (await gateway.client.post(url, json={"version": "blue", "priority": 1})).status_code == 201
    again = await gateway.client.post(url, json={"version": "blue", "priority": 2})
    assert problem(again) == (409, "CONFLICT", [("version", "unique")])
    same = await gateway.client.post(url, json={"priority": 0})
    assert problem(same)[0] == 409 and "same as the live version" in same.text


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"timeoutSeconds": 0}, 400, "timeoutSeconds"),
        ({"nonsense": 1}, 400, "nonsense"),
        ({"backends": [{"name": "not-there"}]}, 400, "backends[0].name"),
        ({"backends": [{"url": "http://nowhere.internal:80"}]}, 400, "backends[0].url"),
        ({"pathPattern": "/other"}, 409, "pathPattern"),
        ({"name": "other"}, 409, "name"),
        ({"routeId": "another"}, 400, "routeId"),
    ],
)
async def test_a_version_is_checked_like_an_update(
    gateway: Gateway, body: dict[str, Any], status: int, field: str
) -> None:
    await gateway.add_route(name="other", pathPattern="/other")
    route_id = (await gateway.add_route())["routeId"]
    for query in ("", "?dryRun=true"):
        staged = problem(await gateway.client.post(f"{ROUTES}/{route_id}/versions{query}", json=body))
        put = problem(await gateway.client.put(f"{ROUTES}/{route_id}{query}", json=body))
        assert staged == put and staged[0] == status and staged[2][0][0] == field
    assert await states(gateway, route_id) == {"1.0": "Live"}


async def test_a_dry_run_stages_nothing(gateway: Gateway) -> None:
    route_id = (await gateway.add_route())["routeId"]
    url = f"{ROUTES}/{route_id}/versions?dryRun=true"
    told = (await gateway.client.post(url, json={"priority": 9})).json()
    assert told["dryRun"] is True
    assert told["changes"][0]["fields"] == [{"path": "priority", "old": 0, "new": 9}]
    assert await states(gateway, route_id) == {"1.0": "Live"}


async def test_any_two_versions_can_be_compared(gateway: Gateway) -> None:
    route_id = (await gateway.add_route())["routeId"]
    url = f"{ROUTES}/{route_id}/versions"
    await gateway.client.put(f"{ROUTES}/{route_id}", json={"priority": 2})
    await stage(gateway, route_id, backends=OTHER)
    told = (await gateway.client.get(f"{url}/1.0/diff/1.1")).json()
    assert told["changes"] == [{"path": "priority", "old": 0, "new": 2}]
    assert (told["from"], told["to"], told["identical"]) == ("1.0", "1.1", False)
    told = (await gateway.client.get(f"{url}/1.2/diff/live")).json()
    assert (told["from"], told["to"]) == ("1.2", "1.1")
    assert {change["path"] for change in told["changes"]} == {
        "backends[0].backendId",
        "backends[0].name",
        "backends[0].url",
    }
    assert (await gateway.client.get(f"{url}/live/diff/1.1")).json()["identical"] is True
    assert problem(await gateway.client.get(f"{url}/1.0/diff/7"))[0] == 404
    assert (await gateway.client.get(f"{url}/live")).json()["version"] == "1.1"


async def test_secrets_of_versions_are_masked(gateway: Gateway) -> None:
    auth = {"type": "jwt", "algorithms": ["HS256"], "secret": SECRET}
    route_id = (await gateway.add_route(auth=auth))["routeId"]
    url = f"{ROUTES}/{route_id}/versions"
    other = SECRET[::-1]
    texts = [(await gateway.client.post(url, json={"auth": {"secret": other}})).text]
    masked = (await gateway.client.get(f"{url}/1.1")).json()["route"]["auth"]
    texts.append((await gateway.client.get(f"{url}/live/diff/1.1")).text)
    assert '"auth.secret"' in texts[-1]
    # A mask that is sent back stands for the secret of the version that is changed.
    answer = await gateway.client.post(f"{url}?base=1.1", json={"auth": masked, "priority": 3})
    assert answer.status_code == 201
    stored = await gateway.store.read(versions.get, route_id, "1.2")
    assert stored is not None and stored["route"]["auth"]["secret"] == other
    texts += [answer.text, (await gateway.client.get("/api/v1/audit-logs")).text]
    assert not any(secret in text for secret in (SECRET, other) for text in texts)


async def test_versions_of_a_removed_route_stay_but_none_is_added(gateway: Gateway) -> None:
    route_id = (await gateway.add_route())["routeId"]
    await gateway.client.delete(f"{ROUTES}/{route_id}")
    assert await states(gateway, route_id) == {"1.0": "Previous"}
    assert problem(await gateway.client.post(f"{ROUTES}/{route_id}/versions", json={}))[0] == 404
    assert problem(await gateway.client.get(f"{ROUTES}/{route_id}/versions/live"))[0] == 404


async def test_versions_staged_at_once_are_all_kept(gateway: Gateway) -> None:
    route_id = (await gateway.add_route())["routeId"]
    made = await asyncio.gather(*(stage(gateway, route_id, priority=1 + number) for number in range(5)))
    assert sorted(each["version"] for each in made) == ["1.1", "1.2", "1.3", "1.4", "1.5"]


async def test_an_existing_version_becomes_live_without_a_new_one(gateway: Gateway) -> None:
    route_id = (await gateway.add_route(timeoutSeconds=7))["routeId"]
    await gateway.client.put(f"{ROUTES}/{route_id}", json={"timeoutSeconds": 8})
    old = await gateway.store.read(versions.get, route_id, "1.0")
    assert old is not None
    change = StoreChanges(routes=[route_write(old["route"], new_version=False)])
    await gateway.store.commit(change, Author("engine"))
    assert await states(gateway, route_id) == {"1.1": "Previous", "1.0": "Live"}
    await gateway.configuration.sync()
    assert gateway.match("/users/1") == "1.0"
    with pytest.raises(NotFound):
        unknown = old["route"] | {"version": "7"}
        await gateway.store.commit(
            StoreChanges(routes=[route_write(unknown, new_version=False)]), Author("engine")
        )


async def test_a_route_with_an_active_deployment_is_left_alone(gateway: Gateway) -> None:
    registered = await gateway.add_backend()
    route_id = (await gateway.add_route())["routeId"]
    await stage(gateway, route_id, backends=[{"name": "b1"}])
    await gateway.store.write(begin, route_id, "1.1")
    url = f"{ROUTES}/{route_id}"
    client = gateway.client
    file = {"routes": [ROUTE | {"timeoutSeconds": 5}]}
    for query in ("", "?dryRun=true"):
        for answer in (
            await client.put(url + query, json={"priority": 1}),
            await client.delete(url + query),
            await client.delete(f"/api/v1/gateway/backends/{registered['backendId']}{query}"),
            await client.post(f"/api/v1/gateway/config/apply{query}", json=file),
        ):
            status, code, details = problem(answer)
            assert (status, code, details[0][1]) == (409, "CONFLICT", "deploying"), answer.text
            assert "dep-1" in answer.text and "users" in answer.text
    assert gateway.match("/users/1") == "1.0"
    # What does not touch it goes on, and so does staging.
    await gateway.add_route(name="other", pathPattern="/other")
    await stage(gateway, route_id, priority=4)
    assert (await states(gateway, route_id))["1.1"] == "Deploying"


async def test_the_deployment_itself_may_change_its_route(gateway: Gateway) -> None:
    route_id = (await gateway.add_route())["routeId"]
    await stage(gateway, route_id, priority=4)
    await gateway.store.write(begin, route_id, "1.1")
    candidate = await gateway.store.read(versions.get, route_id, "1.1")
    assert candidate is not None
    rows = [route_write(candidate["route"], new_version=False)]
    with pytest.raises(Conflict, match="dep-1"):
        await gateway.store.write(changes.write, StoreChanges(routes=rows), Author("engine"))
    change = StoreChanges(routes=rows, by_deployment="dep-1")
    await gateway.store.write(changes.write, change, Author("engine"))
    assert (await states(gateway, route_id))["1.1"] == "Live"


async def test_a_file_by_the_api_changes_no_route_in_production(tmp_path: Path) -> None:
    async with running(tmp_path, environment="Production", allowed_backend_hosts=("127.0.0.1",)) as gateway:
        await gateway.add_route()
        apply = "/api/v1/gateway/config/apply"
        changed = {"routes": [ROUTE | {"timeoutSeconds": 5}]}
        answer = await gateway.client.post(apply, json=changed)
        assert problem(answer) == (409, "CONFLICT", [("routes.users", "approval")])
        answer = await gateway.client.post(f"{apply}?prune=true", json={"routes": []})
        assert problem(answer) == (409, "CONFLICT", [("routes.users", "approval")])
        dry = (await gateway.client.post(f"{apply}?dryRun=true", json=changed)).json()
        assert dry["changed"] == 1 and dry["needsApproval"] == ["users"]
        added = {"routes": [ROUTE, ROUTE | {"name": "more", "pathPattern": "/more"}]}
        assert (await gateway.client.post(apply, json=added)).json()["added"] == 1
        other = {"routes": [ROUTE | {"name": "qa", "pathPattern": "/qa", "environment": "QA"}]}
        await gateway.client.post(apply, json=other)
        other["routes"][0]["timeoutSeconds"] = 5
        assert (await gateway.client.post(apply, json=other)).json()["changed"] == 1
        assert gateway.match("/users/1") == "1.0"
        file = tmp_path / "gateway.json"
        file.write_text(json.dumps(changed))
        await gateway.configuration.apply(file, prune=False, author="file")
        assert gateway.match("/users/1") == "1.1"
