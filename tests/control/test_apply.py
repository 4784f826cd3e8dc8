"""A declarative file against a running gateway: all of it or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway import ROUTE, ROUTES, Gateway, problem

pytestmark = pytest.mark.anyio
APPLY = "/api/v1/gateway/config/apply"
EXPORT = "/api/v1/gateway/config/export"
VALIDATE = "/api/v1/gateway/config/validate"


def file(*names: str, **fields: Any) -> dict[str, Any]:
    routes = [
        ROUTE | {"name": name, "pathPattern": f"/{name}", "backends": ["b1"]} | fields for name in names
    ]
    return {"backends": [{"name": "b1", "url": "http://127.0.0.1:9001"}], "routes": routes}


async def counts(answer: Any) -> tuple[int, int, int, int]:
    body = answer.json()
    assert answer.is_success, answer.text
    return body["added"], body["changed"], body["removed"], body["unchanged"]


async def test_the_second_time_nothing_changes(gateway: Gateway) -> None:
    assert await counts(await gateway.client.post(APPLY, json=file("a", "b"))) == (3, 0, 0, 0)
    assert gateway.match("/a") == "1.0" and gateway.match("/b") == "1.0"
    before = gateway.configuration.generation
    assert await counts(await gateway.client.post(APPLY, json=file("a", "b"))) == (0, 0, 0, 3)
    assert gateway.configuration.generation == before, "nothing was published"


async def test_only_what_differs_gets_a_new_version(gateway: Gateway) -> None:
    await gateway.client.post(APPLY, json=file("a", "b"))
    changed = file("a", "b")
    changed["routes"][1]["priority"] = 4
    answer = await gateway.client.post(APPLY, json=changed)
    assert await counts(answer) == (0, 1, 0, 2)
    assert answer.json()["changes"][0]["fields"] == [{"path": "priority", "old": 0, "new": 4}]
    assert gateway.match("/a") == "1.0" and gateway.match("/b") == "1.1"


async def test_what_the_file_does_not_name_stays_unless_pruned(gateway: Gateway) -> None:
    await gateway.add_backend(name="old")
    await gateway.add_route(name="by-hand", backends=["old"])
    assert await counts(await gateway.client.post(APPLY, json=file("a"))) == (2, 0, 0, 0)
    assert gateway.match("/users/1") == "1.0"
    assert await counts(await gateway.client.post(f"{APPLY}?prune=true", json=file("a"))) == (0, 0, 2, 2)
    assert gateway.match("/users/1") is None and gateway.match("/a") == "1.0"


async def test_a_dry_run_is_the_plan_and_changes_nothing(gateway: Gateway) -> None:
    await gateway.add_route(name="by-hand")
    for url in (f"{APPLY}?dryRun=true&prune=true", f"{VALIDATE}?prune=true"):
        answer = await gateway.client.post(url, json=file("a"))
        assert await counts(answer) == (2, 0, 1, 0)
    assert (await gateway.client.get(ROUTES)).json()["total"] == 1 and gateway.match("/a") is None
    changes = (await gateway.client.post(VALIDATE, json=file("a"))).json()["changes"]
    assert [(change["kind"], change["action"], change["name"]) for change in changes] == [
        ("backend", "added", "b1"),
        ("route", "added", "a"),
    ]


@pytest.mark.parametrize(
    ("broken", "status", "details"),
    [
        ({"pathPattern": "/a"}, 409, [("routes[1].pathPattern", "conflict")]),
        ({"backends": ["nix"]}, 400, [("routes[1].backends[0].name", "exists")]),
        ({"priority": 999}, 400, [("routes[1].priority", "less_than_equal")]),
        (
            {"backends": [{"url": "http://nowhere.internal"}]},
            400,
            [("routes[1].backends[0].url", "resolvable")],
        ),
    ],
)
async def test_one_mistake_and_nothing_is_applied(
    gateway: Gateway, broken: dict[str, Any], status: int, details: list[tuple[str, str]]
) -> None:
    document = file("a", "b", "c")
    document["routes"][1] |= broken
    before = gateway.configuration.generation
    for url in (APPLY, VALIDATE):
        answer = await gateway.client.post(url, json=document)
        told = problem(answer)
        assert (told[0], told[2]) == (status, details)
    assert (await gateway.client.get(ROUTES)).json()["total"] == 0
    assert gateway.configuration.generation == before and gateway.match("/c") is None


async def test_a_store_that_fails_in_the_middle_applies_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hotswap_proxy.store import changes

    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(changes, "_write_references", fail)
    answer = await gateway.client.post(APPLY, json=file("a"))
    assert problem(answer)[:2] == (503, "SERVICE_UNAVAILABLE")
    assert gateway.match("/a") is None and (await gateway.client.get(ROUTES)).json()["total"] == 0
    monkeypatch.undo()
    assert await counts(await gateway.client.post(APPLY, json=file("a"))) == (2, 0, 0, 0)


async def test_names_may_be_swapped_and_objects_renamed_by_id(gateway: Gateway) -> None:
    document = file("a", "b")
    document["routes"][0]["routeId"], document["routes"][1]["routeId"] = "r1", "r2"
    await gateway.client.post(APPLY, json=document)
    document["routes"][0]["name"], document["routes"][1]["name"] = "b", "a"
    assert await counts(await gateway.client.post(APPLY, json=document)) == (0, 2, 0, 1)
    assert (await gateway.client.get(f"{ROUTES}/r1")).json()["name"] == "b"


async def test_a_name_is_not_taken_from_an_object_that_stays(gateway: Gateway) -> None:
    await gateway.client.post(APPLY, json=file("a"))
    other = file("a", routeId="new-id", pathPattern="/other")
    answer = await gateway.client.post(APPLY, json=other)
    assert problem(answer) == (409, "CONFLICT", [("routes[0].name", "unique")])
    assert await counts(await gateway.client.post(f"{APPLY}?prune=true", json=other)) == (1, 0, 1, 1)


async def test_a_pruned_backends_name_may_be_used_again(gateway: Gateway) -> None:
    await gateway.client.post(APPLY, json=file("a"))
    document = file("a")
    document["backends"][0]["backendId"] = "be-new"
    assert await counts(await gateway.client.post(f"{APPLY}?prune=true", json=document)) == (1, 1, 1, 0)
    route = (await gateway.client.get(ROUTES)).json()["routes"][0]
    assert route["backends"] == [{"backendId": "be-new"}]
    assert gateway.pick(route["routeId"]) == "b1"


async def test_a_used_version_is_not_made_again(gateway: Gateway) -> None:
    await gateway.client.post(APPLY, json=file("a", version="7"))
    assert gateway.match("/a") == "7"
    assert await counts(await gateway.client.post(APPLY, json=file("a", version="7"))) == (0, 0, 0, 2)
    answer = await gateway.client.post(APPLY, json=file("a", version="7", priority=1))
    assert problem(answer) == (409, "CONFLICT", [("routes[0].version", "unique")])
    assert await counts(await gateway.client.post(APPLY, json=file("a", version="8", priority=1))) == (
        0,
        1,
        0,
        1,
    )


async def test_an_export_applied_again_changes_nothing(gateway: Gateway) -> None:
    await gateway.client.post(APPLY, json=file("a", "b", hosts=["*.a.example"], timeoutSeconds=5))
    await gateway.add_route()
    exported = (await gateway.client.get(EXPORT)).json()
    assert exported["routes"][0] == {
        "name": "a",
        "pathPattern": "/a",
        "hosts": ["*.a.example"],
        "backends": [{"name": "b1"}],
        "timeoutSeconds": 5,
    }
    assert exported["backends"] == [{"name": "b1", "url": "http://127.0.0.1:9001"}]
    assert await counts(await gateway.client.post(f"{APPLY}?prune=true", json=exported)) == (0, 0, 0, 4)


async def test_files_may_be_larger_than_other_bodies(gateway: Gateway) -> None:
    answer = await gateway.client.post(
        APPLY,
        content=json.dumps(file("a")).encode().ljust(2 * 1024 * 1024),
        headers={"content-type": "application/json"},
    )
    assert answer.is_success


async def test_every_object_is_in_the_audit_log(gateway: Gateway) -> None:
    await gateway.client.post(APPLY, json=file("a", "b"))
    answer = await gateway.client.get("/api/v1/audit-logs?entityType=route")
    assert sorted(entry["entityName"] for entry in answer.json()["auditLogs"]) == ["a", "b"]


async def test_ten_thousand_routes(gateway: Gateway) -> None:
    routes = [
        {
            "name": f"r{i}",
            "pathPattern": f"/a/{i}/**",
            "backends": [{"url": f"http://10.0.{i // 250}.{i % 250}"}],
        }
        for i in range(10_000)
    ]
    body = json.dumps({"routes": routes}).encode()
    await gateway.configuration.apply(body, prune=True, author="test")
    assert gateway.configuration.routes == 10_000
    assert gateway.match("/a/0/x") == "1.0" and gateway.match("/a/9999/x") == "1.0"
    await gateway.client.put(
        f"{ROUTES}/{(await gateway.client.get(ROUTES)).json()['routes'][0]['routeId']}", json={"priority": 1}
    )
    assert gateway.match("/a/0/x") == "1.1"


HEADER_BASED = {
    "strategy": "HeaderBased",
    "strategyConfig": {"headerName": "X-Arm", "routingRules": {"b": "b1"}, "defaultBackend": "b1"},
}


async def test_a_backend_is_not_renamed_under_a_route_that_names_it(gateway: Gateway) -> None:
    backend_id = (await gateway.add_backend())["backendId"]
    route = await gateway.add_route(backends=["b1"], **HEADER_BASED)
    renamed = {"backends": [{"backendId": backend_id, "name": "b2", "url": "http://127.0.0.1:9001"}]}
    answer = await gateway.client.post(APPLY, json=renamed)
    assert problem(answer)[2] == [("backends[0].name", "in_use")]
    assert f"route users ({route['routeId']}), which is not in the file" in answer.text
    # With the route in the file, the file is told what it has forgotten, or is taken.
    inside = ROUTE | HEADER_BASED | {"backends": ["b2"]}
    answer = await gateway.client.post(APPLY, json=renamed | {"routes": [inside]})
    assert {detail[0] for detail in problem(answer)[2]} == {
        "routes[0].strategyConfig.routingRules.b",
        "routes[0].strategyConfig.defaultBackend",
    }
    inside["strategyConfig"] = {"headerName": "X-Arm", "routingRules": {"b": "b2"}, "defaultBackend": "b2"}
    assert await counts(await gateway.client.post(APPLY, json=renamed | {"routes": [inside]})) == (0, 2, 0, 0)


async def test_a_registered_backend_cannot_take_the_id_of_a_routes_own(gateway: Gateway) -> None:
    backend = {"backendId": "rt-1:users-1", "name": "b", "url": "http://127.0.0.1:9001"}
    answer = await gateway.client.post(APPLY, json={"backends": [backend]})
    assert problem(answer)[2] == [("backends[0].backendId", "pattern")]
    answer = await gateway.client.post("/api/v1/gateway/backends", json=backend)
    assert problem(answer)[2] == [("backendId", "pattern")]
