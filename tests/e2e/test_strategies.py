"""BlueGreen, Rolling and Direct on a real node; canaries are in ``test_deployments``."""

from __future__ import annotations

from typing import Any

import pytest
from e2e.conftest import Api
from e2e.load import Load
from e2e.rollout import Rollout
from harness.backend import Backend, ok

from tests.node import Node
from tests.processes import eventually

BROKEN = ok(b"broken", status=b"500 Internal Server Error")


@pytest.fixture
def rollout(node: Node, backends: list[Backend]) -> Rollout:
    return Rollout(Api(node), backends[0].url, backends[1].url)


def test_blue_green_tests_the_backends_first(node: Node, rollout: Rollout, backends: list[Backend]) -> None:
    def script(request: Any) -> bytes:
        return BROKEN if request.target == "/ready" else ok(b"b")

    backends[1].script = script
    tests = [{"path": "/ready"}]
    rollout.deploy(strategy="BlueGreen", smokeTests=tests)
    assert "GET /ready: status 500 instead of 200" in rollout.reaches("Failed")["message"]
    assert {request.target for request in backends[1].requests} == {"/ready"}
    backends[1].script = lambda _request: ok(b"b")
    rollout.deploy(strategy="BlueGreen", smokeTests=tests)
    eventually(lambda: rollout.get()["trafficPercentage"] == 100, "the switch")
    with Load(node.proxy_port, lambda n, i: f"/users/{n}/{i}", 2) as load:
        eventually(lambda: load.failures or len(backends[1].requests) > 20, "requests to b")
        rollout.command("rollback", reason="a test")
    assert load.failures == [] and rollout.live()["version"] == "1.0"


def test_direct_and_rolling_on_one_node(rollout: Rollout) -> None:
    rollout.deploy(strategy="Rolling")
    rollout.reaches("Completed")
    assert rollout.live()["version"] == "2.0"
    rollout.deploy(strategy="Direct", configVersion="1.0")
    assert rollout.live()["version"] == "1.0", "at once"
    rollout.reaches("Completed")
