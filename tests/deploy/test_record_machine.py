"""Orders, turns of the engine, traffic and crashes in any order: what must hold of the record holds."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from deploy.rollout import ANN, BOB, ROUTE, Smokes, World, bad, good, world
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hotswap_proxy.deploy.exposure import share_of
from hotswap_proxy.deploy.facts import Smoke
from hotswap_proxy.deploy.record import Deployment
from hotswap_proxy.deploy.transitions import ENDED
from hotswap_proxy.errors import Conflict, Forbidden, ValidationFailed
from hotswap_proxy.store import deployments

STRATEGIES = ("Canary", "BlueGreen", "Rolling", "Direct", "ABTest")
REFUSED = (Conflict, Forbidden, ValidationFailed)


class Rollouts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.seen: list[Deployment] = []  # the newest of each

    @initialize(production=st.booleans())
    def start(self, production: bool) -> None:
        environment = {"environment": "Production"} if production else {}
        self.context = world(self.directory, self.patch, "n1", "n2", "n3", **environment)
        self.world: World = self.run(self.context.__aenter__())
        if production:
            self.world.environments = dict.fromkeys(self.world.nodes, "Production")
            self.run(self.world.beat())
        self.live = "1.0"

    def teardown(self) -> None:
        if hasattr(self, "context"):
            self.run(self.context.__aexit__(None, None, None))
        self.runner.close()
        self.patch.undo()
        shutil.rmtree(self.directory)

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def active(self) -> bool:
        return bool(self.seen) and self.seen[-1].is_active

    def look(self) -> None:
        """Read all records, and compare them with what was known of them."""
        world = self.world
        for index, old in enumerate(self.seen):
            new = self.run(world.get(old.deployment_id))
            if old.status in ENDED:
                assert new == old, "what has ended stays as it is"
            assert new.events[: len(old.events)] == old.events, "what has happened is not forgotten"
            assert new.windows >= old.windows and new.current_phase >= old.current_phase
            self.seen[index] = new

    # --- what happens ----------------------------------------------------------------------------------

    @rule(strategy=st.sampled_from(STRATEGIES), auto=st.booleans())
    def create(self, strategy: str, auto: bool) -> None:
        was_active = self.active()
        target = "2.0" if self.run(self.world.live()) == "1.0" else "1.0"
        try:
            made = self.run(self.world.create(strategy, configVersion=target, autoPromote=auto))
        except Conflict:
            assert was_active
            return
        assert not was_active, "one at a time"
        self.seen.append(made)

    @precondition(active)
    @rule(
        order=st.sampled_from(["approve", "reject", "pause", "resume", "promote", "roll_back"]),
        by=st.sampled_from([ANN, BOB]),
    )
    def order(self, order: str, by: Any) -> None:
        before = self.seen[-1]
        arguments = ["a reason"] if order in ("reject", "roll_back") else []
        try:
            after = self.run(getattr(self.world.orders, order)(before.deployment_id, by, *arguments))
        except REFUSED:
            assert self.run(self.world.get(before.deployment_id)) == before, "nothing is written then"
            return
        assert order != "approve" or by is BOB
        assert after == self.run(self.world.get(before.deployment_id))

    @precondition(active)
    @rule(share=st.sampled_from([1.0, 10.0, 33.33, 50.0, 75.0, 100.0]))
    def promote_to(self, share: float) -> None:
        before = self.seen[-1]
        try:
            after = self.run(self.world.orders.promote(before.deployment_id, ANN, share))
        except REFUSED:
            return
        assert after.traffic_percentage == share >= before.traffic_percentage

    @precondition(active)
    @rule(traffic=st.sampled_from([good, bad]), turns=st.integers(1, 4))
    def serve(self, traffic: Any, turns: int) -> None:
        for _ in range(turns):
            deployment = self.run(self.world.get(self.seen[-1].deployment_id))
            if deployment.is_under_way:
                self.run(self.world.serve(deployment, *traffic(deployment)))
            self.turn(1.0)

    @rule(seconds=st.sampled_from([0.0, 1.0, 7.0, 61.0]))
    def turn(self, seconds: float) -> None:
        self.run(self.world.tick(seconds))

    @rule()
    def take_over(self) -> None:
        """The engine is gone without a word, another one begins when its lease has run out."""
        self.world.clock.now += 6.0
        self.world.engine = self.world.new_engine(f"engine-{self.world.clock.now}")

    @rule(passed=st.booleans())
    def backends_change(self, passed: bool) -> None:
        self.patch.setattr(Smokes, "result", Smoke(passed, "as the test wants it"))

    # --- what always holds -----------------------------------------------------------------------------

    @invariant()
    def records_hold(self) -> None:
        if not hasattr(self, "world"):
            return
        self.look()
        active = [each for each in self.seen if each.is_active]
        assert len(active) <= 1
        found = self.run(self.world.store.read(deployments.active_on, "route", "rt-1"))
        assert (found.deployment if found else None) == (active[0] if active else None)
        for each in self.seen:
            self.holds(each)
        completed = [each for each in self.seen if each.status == "Completed"]
        last = completed[-1].config_version if completed else "1.0"
        direct = [each for each in active if each.strategy == "Direct" and each.is_under_way]
        assert self.run(self.world.live()) == (direct[0].config_version if direct else last)

    def holds(self, each: Deployment) -> None:
        phase = each.phase
        shares = [share_of(each, node) for node in self.world.nodes]
        if each.is_under_way:
            assert each.traffic_percentage <= phase.traffic_percentage, "never above the phase's share"
            assert phase.status == "InProgress"
            running = [one for one in each.phases if one.status == "InProgress"]
            assert running == [phase]
            if each.strategy == "Rolling":
                assert shares.count(10_000) == each.current_phase + 1
            elif each.strategy != "Direct":
                assert set(shares) == {round(each.traffic_percentage * 100)}
            assert each.environment != "Production" or each.approved_by is not None
        else:
            assert set(shares) == {0}
        percentages = [one.traffic_percentage for one in each.phases]
        assert percentages == sorted(percentages)
        assert (each.completed_at is not None) == (each.status in ENDED) == (each.measured is not None)
        if each.approved_by is not None:
            assert each.approved_by.user_id != each.created_by.user_id


assert ROUTE["version"] == "1.0"
TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
