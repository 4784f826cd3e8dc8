"""The life of a route through the API, as a worker sees it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway import ROUTE, ROUTES, Gateway, problem

pytestmark = pytest.mark.anyio


async def test_a_created_route_is_served_at_once(gateway: Gateway) -> None:
    assert gateway.match("/users/1") is None
    answer = await gateway.client.post(ROUTES, json=ROUTE)
    assert answer.status_code == 201
    route = answer.json()
    assert route["configChangeApplied"] is True
    assert route["version"] == "1.0" and route["strategy"] == "RoundRobin" and route["methods"] == ["*"]
    assert gateway.match("/users/1") == "1.0"
    assert gateway.pick(route["routeId"]) == "users-1"


async def test_path_is_another_name_of_path_pattern(gateway: Gateway) -> None:
    body = {"name": "a", "path": "/a", "backends": ROUTE["backends"]}
    assert (await gateway.client.post(ROUTES, json=body)).json()["pathPattern"] == "/a"
    both = body | {"pathPattern": "/b"}
    assert problem(await gateway.client.post(ROUTES, json=both))[2] == [("", "path_pattern")]


async def test_get_includes_statistics_and_etag(gateway: Gateway) -> None:
    made = await gateway.add_route()
    answer = await gateway.client.get(f"{ROUTES}/{made['routeId']}")
    assert answer.json()["statistics"]["p99LatencyMs"] == 9.0
    assert answer.headers["etag"].startswith('"') and answer.headers["cache-control"] == "no-store"
    assert problem(await gateway.client.get(f"{ROUTES}/nix"))[:2] == (404, "NOT_FOUND")


async def test_put_changes_given_fields_and_keeps_the_others(gateway: Gateway) -> None:
    made = await gateway.add_route(timeoutSeconds=7, methods=["GET"])
    url = f"{ROUTES}/{made['routeId']}"
    changed = (await gateway.client.put(url, json={"priority": 3})).json()
    assert changed["version"] == "1.1" and changed["timeoutSeconds"] == 7 and changed["methods"] == ["GET"]
    assert gateway.match("/users/1") == "1.1"
    named = (await gateway.client.put(url, json={"priority": 4, "version": "blue"})).json()
    assert named["version"] == "blue"
    assert (await gateway.client.put(url, json={"priority": 5})).json()["version"] == "blue.1"


async def test_put_of_what_was_got_changes_nothing(gateway: Gateway) -> None:
    url = f"{ROUTES}/{(await gateway.add_route())['routeId']}"
    got = await gateway.client.get(url)
    before = gateway.configuration.generation
    again = await gateway.client.put(url, json=got.json())
    assert again.status_code == 200 and again.json()["version"] == "1.0"
    assert again.headers["etag"] == got.headers["etag"]
    assert gateway.configuration.generation == before


async def test_a_version_name_is_used_once(gateway: Gateway) -> None:
    url = f"{ROUTES}/{(await gateway.add_route())['routeId']}"
    await gateway.client.put(url, json={"priority": 1})
    answer = await gateway.client.put(url, json={"priority": 2, "version": "1.0"})
    assert problem(answer) == (409, "CONFLICT", [("version", "unique")])
    assert gateway.match("/users/1") == "1.1"


async def test_null_takes_an_optional_field_away(gateway: Gateway) -> None:
    url = f"{ROUTES}/{(await gateway.add_route(hosts=['a.example']))['routeId']}"
    assert gateway.match("/users/1", host="b.example") is None
    assert "hosts" not in (await gateway.client.put(url, json={"hosts": None})).json()
    assert gateway.match("/users/1", host="b.example") == "1.1"


async def test_leaving_header_based_drops_its_rules(gateway: Gateway) -> None:
    rules = {"headerName": "X-Tier", "routingRules": {"gold": "users-1"}, "defaultBackend": "users-1"}
    made = await gateway.add_route(strategy="HeaderBased", strategyConfig=rules)
    url = f"{ROUTES}/{made['routeId']}"
    assert (await gateway.client.put(url, json={"strategy": "Direct"})).json()["strategyConfig"] == {}


async def test_the_route_id_cannot_be_changed(gateway: Gateway) -> None:
    url = f"{ROUTES}/{(await gateway.add_route())['routeId']}"
    answer = await gateway.client.put(url, json={"routeId": "other"})
    assert problem(answer) == (400, "VALIDATION_ERROR", [("routeId", "immutable")])


async def test_if_match_prevents_lost_updates(gateway: Gateway) -> None:
    url = f"{ROUTES}/{(await gateway.add_route())['routeId']}"
    seen = (await gateway.client.get(url)).headers["etag"]
    mine = await gateway.client.put(url, json={"priority": 1}, headers={"if-match": seen})
    assert mine.status_code == 200 and mine.headers["etag"] != seen
    late = await gateway.client.put(url, json={"priority": 2}, headers={"if-match": seen})
    assert problem(late)[:2] == (412, "PRECONDITION_FAILED")
    assert problem(await gateway.client.delete(url, headers={"if-match": seen}))[0] == 412
    assert (await gateway.client.get(url)).json()["priority"] == 1
    several = f'"x", {mine.headers["etag"]}'
    assert (await gateway.client.put(url, json={"priority": 3}, headers={"if-match": several})).is_success
    assert (await gateway.client.delete(url, headers={"if-match": "*"})).status_code == 204


async def test_delete_takes_the_route_away_and_keeps_its_history(gateway: Gateway) -> None:
    made = await gateway.add_route(routeId="fixed")
    url = f"{ROUTES}/{made['routeId']}"
    assert (await gateway.client.delete(url)).status_code == 204
    assert gateway.match("/users/1") is None
    assert problem(await gateway.client.get(url))[0] == 404
    assert problem(await gateway.client.delete(url))[0] == 404
    assert (await gateway.client.get(f"{url}/versions")).json()["total"] == 1
    again = await gateway.add_route(routeId="fixed")
    assert again["version"] == "1.1", "a version is never made twice, not even by another route of that id"


async def test_versions_are_listed_and_kept_as_they_were(gateway: Gateway) -> None:
    url = f"{ROUTES}/{(await gateway.add_route())['routeId']}"
    for priority in (1, 2):
        await gateway.client.put(url, json={"priority": priority})
    listed = (await gateway.client.get(f"{url}/versions?limit=2")).json()
    assert [one["version"] for one in listed["versions"]] == ["1.2", "1.1"]
    assert listed["hasMore"] is True and listed["nextOffset"] == 2 and listed["total"] == 3
    old = (await gateway.client.get(f"{url}/versions/1.0")).json()
    assert old["route"]["priority"] == 0 and old["createdBy"] == "admin"
    assert problem(await gateway.client.get(f"{url}/versions/9.9"))[0] == 404
    assert problem(await gateway.client.get(f"{ROUTES}/nix/versions"))[0] == 404


@pytest.mark.parametrize("body", [ROUTE, {"priority": 9}])
async def test_a_dry_run_changes_nothing(gateway: Gateway, body: dict[str, Any]) -> None:
    made = await gateway.add_route(name="first", pathPattern="/first")
    before = gateway.configuration.generation
    if "name" in body:
        answer = await gateway.client.post(f"{ROUTES}?dryRun=true", json=body)
    else:
        answer = await gateway.client.put(f"{ROUTES}/{made['routeId']}?dryRun=true", json=body)
    told = answer.json()
    assert answer.status_code == 200 and told["dryRun"] is True and len(told["changes"]) == 1
    if "priority" in body:
        assert told["changes"][0]["fields"] == [{"path": "priority", "old": 0, "new": 9}]
    assert (await gateway.client.get(ROUTES)).json()["total"] == 1
    assert gateway.configuration.generation == before and gateway.match("/users/1") is None


async def test_a_dry_run_finds_what_the_write_would(gateway: Gateway) -> None:
    await gateway.add_route()
    for query in ("", "?dryRun=true"):
        answer = await gateway.client.post(ROUTES + query, json=ROUTE | {"name": "other"})
        assert problem(answer) == (409, "CONFLICT", [("pathPattern", "conflict")])
        assert "users" in answer.json()["error"]["message"], "the other route is named"
    url = f"{ROUTES}/{(await gateway.add_route(name='b', pathPattern='/b'))['routeId']}"
    dry = await gateway.client.delete(f"{url}?dryRun=true")
    assert dry.json()["removed"] == 1 and (await gateway.client.get(url)).is_success


async def test_a_refused_change_leaves_the_old_configuration(gateway: Gateway) -> None:
    await gateway.add_route()
    url = f"{ROUTES}/{(await gateway.add_route(name='b', pathPattern='/b'))['routeId']}"
    assert problem(await gateway.client.put(url, json={"pathPattern": "/users/**"}))[0] == 409
    assert gateway.match("/b") == "1.0" and gateway.match("/users/1") == "1.0"
    assert (await gateway.client.get(url)).json()["pathPattern"] == "/b"


async def test_a_disabled_route_is_kept_but_not_served_and_conflicts_with_nothing(gateway: Gateway) -> None:
    await gateway.add_route()
    other = await gateway.add_route(name="other", isEnabled=False)
    assert gateway.match("/users/1") == "1.0"
    url = f"{ROUTES}/{other['routeId']}"
    assert problem(await gateway.client.put(url, json={"isEnabled": True}))[:2] == (409, "CONFLICT")


async def test_names_and_ids_are_unique(gateway: Gateway) -> None:
    await gateway.add_route(routeId="r1")
    same_name = ROUTE | {"pathPattern": "/x"}
    assert problem(await gateway.client.post(ROUTES, json=same_name))[2] == [("name", "unique")]
    same_id = ROUTE | {"pathPattern": "/x", "name": "x", "routeId": "r1"}
    assert problem(await gateway.client.post(ROUTES, json=same_id)) == (
        409,
        "CONFLICT",
        [("routeId", "unique")],
    )
    other = await gateway.add_route(name="y", pathPattern="/y")
    answer = await gateway.client.put(f"{ROUTES}/{other['routeId']}", json={"name": "users"})
    assert problem(answer)[2] == [("name", "unique")]


async def test_lists_are_filtered_and_paged(gateway: Gateway) -> None:
    for index in range(5):
        strategy = "Direct" if index == 3 else "RoundRobin"
        await gateway.add_route(
            name=f"r{index}", pathPattern=f"/r{index}", isEnabled=index != 4, strategy=strategy
        )
    seen, offset = [], 0
    while True:
        page = (await gateway.client.get(f"{ROUTES}?limit=2&offset={offset}")).json()
        seen += [route["name"] for route in page["routes"]]
        assert page["total"] == 5 and page["limit"] == 2 and page["offset"] == offset
        if not page["hasMore"]:
            assert page["nextOffset"] is None
            break
        offset = page["nextOffset"]
    assert seen == ["r0", "r1", "r2", "r3", "r4"]

    async def names(query: str) -> list[str]:
        found = (await gateway.client.get(f"{ROUTES}?{query}")).json()["routes"]
        return [route["name"] for route in found]

    assert await names("isEnabled=false") == ["r4"]
    assert await names("strategy=Direct") == ["r3"]
    assert await names("isEnabled=true&strategy=RoundRobin&limit=100") == ["r0", "r1", "r2"]
    assert await names("name=R2") == ["r2"]
    assert await names("name=%25") == []
    assert await names("offset=5") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("offset=-1", "offset"),
        ("isEnabled=maybe", "isEnabled"),
        ("strategy=Best", "strategy"),
        ("isenabled=true", "isenabled"),
    ],
)
async def test_bad_query_parameters_are_named(gateway: Gateway, query: str, field: str) -> None:
    status, code, details = problem(await gateway.client.get(f"{ROUTES}?{query}"))
    assert (status, code) == (400, "VALIDATION_ERROR") and [name for name, _ in details] == [field]


async def test_a_mistyped_dry_run_does_not_write(gateway: Gateway) -> None:
    assert problem(await gateway.client.post(f"{ROUTES}?dryrun=true", json=ROUTE))[0] == 400
    assert gateway.match("/users/1") is None


async def test_routes_of_other_environments_are_kept_but_not_served(gateway: Gateway) -> None:
    made = await gateway.add_route(environment="Staging")
    assert gateway.match("/users/1") is None
    mine = await gateway.add_route(name="mine", environment="Development")
    assert gateway.match("/users/1") == "1.0"
    await gateway.client.put(f"{ROUTES}/{mine['routeId']}", json={"environment": "QA"})
    assert gateway.match("/users/1") is None
    await gateway.client.put(f"{ROUTES}/{made['routeId']}", json={"environment": None})
    assert gateway.match("/users/1") == "1.1"


async def test_names_are_resolved_when_written(gateway: Gateway) -> None:
    unknown = ROUTE | {"backends": [ROUTE["backends"][0], {"url": "http://nowhere.internal:80"}]}
    answer = await gateway.client.post(ROUTES, json=unknown)
    assert problem(answer) == (400, "VALIDATION_ERROR", [("backends[1].url", "resolvable")])
    made = await gateway.add_route(backends=[{"url": "http://users.internal:80"}])
    assert gateway.pick(made["routeId"]) == "users.internal:80"


async def test_header_rules_name_backends_of_the_route(gateway: Gateway) -> None:
    rules = {"headerName": "X-Tier", "routingRules": {"gold": "users-9"}, "defaultBackend": "users-1"}
    answer = await gateway.client.post(
        ROUTES, json=ROUTE | {"strategy": "HeaderBased", "strategyConfig": rules}
    )
    assert problem(answer)[2] == [("strategyConfig.routingRules.gold", "exists")]
    backends = [*ROUTE["backends"], {"name": "users-9", "url": "http://127.0.0.1:9009"}]
    made = await gateway.add_route(strategy="HeaderBased", strategyConfig=rules, backends=backends)
    assert gateway.pick(made["routeId"], "gold") == "users-9"
    assert gateway.pick(made["routeId"], "iron") == "users-1"
