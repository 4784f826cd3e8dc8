"""Health checks through the API: stored, changed, carried out, shown."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from harness.backend import Backend, ok

from tests.gateway import BACKENDS, CLOSED, Gateway, problem, running

pytestmark = pytest.mark.anyio
RUN = "/api/v1/gateway/health-checks"
CHECK = {"interval": "1h", "endpoint": "/up"}


@pytest.fixture
def server() -> Iterator[Backend]:
    """Where the FakeNode's only backend is."""
    backend = Backend()
    yield backend
    backend.close()


@pytest.fixture(autouse=True)
def any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def statistics(self: Any, address: str, rows: Any = None) -> dict[str, Any]:
        status = self.checker.registry.status(address)
        counted = {"activeConnections": 0, "totalRequests": 0, "failedRequests": 0}
        standing = {"circuitBreaker": CLOSED, "ejectedUntil": None, **counted}
        return standing | {"healthStatus": "Unknown" if status is None else status.name.capitalize()}

    monkeypatch.setattr("tests.gateway.FakeNode.backend_statistics", statistics)


async def add(gateway: Gateway, server: Backend, **fields: Any) -> str:
    made = await gateway.add_backend(url=server.url, healthCheck=CHECK | fields)
    return f"{BACKENDS}/{made['backendId']}"


async def seen(gateway: Gateway, url: str, probes: int = 1) -> dict[str, Any]:
    """The backend's health, once there were so many probes."""
    async with asyncio.timeout(10):
        while True:
            health = dict((await gateway.client.get(f"{url}/health")).json())
            if health["healthCheck"]["totalProbes"] >= probes:
                return health
            await asyncio.sleep(0.01)


async def test_it_is_stored_with_its_defaults_and_shown_with_its_last_probe(
    gateway: Gateway, server: Backend
) -> None:
    url = await add(gateway, server)
    got = (await gateway.client.get(url)).json()
    assert got["healthCheck"]["interval"] == "1h" and got["healthCheck"]["unhealthyThreshold"] == 3
    health = await seen(gateway, url)
    assert health["healthStatus"] == "Healthy"
    check = health["healthCheck"]
    assert check["consecutiveSuccesses"] == 1 and check["failedProbes"] == 0
    probe = check["lastProbe"]
    assert (probe["result"], probe["reason"]) == ("Success", "status 200")
    assert 0 <= probe["latencyMs"] < 1000 and probe["at"].endswith("Z")
    assert server.requests[0].target == "/up"
    plain = await gateway.add_backend(name="plain", url="http://127.0.0.1:9002")
    health = (await gateway.client.get(f"{BACKENDS}/{plain['backendId']}/health")).json()
    assert health["healthCheck"] is None and health["healthStatus"] == "Unknown"


async def test_put_merges_a_check_replaces_its_type_and_removes_it(gateway: Gateway, server: Backend) -> None:
    url = await add(gateway, server)
    await seen(gateway, url)
    changed = (await gateway.client.put(url, json={"healthCheck": {"timeout": "1s"}})).json()
    assert changed["healthCheck"]["endpoint"] == "/up" and changed["healthCheck"]["timeout"] == "1s"
    assert (await seen(gateway, url))["healthStatus"] == "Healthy"
    changed = (await gateway.client.put(url, json={"healthCheck": {"type": "Tcp"}})).json()
    assert changed["healthCheck"]["type"] == "Tcp" and changed["healthCheck"]["interval"] == "5s"
    changed = (await gateway.client.put(url, json={"healthCheck": None})).json()
    assert "healthCheck" not in changed
    assert (await gateway.client.get(f"{url}/health")).json()["healthStatus"] == "Unknown"


async def test_a_dry_run_checks_nothing(gateway: Gateway, server: Backend) -> None:
    body = {"name": "b", "url": server.url, "healthCheck": CHECK}
    assert (await gateway.client.post(f"{BACKENDS}?dryRun=true", json=body)).status_code == 200
    await asyncio.sleep(0.2)
    assert server.connections == 0


async def test_a_held_backend_is_out_from_the_first_moment(gateway: Gateway, server: Backend) -> None:
    server.script = lambda request: ok(status=b"503 No" if request.target == "/up" else b"200 OK")
    held = {"name": "held", "url": server.url, "healthCheck": CHECK | {"initialState": "Hold"}}
    other = {"name": "other", "url": "http://127.0.0.1:9002"}
    route = await gateway.add_route(backends=[held, other])
    assert {gateway.pick(route["routeId"]) for _ in range(10)} == {"other"}
    route = await gateway.add_route(
        name="second", pathPattern="/2", backends=[held | {"healthCheck": CHECK | {"endpoint": "/2"}}]
    )
    assert gateway.pick(route["routeId"]) is None, "the other check of the address still fails"


async def test_statuses_are_written_before_the_configuration_is_live(
    gateway: Gateway, server: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    checker, seen_at = gateway.node.checker, []
    prepare = checker.prepare

    def note(*args: Any, **options: Any) -> None:
        prepare(*args, **options)
        seen_at.append(gateway.core.generation)

    monkeypatch.setattr(checker, "prepare", note)
    before = gateway.core.generation
    await gateway.add_route(backends=[{"url": server.url, "healthCheck": CHECK | {"initialState": "Hold"}}])
    assert (seen_at, gateway.core.generation) == ([before], before + 1)


async def test_three_failures_take_it_out_and_a_swap_does_not_bring_it_back(
    gateway: Gateway, server: Backend
) -> None:
    url = await add(gateway, server)
    backend_id = url.rpartition("/")[2]
    route = await gateway.add_route(backends=[{"backendId": backend_id}])
    await seen(gateway, url)
    server.close()
    for _ in range(3):
        assert gateway.pick(route["routeId"]) == "b1"
        ran = (await gateway.client.post(RUN, json={"backendId": backend_id})).json()
        assert ran["healthCheck"]["lastProbe"]["reason"] == "connection refused"
    assert ran["healthStatus"] == "Unhealthy"
    assert gateway.pick(route["routeId"]) is None
    await gateway.client.put(url, json={"weight": 50})
    await gateway.client.put(f"/api/v1/gateway/routes/{route['routeId']}", json={"isEnabled": False})
    await gateway.client.put(url, json={"isEnabled": False})
    gateway.core.reclaim()
    await gateway.client.put(url, json={"isEnabled": True})
    await gateway.client.put(f"/api/v1/gateway/routes/{route['routeId']}", json={"isEnabled": True})
    assert gateway.pick(route["routeId"]) is None
    await gateway.client.put(url, json={"healthCheck": None})
    assert gateway.pick(route["routeId"]) == "b1"


async def test_running_a_check(gateway: Gateway, server: Backend) -> None:
    url = await add(gateway, server)
    backend_id = url.rpartition("/")[2]
    await seen(gateway, url)
    operator = await gateway.as_role("Operator")
    ran = await gateway.client.post(RUN, json={"backendId": backend_id}, headers=operator)
    assert ran.status_code == 200 and ran.json()["healthCheck"]["totalProbes"] == 2
    for role in ("Viewer", "Developer"):
        headers = await gateway.as_role(role)
        assert (
            await gateway.client.post(RUN, json={"backendId": backend_id}, headers=headers)
        ).status_code == 403
    assert problem(await gateway.client.post(RUN, json={"backendId": "nix"}))[0] == 404
    plain = await gateway.add_backend(name="plain", url="http://127.0.0.1:9002")
    answer = await gateway.client.post(RUN, json={"backendId": plain["backendId"]})
    assert problem(answer)[0] == 409 and "has no health check" in answer.text
    await gateway.client.put(url, json={"isEnabled": False})
    answer = await gateway.client.post(RUN, json={"backendId": backend_id})
    assert problem(answer)[0] == 409 and "is disabled" in answer.text


async def test_it_can_be_defined_and_run_in_one(gateway: Gateway, server: Backend) -> None:
    backend_id = (await gateway.add_backend(url=server.url))["backendId"]
    url = f"{BACKENDS}/{backend_id}"

    async def define(check: Any, *, query: str = "", **headers: str) -> Any:
        body = {"backendId": backend_id, "healthCheck": check}
        return await gateway.client.post(RUN + query, json=body, headers=headers)

    planned = await define(CHECK, query="?dryRun=true")
    assert planned.json()["dryRun"] is True and "healthCheck" not in (await gateway.client.get(url)).json()
    ran = (await define(CHECK, **await gateway.as_role("Operator"))).json()
    assert ran["healthStatus"] == "Healthy" and ran["healthCheck"]["lastProbe"]["result"] == "Success"
    stored = await gateway.client.get(url)
    assert stored.json()["healthCheck"]["endpoint"] == "/up"
    # Field by field, like a PUT; and like a PUT it minds who was there before.
    assert (await define({"expectedStatusCode": 204})).json()["healthCheck"]["lastProbe"][
        "result"
    ] == "Failure"
    assert (await gateway.client.get(url)).json()["healthCheck"]["endpoint"] == "/up"
    assert problem(await define({}, **{"if-match": stored.headers["etag"]}))[0] == 412
    assert problem(await define({"endpoint": "up"}))[2] == [("healthCheck.endpoint", "endpoint")]
    assert (await define({"endpoint": "up"}, **await gateway.as_role("Viewer"))).status_code == 403
    removed = await define(None)
    assert removed.status_code == 200 and removed.json()["healthCheck"] is None
    assert "healthCheck" not in (await gateway.client.get(url)).json()
    answer = await gateway.client.post(RUN + "?dryRun=true", json={"backendId": backend_id})
    assert problem(answer)[2] == [("dryRun", "dry_run")]


async def test_a_custom_check_needs_the_nodes_permission(gateway: Gateway, tmp_path: Path) -> None:
    check = {"type": "Custom", "command": ["/bin/true"]}
    body = {"name": "b", "url": "http://127.0.0.1:9001", "healthCheck": check}
    answer = await gateway.client.post(BACKENDS, json=body)
    assert problem(answer)[2] == [("healthCheck.command", "command_forbidden")]
    (tmp_path / "other").mkdir()
    async with running(tmp_path / "other", health_check_commands=("/bin/true",)) as allowing:
        made = await allowing.client.post(BACKENDS, json=body)
        assert made.status_code == 201, made.text
        health = await seen(allowing, f"{BACKENDS}/{made.json()['backendId']}")
        assert health["healthCheck"]["lastProbe"]["reason"] == "exit status 0"
    async with running(tmp_path / "other") as strict:  # the permission was withdrawn
        health = (await strict.client.get(f"{BACKENDS}/{made.json()['backendId']}/health")).json()
        assert health["healthCheck"] is None and health["healthStatus"] == "Unknown"


async def test_a_restart_begins_with_the_initial_state(tmp_path: Path, server: Backend) -> None:
    server.script = lambda _request: ok(status=b"503 No")
    (tmp_path / "data").mkdir()
    async with running(tmp_path / "data") as gateway:
        url = await add(gateway, server)
        for probes in (2, 3):
            await seen(gateway, url, probes - 1)
            await gateway.client.post(RUN, json={"backendId": url.rpartition("/")[2]})
        assert (await seen(gateway, url, 3))["healthStatus"] == "Unhealthy"
    async with running(tmp_path / "data") as gateway:
        assert (await seen(gateway, url))["healthStatus"] == "Unknown"


async def test_the_file_and_its_export(gateway: Gateway, server: Backend) -> None:
    document = {
        "backends": [{"name": "b", "url": server.url, "healthCheck": {"endpoint": "/up"}}],
        "routes": [
            {"name": "r", "path": "/r", "backends": [{"url": server.url, "healthCheck": {"type": "Tcp"}}]},
        ],
    }
    await gateway.configuration.apply(orjson.dumps(document), prune=True, author="test")
    assert len(gateway.node.checker.registry) == 2
    exported = await gateway.configuration.export()
    assert exported["backends"][0]["healthCheck"] == {"endpoint": "/up"}
    assert exported["routes"][0]["backends"][0]["healthCheck"] == {"type": "Tcp"}
    again = await gateway.configuration.apply(orjson.dumps(exported), prune=True, author="test")
    assert (again.added, again.changed, again.removed) == (0, 0, 0)
    await gateway.configuration.apply(b'{"backends": [], "routes": []}', prune=True, author="test")
    assert len(gateway.node.checker.registry) == 0
