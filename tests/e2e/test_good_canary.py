"""A canary that is good, through a running node with two workers, under load: nobody notices."""

from __future__ import annotations

from collections.abc import Callable
from urllib.error import HTTPError

import pytest
from e2e.conftest import Api
from e2e.rollout import LENIENT, LONG, SHORT, Rollout, Traffic, check_returned, versioned

from tests.node import Node
from tests.processes import eventually

pytestmark = pytest.mark.timeout(300)


def test_a_good_candidate_completes_and_nobody_notices(node: Node, stable: str) -> None:
    with versioned("v2", delay=0.004) as candidate:
        rollout = Rollout(Api(node), stable, candidate)
        with Traffic([node.proxy_port], rate=400) as traffic:
            rollout.deploy(phases=SHORT, thresholds=LENIENT)
            record = rollout.reaches("Completed", within=110)
            traffic.more(50)
            before = traffic.count("v1")
            traffic.more(300)
            assert traffic.count("v1") == before, "all traffic is on the new version"
        traffic.check_nothing_was_lost()
    assert [phase["status"] for phase in record["phases"]] == ["Completed"] * 3
    assert rollout.live()["version"] == "2.0"
    assert Api(node).metric("gateway_requests_lost_total") == 0


def test_shares_are_exact_and_can_be_moved_by_hand(node: Node, stable: str) -> None:
    with versioned("v2") as candidate:
        rollout = Rollout(Api(node), stable, candidate)
        with Traffic([node.proxy_port], rate=500) as traffic:
            rollout.deploy(phases=LONG)
            rollout.reaches("InProgress")
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
            eventually(lambda: rollout.get()["currentPhase"] == 1, "the second phase", 100)
            node.process.kill()
            node.process.wait()
            traffic.more(100)
            heir = start_node("--proxy", f"127.0.0.1:{node.proxy_port}")
            rollout.api = Api(heir)
            rollout.reaches("Completed", within=110)
        traffic.check_nothing_was_lost()
