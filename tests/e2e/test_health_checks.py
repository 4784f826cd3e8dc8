"""Active health checks on a whole node: the data plane skips what fails, and takes back what recovered."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from e2e.conftest import Api
from e2e.load import Load
from harness.backend import Backend, Received, ok
from harness.client import Client
from harness.wait import eventually

CHECK = {"interval": "200ms", "timeout": "500ms", "unhealthyThreshold": 3, "healthyThreshold": 2}


class Server(Backend):
    """Answers with its name; its health can be taken away while it goes on to answer."""

    def __init__(self, name: bytes, port: int = 0) -> None:
        self.name = name
        self.well = True
        super().__init__(self._answer, wanted_port=port)

    def _answer(self, request: Received) -> bytes:
        if request.target == "/health" and not self.well:
            return ok(status=b"503 Service Unavailable")
        return ok(self.name)

    @property
    def served(self) -> int:
        return sum(request.target != "/health" for request in list(self.requests))


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    pair = [Server(b"a"), Server(b"b")]
    yield pair
    for server in pair:
        server.close()


def configure(api: Api, servers: list[Server], **check: object) -> list[str]:
    ids = [
        api.call(
            "POST",
            "/gateway/backends",
            {"name": server.name.decode(), "url": server.url, "healthCheck": CHECK | check},
        )["backendId"]
        for server in servers
    ]
    api.call("POST", "/gateway/routes", {"name": "all", "path": "/**", "backends": ["a", "b"]})
    return ids


def status(api: Api, backend_id: str) -> str:
    return str(api.call("GET", f"/gateway/backends/{backend_id}/health")["healthStatus"])


def test_no_request_goes_to_a_backend_that_fails_until_it_recovers(start_node, servers):
    hook = Backend()
    node = start_node(HOTSWAP_ALERT_WEBHOOKS=f"{hook.url}/alerts")
    api = Api(node)
    first, second = servers
    ids = configure(api, servers)
    eventually(lambda: {status(api, one) for one in ids} == {"Healthy"})
    with Load(node.proxy_port, lambda connection, turn: f"/{connection}/{turn}", 8) as load:
        eventually(lambda: first.served > 50 and second.served > 50)
        first.well = False
        eventually(lambda: status(api, ids[0]) == "Unhealthy")
        with Client(node.proxy_port) as probe:  # both workers, and not one request too many
            time.sleep(0.1)  # what was under way ends
            before = first.served
            assert {probe.get().body for _ in range(50)} == {b"b"}
        # Neither do changes of the configuration send it one.
        for weight in (50, 100, 50):
            api.call("PUT", f"/gateway/backends/{ids[0]}", {"weight": weight})
            api.call("PUT", f"/gateway/backends/{ids[1]}", {"weight": weight})
        time.sleep(0.3)
        assert first.served == before
        time.sleep(1)  # the figure may be as old
        health = node.health()
        assert (health["backendsHealthy"], health["backendsUnhealthy"], health["backendsTotal"]) == (1, 1, 2)
        first.well = True
        eventually(lambda: status(api, ids[0]) == "Healthy")
        eventually(lambda: first.served > before + 50)
    assert load.failures == []
    hook.wait(lambda: len(hook.requests) == 2)
    told = [json.loads(request.body) for request in hook.requests]
    assert [alert["event"] for alert in told] == ["backend.unhealthy", "backend.healthy"]
    assert told[0]["reason"] == "status 503 instead of 200"
    assert [line["backend"] for line in node.events() if line["event"].startswith("backend is")] == [
        first.url
    ] * 2
    assert api.metric("gateway_backends_healthy") == 2
    assert api.metric("gateway_backend_health_checks_total") > 10
    assert api.metric("gateway_backend_health_flips_total") == 2
    hook.close()


def test_a_dead_backend_is_found_out_and_its_return_too(start_node, servers):
    node = start_node()
    api = Api(node)
    first, second = servers
    ids = configure(api, servers)
    eventually(lambda: {status(api, one) for one in ids} == {"Healthy"})
    port = first.port
    first.close()
    eventually(lambda: status(api, ids[0]) == "Unhealthy")
    with Load(node.proxy_port, lambda connection, turn: f"/{connection}/{turn}", 8) as load:
        eventually(lambda: second.served > 200)
    assert load.failures == []
    reason = api.call("GET", f"/gateway/backends/{ids[0]}/health")["healthCheck"]["lastProbe"]["reason"]
    assert reason == "connection refused"
    alive = Server(b"a", port)
    eventually(lambda: status(api, ids[0]) == "Healthy")
    with Client(node.proxy_port) as client:
        assert {client.get().body for _ in range(10)} == {b"a", b"b"}
    alive.close()


def test_held_backends_get_nothing_before_they_pass(start_node, servers):
    node = start_node()
    api = Api(node)
    for server in servers:
        server.well = False
    configure(api, servers, initialState="Hold")
    with Client(node.proxy_port) as client:
        assert client.get().status == 503
        servers[1].well = True
        eventually(lambda: node.health()["backendsHealthy"] == 1)
        assert {client.get().body for _ in range(10)} == {b"b"}
    assert servers[0].served == 0


def test_checks_of_a_file_and_of_its_next_version(start_node, servers, tmp_path):
    first, _ = servers
    first.well = False

    def write(check: object) -> None:
        backends = [{"name": "a", "url": first.url, **({"healthCheck": check} if check else {})}]
        routes = [{"name": "r", "path": "/**", "backends": ["a"]}]
        (tmp_path / "draft").write_text(json.dumps({"version": "1", "backends": backends, "routes": routes}))
        (tmp_path / "draft").replace(tmp_path / "gateway.json")

    write(CHECK | {"initialState": "Hold"})
    node = start_node("--config", str(tmp_path / "gateway.json"))
    with Client(node.proxy_port) as client:
        assert client.get().status == 503
        write(None)
        eventually(lambda: client.get().status == 200)
        write(CHECK | {"initialState": "Down"})
        eventually(lambda: client.get().status == 503)
        first.well = True
        eventually(lambda: client.get().status == 200)
