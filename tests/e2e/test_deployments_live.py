"""Deployments on a real node, judged on real requests."""

from __future__ import annotations

import signal
import urllib.error
from collections.abc import Callable
from typing import Any

import pytest
from harness.backend import Backend, ok

from tests.e2e.conftest import Api
from tests.e2e.load import Load
from tests.node import Node
from tests.processes import eventually

ROUTES, DEPLOYMENTS = "/gateway/routes", "/gateway/deployments"
BROKEN = ok(b"broken", status=b"500 Internal Server Error")


class Rollout:
    """A node with a route to backend ``a``, and a staged version to backend ``b``."""

    def __init__(self, node: Node, backends: list[Backend]) -> None:
        self.node, self.api = node, Api(node)
        made = self.api.call(
            "POST",
            ROUTES,
            {"name": "r", "pathPattern": "/**", "backends": [_at(backends[0], "a")]},
        )
        self.route = made["routeId"]
        staged = {"backends": [_at(backends[1], "b")], "version": "2.0"}
        self.api.call("POST", f"{ROUTES}/{self.route}/versions", staged)

    def begin(self, strategy: str = "Canary", **fields: Any) -> str:
        asked = {"routeId": self.route, "configVersion": "2.0", "strategy": strategy} | fields
        return str(self.api.call("POST", DEPLOYMENTS, asked)["deploymentId"])

    def get(self, deployment_id: str) -> Any:
        return self.api.call("GET", f"{DEPLOYMENTS}/{deployment_id}")

    def end(self, deployment_id: str, within: float = 45.0) -> Any:
        active = ("Pending", "Approved", "InProgress", "Paused")

        def ended() -> Any:
            found = self.get(deployment_id)
            return found if found["status"] not in active else None

        return eventually(ended, "the end of the deployment", within)

    def live(self) -> str:
        return str(self.api.call("GET", f"{ROUTES}/{self.route}")["version"])


def _at(backend: Backend, name: str) -> dict[str, Any]:
    return {"name": name, "url": f"http://127.0.0.1:{backend.port}"}


@pytest.fixture
def rollout(start_node: Callable[..., Node], backends: list[Backend]) -> Rollout:
    return Rollout(start_node(), backends)


def phases(*shares: float, duration: str = "2s") -> list[dict[str, Any]]:
    return [{"trafficPercentage": share, "duration": duration} for share in shares]


def test_a_candidate_that_answers_500_is_rolled_back_by_itself(
    rollout: Rollout, backends: list[Backend]
) -> None:
    backends[1].script = lambda _request: BROKEN
    with Load(rollout.node.proxy_port, lambda n, i: f"/{n}/{i}", 8) as load:
        done = rollout.end(rollout.begin(phases=phases(10, 100, duration="5m")), 30)
        assert done["status"] == "RolledBack" and "by the judge" in done["message"], done["message"]
        assert rollout.live() == "1.0"
        broken = len(backends[1].requests)
        before = load.answers
        eventually(lambda: len(backends[0].requests) > before, "more answers")
        assert len(backends[1].requests) <= broken + 8, "all traffic is back but for what was in flight"
    share = broken / (broken + len(backends[0].requests))
    assert share < 0.15


def test_a_good_candidate_takes_over_without_a_failed_request(
    rollout: Rollout, backends: list[Backend]
) -> None:
    with Load(rollout.node.proxy_port, lambda n, i: f"/{n}/{i}", 8) as load:
        done = rollout.end(rollout.begin(phases=phases(30, 100)), 60)
    assert done["status"] == "Completed", done["message"]
    assert rollout.live() == "2.0"
    assert load.answers > 100 and load.failures == []
    metrics = rollout.api.call("GET", f"{DEPLOYMENTS}/{done['deploymentId']}/metrics")
    assert metrics["total"]["canary"]["requestCount"] > 0


def test_blue_green_tests_the_backends_first(rollout: Rollout, backends: list[Backend]) -> None:
    def script(request: Any) -> bytes:
        return BROKEN if request.target == "/ready" else ok(b"b")

    backends[1].script = script
    tests = [{"path": "/ready"}]
    done = rollout.end(rollout.begin("BlueGreen", smokeTests=tests))
    assert done["status"] == "Failed" and "GET /ready: status 500 instead of 200" in done["message"]
    assert {request.target for request in backends[1].requests} == {"/ready"}
    backends[1].script = lambda _request: ok(b"b")
    deployment_id = rollout.begin("BlueGreen", smokeTests=tests)
    eventually(lambda: rollout.get(deployment_id)["trafficPercentage"] == 100, "the switch")
    with Load(rollout.node.proxy_port, lambda n, i: f"/{n}/{i}", 2) as load:
        eventually(lambda: load.failures or len(backends[1].requests) > 20, "requests to b")
        rollout.api.call("POST", f"{DEPLOYMENTS}/{deployment_id}/rollback", {"reason": "a test"})
    assert load.failures == [] and rollout.live() == "1.0"


def test_direct_and_rolling_on_one_node(rollout: Rollout) -> None:
    assert rollout.end(rollout.begin("Rolling"))["status"] == "Completed"
    assert rollout.live() == "2.0"
    asked = {"routeId": rollout.route, "configVersion": "1.0", "strategy": "Direct"}
    made = rollout.api.call("POST", DEPLOYMENTS, asked)
    assert rollout.live() == "1.0"
    assert rollout.end(made["deploymentId"])["status"] == "Completed"


def test_killed_in_its_middle_the_next_run_goes_on(
    start_node: Callable[..., Node], backends: list[Backend]
) -> None:
    rollout = Rollout(start_node(), backends)
    deployment_id = rollout.begin(phases=phases(50, 100))
    rollout.api.call("POST", f"{DEPLOYMENTS}/{deployment_id}/promote", {"targetPercentage": 75})
    rollout.node.end(signal.SIGKILL)
    node = start_node()
    rollout.api = Api(node)
    found = rollout.get(deployment_id)
    assert (found["status"], found["trafficPercentage"]) == ("InProgress", 75)
    with Load(node.proxy_port, lambda n, i: f"/{n}/{i}", 8) as load:
        done = rollout.end(deployment_id, 60)
    assert done["status"] == "Completed", done["message"]
    assert load.failures == [] and rollout.live() == "2.0"


def test_the_route_of_a_deployment_cannot_be_changed_beside_it(rollout: Rollout) -> None:
    deployment_id = rollout.begin()
    for method, body in (("PUT", {"timeoutSeconds": 9}), ("DELETE", None)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            rollout.api.call(method, f"{ROUTES}/{rollout.route}", body)
        assert refused.value.code == 409 and deployment_id in refused.value.read().decode()
