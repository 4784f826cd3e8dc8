"""Whole rollouts, turn by turn."""

from __future__ import annotations

import pytest
from deploy.rollout import ANN, BOB, PHASES, Smokes, World, arm, bad, ended, good

from hotswap_proxy.deploy.exposure import share_of
from hotswap_proxy.deploy.facts import Smoke
from hotswap_proxy.deploy.record import Deployment
from hotswap_proxy.errors import ValidationFailed

pytestmark = pytest.mark.anyio


async def test_a_good_canary_completes(one: World) -> None:
    made = await one.create()
    assert (made.status, made.traffic_percentage, share_of(made, "n1")) == ("InProgress", 10, 1000)
    done = await one.until(made, ended, good)
    assert done.status == "Completed", done.message
    assert [phase.status for phase in done.phases] == ["Completed"] * 3
    assert await one.live() == "2.0"
    assert [event.event for event in done.events] == [
        "create", "start", "advance", "advance", "complete",
    ]  # fmt: skip
    assert one.told == [
        "deployment.created", "deployment.started", "deployment.promoted", "deployment.promoted",
        "deployment.completed",
    ]  # fmt: skip
    # The rows are gone, and what they said is still known.
    from hotswap_proxy.store import deployments

    assert await one.store.read(deployments.measured, made.deployment_id) == []
    total = await one.store.read(deployments.total, made.deployment_id)
    assert total.canary.requests > 10_000 and total.stable.requests > 10_000


async def test_a_candidate_that_fails_is_rolled_back_in_its_first_phase(one: World) -> None:
    made = await one.create()
    done = await one.until(made, ended, bad, limit=10)
    assert done.status == "RolledBack" and "by the judge" in done.message
    assert done.traffic_percentage == 0 and share_of(done, "n1") == 0
    assert [phase.status for phase in done.phases] == ["Failed", "Skipped", "Skipped"]
    assert await one.live() == "1.0"
    assert done.verdict is not None and done.verdict.kind == "Fail"
    assert one.told[-1] == "deployment.rolledBack"


async def test_a_candidate_that_becomes_slow_at_100_percent_is_rolled_back(one: World) -> None:
    def turning_slow(deployment: Deployment) -> tuple:  # type: ignore[type-arg]
        stable, canary = good(deployment)
        if deployment.traffic_percentage == 100:
            canary = arm(canary.requests, 0, us=10_240)
        return stable, canary

    made = await one.create()
    done = await one.until(made, ended, turning_slow)
    assert done.status == "RolledBack" and "p99" in done.message
    assert done.current_phase == 2 and await one.live() == "1.0"


async def test_without_traffic_it_is_held_and_says_so_once(one: World) -> None:
    made = await one.create()
    for _ in range(60):
        await one.tick()
    held = await one.get(made.deployment_id)
    assert (held.status, held.traffic_percentage, held.waiting) == ("InProgress", 10, "verdict")
    assert "0 of 30 requests" in held.message
    assert one.told.count("deployment.held") == 1
    done = await one.until(made, ended, good)
    assert done.status == "Completed"


async def test_a_paused_phase_keeps_its_remaining_time_and_is_judged(one: World) -> None:
    made = await one.create()

    async def serve(seconds: int) -> None:
        for _ in range(seconds):
            await one.serve(made, *good(await one.get(made.deployment_id)))
            await one.tick()

    await serve(6)
    paused = await one.orders.pause(made.deployment_id, ANN)
    assert paused.status == "Paused" and share_of(paused, "n1") == 1000
    await serve(30)
    assert (await one.get(made.deployment_id)).current_phase == 0
    await one.orders.resume(made.deployment_id, ANN)
    await serve(2)
    assert (await one.get(made.deployment_id)).current_phase == 0, "8 of 10 seconds"
    await serve(2)
    assert (await one.get(made.deployment_id)).current_phase == 1
    await one.orders.pause(made.deployment_id, ANN)
    condemned = await one.until(made, ended, bad, limit=10)
    assert condemned.status == "RolledBack" and "by the judge" in condemned.message


async def test_promotion_by_hand(one: World) -> None:
    made = await one.create(autoPromote=False)
    assert (await one.orders.promote(made.deployment_id, ANN, 10.0)).events == made.events, "no change"
    at = await one.orders.promote(made.deployment_id, ANN, 37.5)
    assert share_of(at, "n1") == 3750
    assert [(phase.traffic_percentage, phase.status) for phase in at.phases] == [
        (10, "Completed"), (37.5, "InProgress"), (50, "Pending"), (100, "Pending"),
    ]  # fmt: skip
    with pytest.raises(ValidationFailed, match=r"targetPercentage.*from 37\.5"):
        await one.orders.promote(made.deployment_id, ANN, 20.0)
    assert at.phase.duration == "10s"
    at = await one.orders.promote(made.deployment_id, ANN, 100.0)
    assert [phase.status for phase in at.phases] == ["Completed", "Completed", "Skipped", "InProgress"]
    done = await one.orders.promote(made.deployment_id, BOB)
    assert done.status == "Completed" and await one.live() == "2.0"
    assert done.events[-1].by is not None and done.events[-1].by.username == "bob"


async def test_without_auto_promotion_a_passed_phase_waits(one: World) -> None:
    made = await one.create(autoPromote=False)
    held = await one.until(made, lambda deployment: deployment.waiting is not None, good)
    assert held.waiting == "promotion" and "phase 10 % passed" in held.message
    for _ in range(20):
        await one.tick()
    assert (await one.get(made.deployment_id)).current_phase == 0
    resumed = await one.orders.promote(made.deployment_id, ANN)
    assert (resumed.current_phase, resumed.waiting) == (1, None)


async def test_blue_green_tests_switches_and_comes_back_warm(one: World) -> None:
    made = await one.create("BlueGreen", keepStable="20s")
    assert (made.traffic_percentage, made.phase.name) == (0, "smoke test")
    await one.serve(made, arm(5000, 50))
    switched = await one.until(made, lambda deployment: deployment.traffic_percentage == 100, good)
    assert Smokes.runs == 1 and "smoke test passed" in switched.message
    assert await one.live() == "1.0", "the way back stays"
    for _ in range(5):
        await one.serve(switched, *good(switched))
        await one.tick()
    back = await one.orders.roll_back(made.deployment_id, BOB, "checkout looks odd")
    assert back.status == "RolledBack" and "checkout looks odd" in back.message
    assert share_of(back, "n1") == 0 and await one.live() == "1.0"

    again = await one.create("BlueGreen", keepStable="20s")
    await one.serve(again, arm(5000, 50))
    done = await one.until(again, ended, good)
    assert done.status == "Completed" and await one.live() == "2.0"


async def test_a_failed_smoke_test_ends_blue_green_before_any_request(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Smokes, "result", Smoke(False, "smoke test of backend new: connection refused"))
    made = await one.create("BlueGreen")
    done = await one.until(made, ended, limit=5)
    assert done.status == "Failed" and "connection refused" in done.message
    assert [phase.status for phase in done.phases] == ["Failed", "Skipped"] and await one.live() == "1.0"


async def test_rolling_takes_node_after_node(three: World) -> None:
    three.active["n2"] = 3
    made = await three.create("Rolling", drainTimeout="20s")
    assert made.nodes == ["n1", "n2", "n3"]
    assert [share_of(made, node) for node in three.nodes] == [10_000, 0, 0]
    second = await three.until(made, lambda deployment: deployment.current_phase == 1, limit=5)
    assert [share_of(second, node) for node in three.nodes] == [10_000, 10_000, 0]
    for _ in range(8):
        await three.serve(made, node="n2")
        await three.tick()
    assert (await three.get(made.deployment_id)).current_phase == 1, "three requests are in flight"
    three.active["n2"] = 0
    await three.serve(made, node="n2")
    done = await three.until(made, ended, limit=6)
    assert done.status == "Completed", done.message
    assert Smokes.runs == 3 and await three.live() == "2.0"
    assert "node n2 drained" in " ".join(event.message for event in done.events)


async def test_rolling_does_not_wait_for_a_node_for_ever(three: World) -> None:
    three.active["n1"] = 1
    made = await three.create("Rolling", drainTimeout="5s")
    await three.serve(made, node="n1")
    moved = await three.until(made, lambda deployment: deployment.current_phase == 1, limit=8)
    assert "not drained in 5s" in moved.message
    three.nodes.remove("n2")  # it dies
    done = await three.until(made, ended, limit=20)
    assert done.status == "Completed"
    assert any("node n2 is away" in event.message for event in done.events)


async def test_rolling_stops_and_returns_when_a_node_fails(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await three.create("Rolling")
    await three.tick()
    monkeypatch.setattr(Smokes, "result", Smoke(False, "smoke test of backend new: status 500"))
    done = await three.until(made, ended, limit=6)
    assert done.status == "Failed" and "node n2: smoke test of backend new: status 500" in done.message
    assert [share_of(done, node) for node in three.nodes] == [0, 0, 0]
    assert [phase.status for phase in done.phases] == ["Completed", "Failed", "Skipped"]
    assert await three.live() == "1.0"


async def test_rolling_stops_at_a_node_that_does_not_follow(three: World) -> None:
    three.hangs.add("n1")
    made = await three.create("Rolling")
    done = await three.until(made, ended, limit=70)
    assert done.status == "Failed" and "node n1 does not serve the version after 60 s" in done.message


async def test_direct_replaces_the_version_and_ends_when_all_nodes_have_it(three: World) -> None:
    three.hangs.add("n3")
    made = await three.create("Direct")
    assert (made.status, await three.live()) == ("InProgress", "2.0")
    assert share_of(made, "n1") == 0, "there are no arms"
    await three.tick()
    assert (await three.get(made.deployment_id)).status == "InProgress"
    three.hangs.clear()
    done = await three.until(made, ended, limit=3)
    assert done.status == "Completed" and await three.live() == "2.0"


async def test_direct_is_undone_while_it_spreads(three: World) -> None:
    three.hangs.add("n3")
    made = await three.create("Direct")
    back = await three.orders.roll_back(made.deployment_id, ANN, "wrong one")
    assert back.status == "RolledBack" and await three.live() == "1.0"


async def test_an_ab_test_is_held_until_somebody_ends_it(one: World) -> None:
    made = await one.create("ABTest", canaryPercentage=30.0, assignment="ClientIP")
    assert share_of(made, "n1") == 3000
    for _ in range(30):
        await one.serve(made, *good(made))
        await one.tick(60.0)
    held = await one.get(made.deployment_id)
    assert (held.status, held.traffic_percentage, held.waiting) == ("InProgress", 30, "promotion")
    assert held.verdict is not None and held.verdict.kind == "Pass"
    wider = await one.orders.promote(made.deployment_id, ANN, 60.0)
    assert (share_of(wider, "n1"), wider.phase.duration) == (6000, None)
    done = await one.orders.promote(made.deployment_id, ANN)
    assert done.status == "Completed" and await one.live() == "2.0"


async def test_phases_have_to_make_sense(one: World) -> None:
    for phases, rule in (
        ([*PHASES[:2], {"trafficPercentage": 50}], "increasing"),
        (PHASES[:2], "last_phase"),
        ([{"trafficPercentage": share} for share in range(1, 22)], "length"),
        ([], "length"),
    ):
        with pytest.raises(ValidationFailed) as failed:
            await one.create(phases=phases)
        assert failed.value.details[0].rule == rule
    with pytest.raises(ValidationFailed, match="one split"):
        await one.create("ABTest", phases=PHASES[:2])
    with pytest.raises(ValidationFailed, match="no duration"):
        await one.create("ABTest", phases=PHASES[:1])


async def test_a_paused_direct_deployment_stays_paused(three: World) -> None:
    three.hangs.add("n3")
    made = await three.create("Direct")
    await three.orders.pause(made.deployment_id, ANN)
    three.hangs.clear()
    for _ in range(3):
        await three.tick()
    assert (await three.get(made.deployment_id)).status == "Paused"
    await three.orders.resume(made.deployment_id, ANN)
    assert (await three.until(made, ended, limit=3)).status == "Completed"


async def test_direct_names_the_node_that_does_not_follow(three: World) -> None:
    three.hangs.add("n3")
    made = await three.create("Direct")
    for _ in range(65):
        await three.tick()
    held = await three.get(made.deployment_id)
    assert (held.status, held.waiting) == ("InProgress", "promotion") and "node n3" in held.message
    assert sum(event.event == "hold" for event in held.events) == 1
    three.hangs.clear()
    assert (await three.until(made, ended, limit=3)).status == "Completed"


async def test_a_route_of_any_environment_goes_over_the_nodes_of_all(three: World) -> None:
    three.environments["n2"] = "QA"
    await three.beat()
    made = await three.create("Rolling")
    assert made.nodes == ["n1", "n2", "n3"]
    three.hangs.add("n2")
    done = await three.until(made, ended, limit=70)
    assert done.status == "Failed" and "node n2 does not serve the version" in done.message
