"""Registered backends through the API."""

from __future__ import annotations

import pytest

from hotswap_proxy.errors import Conflict
from hotswap_proxy.store import Author, StoreChanges
from tests.gateway import BACKENDS, ROUTE, ROUTES, Gateway, problem

pytestmark = pytest.mark.anyio


async def test_a_route_may_refer_by_name_or_id(gateway: Gateway) -> None:
    made = await gateway.add_backend()
    for index, reference in enumerate(["b1", {"name": "b1"}, {"backendId": made["backendId"], "weight": 5}]):
        route = await gateway.add_route(name=f"r{index}", pathPattern=f"/r{index}", backends=[reference])
        assert route["backends"][0]["backendId"] == made["backendId"]
        assert gateway.pick(route["routeId"]) == "b1"


async def test_an_unknown_reference_is_named(gateway: Gateway) -> None:
    answer = await gateway.client.post(ROUTES, json=ROUTE | {"backends": ["nix"]})
    assert problem(answer) == (400, "VALIDATION_ERROR", [("backends[0].name", "exists")])
    await gateway.add_backend(backendId="be-1")
    answer = await gateway.client.post(ROUTES, json=ROUTE | {"backends": ["b1", {"backendId": "be-1"}]})
    assert problem(answer)[2] == [("backends[1]", "unique")]
    inline = {"backendId": "be-1", "url": "http://127.0.0.1:1"}
    answer = await gateway.client.post(ROUTES, json=ROUTE | {"backends": [inline]})
    assert problem(answer)[2] == [("backends[0].backendId", "unique")]


async def test_disabling_takes_it_out_of_rotation_at_once(gateway: Gateway) -> None:
    made = await gateway.add_backend()
    route = await gateway.add_route(backends=["b1"])
    url = f"{BACKENDS}/{made['backendId']}"
    assert (await gateway.client.put(url, json={"isEnabled": False})).json()["isEnabled"] is False
    assert gateway.pick(route["routeId"]) is None
    await gateway.client.put(url, json={"isEnabled": True})
    assert gateway.pick(route["routeId"]) == "b1"


async def test_groups_of_settings_are_merged(gateway: Gateway) -> None:
    made = await gateway.add_backend(timeouts={"readTimeout": "PT5M"}, connectionPool={"maxSize": 20})
    url = f"{BACKENDS}/{made['backendId']}"
    changed = (await gateway.client.put(url, json={"timeouts": {"connectTimeout": "250ms"}})).json()
    assert changed["timeouts"] == {"connectTimeout": "250ms", "readTimeout": "PT5M", "writeTimeout": "30s"}
    assert changed["connectionPool"]["maxSize"] == 20


async def test_one_in_use_cannot_be_deleted(gateway: Gateway) -> None:
    made = await gateway.add_backend()
    route = await gateway.add_route(backends=["b1"])
    url = f"{BACKENDS}/{made['backendId']}"
    answer = await gateway.client.delete(url)
    assert problem(answer) == (409, "CONFLICT", [("backendId", "in_use")])
    assert "users" in answer.json()["error"]["message"]
    await gateway.client.delete(f"{ROUTES}/{route['routeId']}")
    assert (await gateway.client.delete(url)).status_code == 204
    assert problem(await gateway.client.get(url))[0] == 404


async def test_the_database_is_the_last_guard_of_one_in_use(gateway: Gateway) -> None:
    made = await gateway.add_backend()
    await gateway.add_route(backends=["b1"])
    unchecked = StoreChanges(
        removed_backends=[made["backendId"]]
    )  # as of a process that did not see the route
    with pytest.raises(Conflict):
        await gateway.store.commit(unchecked, Author("other"))
    assert (await gateway.client.get(f"{BACKENDS}/{made['backendId']}")).json()["name"] == "b1"


async def test_a_name_that_header_rules_use_cannot_be_changed(gateway: Gateway) -> None:
    made = await gateway.add_backend()
    rules = {"headerName": "X-Tier", "routingRules": {"gold": "b1"}, "defaultBackend": "b1"}
    route = await gateway.add_route(backends=["b1"], strategy="HeaderBased", strategyConfig=rules)
    url = f"{BACKENDS}/{made['backendId']}"
    assert problem(await gateway.client.put(url, json={"name": "b2"})) == (
        409,
        "CONFLICT",
        [("name", "in_use")],
    )
    await gateway.client.put(f"{ROUTES}/{route['routeId']}", json={"strategy": "RoundRobin"})
    assert (await gateway.client.put(url, json={"name": "b2"})).json()["name"] == "b2"


async def test_health_and_statistics_come_from_the_node(gateway: Gateway) -> None:
    made = await gateway.add_backend()
    url = f"{BACKENDS}/{made['backendId']}"
    got = (await gateway.client.get(url)).json()
    assert got["healthStatus"] == "Unknown" and got["statistics"]["activeConnections"] == 2
    health = (await gateway.client.get(f"{url}/health")).json()
    assert health["url"] == "http://127.0.0.1:9001" and health["totalRequests"] == 3
    listed = (await gateway.client.get(f"{BACKENDS}?isEnabled=true")).json()
    assert listed["total"] == 1 and listed["backends"][0]["healthStatus"] == "Unknown"
    assert (await gateway.client.get(f"{BACKENDS}?isEnabled=false")).json()["backends"] == []
    assert problem(await gateway.client.get(f"{BACKENDS}/nix/health"))[0] == 404


async def test_what_was_got_can_be_put_back(gateway: Gateway) -> None:
    url = f"{BACKENDS}/{(await gateway.add_backend())['backendId']}"
    got = await gateway.client.get(url)
    again = await gateway.client.put(url, json=got.json(), headers={"if-match": got.headers["etag"]})
    assert again.status_code == 200 and again.headers["etag"] == got.headers["etag"]
    for tags in ('"old"', f"W/{got.headers['etag']}", '"a" ,"b"'):  # a weak one never matches
        stale = await gateway.client.put(url, json={"weight": 1}, headers={"if-match": tags})
        assert problem(stale)[0] == 412


async def test_dry_runs_and_double_names(gateway: Gateway) -> None:
    body = {"name": "b1", "url": "http://127.0.0.1:9001"}
    dry = await gateway.client.post(f"{BACKENDS}?dryRun=true", json=body)
    assert dry.status_code == 200 and dry.json()["added"] == 1
    made = await gateway.add_backend()
    assert problem(await gateway.client.post(BACKENDS, json=body))[2] == [("name", "unique")]
    same_id = body | {"name": "b2", "backendId": made["backendId"]}
    assert problem(await gateway.client.post(BACKENDS, json=same_id))[2] == [("backendId", "unique")]
    url = f"{BACKENDS}/{made['backendId']}"
    dry = await gateway.client.put(f"{url}?dryRun=true", json={"weight": 0})
    assert dry.json()["changes"][0]["fields"] == [{"path": "weight", "old": 100, "new": 0}]
    assert (await gateway.client.delete(f"{url}?dryRun=true")).json()["removed"] == 1
    assert (await gateway.client.get(url)).json()["weight"] == 100


async def test_the_admin_api_is_no_backend(gateway: Gateway) -> None:
    admin = f"http://{gateway.context.settings.admin}"
    answer = await gateway.client.post(BACKENDS, json={"name": "self", "url": admin})
    assert problem(answer)[::2] == (400, [("url", "url_admin")])


@pytest.mark.parametrize("tags", ["", "J", '"a" "b"', '"a",', '*, "a"', "'a'"])
async def test_an_if_match_that_is_none_is_a_mistake_and_no_permission(gateway: Gateway, tags: str) -> None:
    made = await gateway.add_backend()
    url = f"{BACKENDS}/{made['backendId']}"
    for method in ("PUT", "DELETE"):
        body = {"weight": 5} if method == "PUT" else None
        answer = await gateway.client.request(method, url, json=body, headers={"if-match": tags})
        assert problem(answer)[:2] == (400, "VALIDATION_ERROR")
    assert (await gateway.client.get(url)).json()["weight"] == 100


async def test_a_list_looks_at_the_statistics_once(gateway: Gateway) -> None:
    for number in range(3):
        await gateway.add_backend(name=f"b{number}")
    gateway.node.looks = 0
    found = (await gateway.client.get(BACKENDS)).json()["backends"]
    assert [backend["statistics"]["totalRequests"] for backend in found] == [3, 3, 3]
    assert gateway.node.looks == 1
