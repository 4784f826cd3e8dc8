"""What a deployment that does not go well promises, through a running node with two workers, under load."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any
from urllib.error import HTTPError

import pytest
from e2e.conftest import Api
from e2e.rollout import LONG, Rollout, Traffic, check_returned, versioned

from tests.node import Node
from tests.processes import eventually


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


def test_without_traffic_the_verdict_is_hold(node: Node, stable: str) -> None:
    with versioned("v2") as candidate:
        rollout = Rollout(Api(node), stable, candidate)
        rollout.deploy(phases=[{"trafficPercentage": 10, "duration": "1s"}, *LONG[1:]])

        def judged() -> dict[str, Any] | None:
            found = rollout.get()
            return found if found.get("waiting") == "verdict" else None

        record = eventually(judged, "a verdict after the phase's time", 20)
        assert record is not None
        assert (record["status"], record["currentPhase"]) == ("InProgress", 0)
        assert record["verdict"]["kind"] == "Hold"
        assert record["verdict"]["requestsNeeded"] >= 30


def test_one_active_deployment_for_a_route(node: Node, stable: str) -> None:
    with versioned("v2") as candidate:
        rollout = Rollout(Api(node), stable, candidate)
        deployment = rollout.deploy(phases=LONG)
        for attempt in (
            lambda: rollout.api.call(
                "POST",
                "/gateway/deployments",
                {"routeId": rollout.route_id, "configVersion": "2.0", "strategy": "Direct"},
            ),
            lambda: rollout.api.call("PUT", f"/gateway/routes/{rollout.route_id}", {"timeoutSeconds": 7}),
            lambda: rollout.api.call("DELETE", f"/gateway/routes/{rollout.route_id}"),
        ):
            with pytest.raises(HTTPError) as refused:
                attempt()
            assert refused.value.code == 409
            assert deployment in refused.value.read().decode()
