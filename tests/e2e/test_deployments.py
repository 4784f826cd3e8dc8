"""What a deployment promises, through a running node with two workers, under load."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import HTTPError

import pytest
from e2e.conftest import Api
from e2e.load import Load
from e2e.rollout import LENIENT, Rollout, Traffic, versioned
from harness.backend import Backend, ok

from tests.node import Node
from tests.processes import eventually

LONG = [
    {"trafficPercentage": 10, "duration": "5m"},
    {"trafficPercentage": 50, "duration": "5m"},
    {"trafficPercentage": 100, "duration": "5m"},
]
SHORT = [{"trafficPercentage": share, "duration": "2s"} for share in (10, 50, 100)]


@pytest.fixture
def node(start_node: Callable[..., Node]) -> Node:
    return start_node()


@pytest.fixture
def stable() -> Iterator[str]:
    with versioned("v1", delay=0.004) as url:
        yield url


def only_v1(traffic: Traffic) -> None:
    """From now on, whatever was in flight has ended."""
    traffic.more(100)
    assert set(traffic.more(600)) <= {"v1 200"} | {key for key, n in traffic.told["answers"].items() if not n}


def check_returned(rollout: Rollout, traffic: Traffic) -> None:
    live = rollout.live()
    assert (live["version"], [b["url"] for b in live["backends"]]) == ("1.0", [rollout_url(rollout)])
    before = traffic.count("v2")
    traffic.more(300)
    assert traffic.count("v2") == before, "all traffic is on the version before"


def rollout_url(rollout: Rollout) -> str:
    found = rollout.api.call("GET", f"/gateway/routes/{rollout.route_id}/versions/1.0")
    url: str = found["route"]["backends"][0]["url"]
    return url


def check_nobody_else_may_change(rollout: Rollout) -> None:
    again = {"routeId": rollout.route_id, "configVersion": "2.0", "strategy": "Direct"}
    route = f"/gateway/routes/{rollout.route_id}"
    calls = (
        ("POST", "/gateway/deployments", again),
        ("PUT", route, {"timeoutSeconds": 7}),
        ("DELETE", route, None),
    )
    for method, path, body in calls:
        with pytest.raises(HTTPError) as refused:
            rollout.api.call(method, path, body)
        assert refused.value.code == 409
        assert rollout.deployment_id in refused.value.read().decode()


def test_a_candidate_that_answers_500_is_rolled_back_by_itself(node: Node, stable: str) -> None:
    with versioned("v2", failed=1.0) as candidate:
        rollout = Rollout(Api(node), stable, candidate)
        with Traffic([node.proxy_port]) as traffic:
            began = time.monotonic()
            rollout.deploy(phases=LONG)
            record = rollout.reaches("RolledBack", within=30)
            assert time.monotonic() - began < 30
            traffic.more(50)  # what was in flight
            check_returned(rollout, traffic)
        assert traffic.count("v2") <= 0.12 * traffic.total, "never more than its phase's share"
        assert traffic.count("v2", " 200") == 0
        traffic.check_nothing_was_lost(failures_of="v2 500")
    assert record["verdict"]["kind"] == "Fail"
    assert "error rate" in record["verdict"]["reason"]


def test_a_slow_candidate_is_rolled_back_by_itself(node: Node, stable: str) -> None:
    with versioned("v2", delay=0.03) as candidate:
        rollout = Rollout(Api(node), stable, candidate)
        with Traffic([node.proxy_port], rate=400, clients=40) as traffic:
            rollout.deploy(phases=LONG)
            record = rollout.reaches("RolledBack", within=30)
            traffic.more(50)
            check_returned(rollout, traffic)
        traffic.check_nothing_was_lost()
    assert "p99" in record["verdict"]["reason"]


def give_up(port: int) -> bool:
    """A request of a client that waits a fifth of a second, then resets its connection; whether it did."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(0.2)
        client.sendall(b"GET /users/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            return not client.recv(1024)
        except TimeoutError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return True


def test_a_candidate_that_hangs_is_rolled_back_although_its_clients_give_up(node: Node, stable: str) -> None:
    """Long before the route's own timeouts, which would count."""
    with versioned("v2", delay=600.0) as candidate:
        rollout = Rollout(Api(node), stable, candidate, timeoutSeconds=300)
        rollout.deploy(phases=LONG)
        record = rollout.get()
        for _ in range(3000):
            if give_up(node.proxy_port) and (record := rollout.get())["status"] == "RolledBack":
                break
        record = rollout.reaches("RolledBack", within=5)
    assert "aborted by clients" in record["verdict"]["reason"]


def test_a_candidate_is_held_without_traffic_and_a_good_one_completes(node: Node, stable: str) -> None:
    with versioned("v2", delay=0.004) as candidate:
        rollout = Rollout(Api(node), stable, candidate)
        rollout.deploy(phases=SHORT, thresholds=LENIENT)

        def judged() -> dict[str, Any] | None:
            found = rollout.get()
            return found if found.get("waiting") == "verdict" else None

        record = eventually(judged, "a verdict after the phase's time", 20)
        assert record is not None
        assert (record["status"], record["currentPhase"]) == ("InProgress", 0)
        assert (record["verdict"]["kind"], record["verdict"]["requestsNeeded"]) == ("Hold", 20)
        with Traffic([node.proxy_port], rate=400) as traffic:
            record = rollout.reaches("Completed", within=110)
            traffic.more(50)
            before = traffic.count("v1")
            traffic.more(300)
            assert traffic.count("v1") == before, "all traffic is on the new version"
        traffic.check_nothing_was_lost()
    assert [phase["status"] for phase in record["phases"]] == ["Completed"] * 3
    assert rollout.live()["version"] == "2.0"
    assert Api(node).metric("gateway_requests_lost_total") == 0


def test_shares_are_exact_and_moved_by_hand_and_by_nothing_else(node: Node, stable: str) -> None:
    with versioned("v2") as candidate:
        rollout = Rollout(Api(node), stable, candidate)
        with Traffic([node.proxy_port], rate=500) as traffic:
            rollout.deploy(phases=LONG)
            check_nobody_else_may_change(rollout)
            eventually(lambda: traffic.count("v2") > 0, "traffic on the canary arm")
            for share in (10, 35, 80):
                if share != 10:
                    rollout.command("promote", targetPercentage=share)
                traffic.more(100)
                seen = traffic.more(1000)
                part = 100 * seen["v2 200"] / sum(seen.values())
                assert part == pytest.approx(share, abs=2.5)
            rollout.command("pause")
            rollout.reaches("Paused")
            seen = traffic.more(500)
            assert seen["v2 200"] / sum(seen.values()) == pytest.approx(0.8, abs=0.04), "paused, not undone"
            with pytest.raises(HTTPError) as refused:
                rollout.command("pause")
            assert refused.value.code == 409
            rollout.command("resume")
            rollout.command("rollback", reason="enough")
            rollout.reaches("RolledBack")
            traffic.more(50)
            check_returned(rollout, traffic)
        traffic.check_nothing_was_lost()


def test_it_survives_the_process_that_drives_it(start_node: Callable[..., Node], stable: str) -> None:
    node = start_node()
    with versioned("v2", delay=0.004) as candidate:
        rollout = Rollout(Api(node), stable, candidate)
        with Traffic([node.proxy_port], rate=300) as traffic:
            rollout.deploy(phases=SHORT, thresholds=LENIENT)
            eventually(lambda: rollout.get()["currentPhase"] == 1, "the second phase", 60)
            rollout.command("promote", targetPercentage=75)
            node.process.kill()
            node.process.wait()
            traffic.more(100)
            heir = start_node("--proxy", f"127.0.0.1:{node.proxy_port}")
            rollout.api = Api(heir)
            assert rollout.get()["trafficPercentage"] >= 75
            rollout.reaches("Completed", within=110)
        traffic.check_nothing_was_lost()


def test_blue_green_tests_first_and_direct_and_rolling_replace(node: Node, backends: list[Backend]) -> None:
    old, new = backends
    broken = ok(b"broken", status=b"500 Internal Server Error")
    new.script = lambda request: broken if request.target == "/ready" else ok(b"b")
    urls = [f"http://127.0.0.1:{backend.port}" for backend in backends]
    rollout = Rollout(Api(node), *urls, pathPattern="/**")
    blue_green = {"strategy": "BlueGreen", "smokeTests": [{"path": "/ready"}]}
    rollout.deploy(**blue_green)
    failed = rollout.reaches("Failed")
    assert "GET /ready: status 500 instead of 200" in failed["message"]
    assert {request.target for request in new.requests} == {"/ready"}
    new.script = lambda _request: ok(b"b")
    with Load(node.proxy_port, lambda n, i: f"/{n}/{i}", 2) as load:
        rollout.deploy(**blue_green)
        eventually(lambda: rollout.get()["trafficPercentage"] == 100, "the switch")
        eventually(lambda: any(one.target != "/ready" for one in new.requests), "the node follows")
        answered, switched = len(old.requests), len(new.requests)
        eventually(lambda: load.failures or len(new.requests) > switched + 20, "only the new version")
        assert len(old.requests) <= answered + 2, "but for what was in flight"
        rollout.command("rollback", reason="a test")
        assert rollout.live()["version"] == "1.0"
        for strategy, version in (("Rolling", "2.0"), ("Direct", "1.0")):
            rollout.deploy(strategy=strategy, configVersion=version)
            rollout.reaches("Completed")
            assert rollout.live()["version"] == version
    assert load.failures == []
