"""A deployment on three nodes that share a PostgreSQL store; the one that drives it is killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness.backend import Backend

from tests.e2e.conftest import Api
from tests.e2e.load import Load
from tests.node import Node
from tests.processes import eventually

DRIVES = "this process drives the deployments"


@pytest.fixture
def fleet(tmp_path: Path, postgres_url: str) -> Iterator[list[Node]]:
    nodes: list[Node] = []
    for number in range(3):
        directory = tmp_path / f"n{number}"
        directory.mkdir()
        options = ("--database-url", postgres_url, "--node-id", f"n{number}")
        environ = {"HOTSWAP_ADMIN_USERNAME": "admin", "HOTSWAP_JWT_SECRET": "a secret for tests only" * 2}
        nodes.append(Node(directory, *options, **environ))
    try:
        yield [node.start() for node in nodes]
    finally:
        for node in nodes:
            node.clean_up()


def test_the_node_that_drives_is_killed_and_another_finishes(
    fleet: list[Node], backends: list[Backend]
) -> None:
    api = Api(fleet[0])

    def at(name: str, backend: Backend) -> dict[str, Any]:
        return {"name": name, "url": f"http://127.0.0.1:{backend.port}"}

    route = {"name": "r", "pathPattern": "/**", "backends": [at("a", backends[0])]}
    route_id = api.call("POST", "/gateway/routes", route)["routeId"]
    staged = {"backends": [at("b", backends[1])], "version": "2.0"}
    api.call("POST", f"/gateway/routes/{route_id}/versions", staged)
    eventually(lambda: len(api.call("GET", "/gateway/nodes")["nodes"]) == 3, "three nodes")
    eventually(lambda: all(node.health()["routesConfigured"] == 1 for node in fleet), "the route everywhere")

    asked = {
        "routeId": route_id,
        "configVersion": "2.0",
        "strategy": "Canary",
        "phases": [{"trafficPercentage": share, "duration": "3s"} for share in (20, 100)],
    }
    deployment_id = Api(fleet[1]).call("POST", "/gateway/deployments", asked)["deploymentId"]

    def driver() -> list[Node]:
        return [node for node in fleet if DRIVES in node.log.read_text()]

    (killed,) = eventually(driver, "a node that drives")
    others = [node for node in fleet if node is not killed]
    with ExitStack() as stack:
        loads = [stack.enter_context(Load(node.proxy_port, lambda n, i: f"/{n}/{i}", 2)) for node in others]
        killed.end(signal.SIGKILL)
        api = Api(others[0])

        def ended() -> Any:
            found = api.call("GET", f"/gateway/deployments/{deployment_id}")
            return found if found["status"] not in ("InProgress", "Paused") else None

        done = eventually(ended, "the end of the deployment", 60)
    assert done["status"] == "Completed", done["message"]
    assert any(DRIVES in node.log.read_text() for node in others)
    assert [load.failures for load in loads] == [[], []]

    # Back again, over the two that are left: the killed one is away after ten seconds.
    def alive() -> bool:
        return sum(node["status"] != "Away" for node in api.call("GET", "/gateway/nodes")["nodes"]) == 2

    eventually(alive, "the killed node is away", 30)
    asked = {"routeId": route_id, "configVersion": "1.0", "strategy": "Rolling"}
    made = api.call("POST", "/gateway/deployments", asked)
    assert len(made["phases"]) == 2
    deployment_id = made["deploymentId"]
    assert eventually(ended, "the end of the second one", 30)["status"] == "Completed"
    for node in others:
        assert Api(node).call("GET", f"/gateway/routes/{route_id}")["version"] == "1.0"
