"""Exactly one process drives; killed at any write, another one comes to the same end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deploy.rollout import ANN, BOB, PHASES, World, bad, ended, good, world
from sqlalchemy import Connection

from hotswap_proxy.deploy.engine import Engine
from hotswap_proxy.deploy.lease import MARGIN, TTL, Leadership
from hotswap_proxy.deploy.record import Deployment
from hotswap_proxy.deploy.writing import LEASE, write
from hotswap_proxy.errors import Conflict, StoreUnavailable
from hotswap_proxy.store import Store, deployments, leases, revisions
from hotswap_proxy.store.leases import LeaseLost

pytestmark = pytest.mark.anyio


class Killed(BaseException):
    """Not an Exception: nothing that runs may survive it."""


class DyingStore:
    """Dies at the n-th ``write``: before it, in its transaction after all statements, or after the commit."""

    def __init__(self, store: Store, at: int, moment: str) -> None:
        self._store = store
        self.left = at
        self._moment = moment
        self.read, self.beat = store.read, store.beat

    async def write(self, query: Callable[..., Any], /, *args: Any) -> Any:
        self.left -= 1
        if self.left:
            return await self._store.write(query, *args)
        if self._moment == "before":
            raise Killed
        if self._moment == "after":
            await self._store.write(query, *args)
            raise Killed

        def dying(connection: Connection) -> None:
            query(connection, *args)
            raise Killed

        return await self._store.write(dying)


class Rollout:
    """What is rolled out, and with which traffic."""

    def __init__(self, traffic: Any, strategy: str = "Canary", **fields: Any) -> None:
        self.traffic, self.strategy, self.fields = traffic, strategy, fields


SHORT = [phase | {"duration": "4s"} for phase in PHASES]
ROLLOUTS = {
    "canary": Rollout(good, phases=SHORT),
    "canary condemned": Rollout(bad),
    "blue-green": Rollout(good, "BlueGreen", keepStable="5s"),
    "rolling": Rollout(good, "Rolling"),
    "direct": Rollout(good, "Direct"),
}


async def drive(made: World, rollout: Rollout, at: int, moment: str) -> tuple[Deployment, list[str], bool]:
    """To the end, by an engine that dies at its n-th write and the one that takes over: the record, the audit
    log of the deployment, whether it died.
    """
    dying = DyingStore(made.store, at, moment)
    engine = made.new_engine("one", dying)  # type: ignore[arg-type]
    deployment = await made.create(rollout.strategy, **rollout.fields)
    died = False
    for _ in range(120):
        deployment = await made.get(deployment.deployment_id)
        if not deployment.is_active:
            break
        if deployment.is_under_way:
            await made.serve(deployment, *rollout.traffic(deployment))
        try:
            await made.tick(engine=engine)
        except Killed:
            died = True
            engine = made.new_engine("two")
            await made.tick(engine=engine)
            assert made.leadership.fencing is None, "the dead one's lease goes on for a while"
            made.clock.now += TTL
    audited = await made.store.read(_audited, deployment.deployment_id)
    return deployment, audited, died


def _audited(connection: Connection, deployment_id: str) -> list[str]:
    from hotswap_proxy.store.audit import AuditFilter, page

    entries, _ = page(connection, AuditFilter(entity_id=deployment_id), 100, 0)
    return [entry["action"] for entry in entries][::-1]


def outcome(deployment: Deployment, audited: list[str]) -> Any:
    events = [event.event for event in deployment.events if event.event != "hold"]
    phases = [(phase.name, phase.status) for phase in deployment.phases]
    assert audited == [f"deployment.{event.event}" for event in deployment.events], "each once"
    return deployment.status, deployment.traffic_percentage, events, phases


@pytest.mark.parametrize("name", ROLLOUTS)
async def test_killed_at_every_write_another_engine_comes_to_the_same_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = ROLLOUTS[name]
    nodes = ("n1", "n2", "n3")

    async def run(at: int, moment: str) -> tuple[Any, str, bool]:
        directory = tmp_path / f"{at}-{moment}"
        directory.mkdir()
        async with world(directory, monkeypatch, *nodes) as made:
            deployment, audited, died = await drive(made, rollout, at, moment)
            return outcome(deployment, audited), await made.live(), died

    expected = await run(1_000_000, "before")
    assert not expected[2]
    assert expected[0][0] == ("RolledBack" if rollout.traffic is bad else "Completed")
    kills = 0
    for moment in ("before", "within", "after"):
        at = 1
        while True:
            *found, died = await run(at, moment)
            assert found == list(expected[:2]), f"killed {moment} write {at}"
            if not died:
                break
            # Writes of the verdict alone are many, and all the same.
            kills += 1
            at += 1 if at < 4 else 3
    assert kills >= 3


async def test_of_two_engines_only_one_drives(one: World) -> None:
    first = one.engine
    second = one.new_engine("two")
    made = await one.create()
    await one.tick(engine=first)
    driven = {"first": 0, "second": 0}
    deployment = made
    for _ in range(60):
        deployment = await one.get(made.deployment_id)
        if not deployment.is_active:
            break
        await one.serve(deployment, *good(deployment))
        for name, engine in (("second", second), ("first", first)):
            before = await one.store.read(deployments.get, made.deployment_id)
            await one.tick(0.5, engine)
            driven[name] += await one.store.read(deployments.get, made.deployment_id) != before
    assert deployment.status == "Completed"
    assert driven["second"] == 0 and driven["first"] >= 3
    assert one.told.count("deployment.completed") == 1


async def test_a_lease_is_taken_over_after_it_has_run_out(one: World) -> None:
    first = Leadership(one.store, "test", "one", clock=one.clock.monotonic)
    second = Leadership(one.store, "test", "two", clock=one.clock.monotonic)
    assert (await first.keep(), await second.keep()) == (1, None)
    one.clock.now += 5
    assert (await first.keep(), await second.keep()) == (1, None), "renewed"
    one.clock.now += TTL - MARGIN
    assert first.fencing is None, "it stops before another one may begin"
    assert await second.keep() is None
    one.clock.now += MARGIN
    assert await second.keep() == 2
    assert await first.keep() is None
    await second.release()
    assert await first.keep() == 3


async def test_who_cannot_renew_stops_by_its_own_clock(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await one.create()
    await one.tick()

    async def unreachable(*_args: Any) -> None:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(one.store, "beat", unreachable)
    leadership = one.leadership
    assert leadership.fencing is not None
    with pytest.raises(StoreUnavailable):
        await leadership.keep()
    one.clock.now += TTL - MARGIN
    assert leadership.fencing is None
    await one.engine.tick()  # writes nothing
    assert (await one.get(made.deployment_id)).current_phase == 0


async def test_the_write_of_an_old_holder_is_refused(one: World) -> None:
    made = await one.create()
    await one.tick()
    fencing = one.leadership.fencing
    assert fencing == 1
    found = await one.store.read(deployments.get, made.deployment_id)
    assert found is not None
    one.clock.now += TTL
    taken = await one.store.beat(leases.take, LEASE, "two", TTL)
    assert taken is not None and taken.fencing == 2
    revision = await one.store.read(revisions.current)
    changed = found.deployment.model_copy(update={"traffic_percentage": 99.0})
    with pytest.raises(LeaseLost):
        await one.store.write(write, found, changed, BOB, one.targets["route"], fencing)
    assert await one.store.read(deployments.get, made.deployment_id) == found
    assert await one.store.read(revisions.current) == revision


async def test_an_old_holder_that_was_asleep_in_its_turn_finds_out(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks, sleeps for a minute (its clock with it), and writes."""
    made = await one.create()

    class Stopped:
        read, beat = one.store.read, one.store.beat

        async def write(self, query: Any, /, *args: Any) -> Any:
            one.clock.now += 60
            assert await one.store.beat(leases.take, LEASE, "two", TTL) is not None
            return await one.store.write(query, *args)

    engine = one.new_engine("one", Stopped())  # type: ignore[arg-type]
    await one.serve(made, *bad(made))
    before = await one.get(made.deployment_id)
    await one.tick(engine=engine)
    assert await one.get(made.deployment_id) == before
    assert engine._leadership.fencing is None


async def test_an_order_that_is_killed_was_carried_out_or_not(one: World) -> None:
    """The record is that from before or that from after, with everything that belongs to it."""
    made = await one.create(autoPromote=False)
    for moment, expected in (("before", 10.0), ("within", 10.0), ("after", 50.0)):
        one.orders._store = DyingStore(one.store, 1, moment)  # type: ignore[assignment]
        with pytest.raises(Killed):
            await one.orders.promote(made.deployment_id, ANN)
        now = await one.get(made.deployment_id)
        assert now.traffic_percentage == expected
        audited = await one.store.read(_audited, made.deployment_id)
        assert audited == [f"deployment.{event.event}" for event in now.events]


async def test_an_order_is_tried_again_when_the_engine_was_faster(one: World) -> None:
    made = await one.create()
    real = one.store
    races = 0

    class Racing:
        read, rehearse = real.read, real.rehearse

        async def write(self, query: Any, /, *args: Any) -> Any:
            nonlocal races
            if races:
                races -= 1
                from hotswap_proxy.store import Outdated

                raise Outdated
            return await real.write(query, *args)

    one.orders._store = Racing()  # type: ignore[assignment]
    races = 1
    assert (await one.orders.pause(made.deployment_id, ANN)).status == "Paused"
    races = 2
    with pytest.raises(Conflict, match="changes faster"):
        await one.orders.resume(made.deployment_id, ANN)


async def test_one_that_cannot_be_driven_does_not_stop_the_others(one: World) -> None:
    made = await one.create()
    real = Engine._step
    seen = []

    async def step(self: Engine, deployment_id: str, fencing: int) -> None:
        seen.append(deployment_id)
        if deployment_id == "dep-0":
            raise RuntimeError("broken")
        await real(self, deployment_id, fencing)

    broken = made.model_copy(
        update={"deployment_id": "dep-0", "route_id": "rt-0", "created_at": "2020-01-01T00:00:00.000000Z"}
    )
    await one.store.write(deployments.add, broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "_step", step)
        await one.tick()
    assert seen == ["dep-0", made.deployment_id]


async def test_a_deployment_whose_route_is_gone_fails_with_a_sentence(one: World) -> None:
    made = await one.create()

    def drop(connection: Connection) -> None:
        from sqlalchemy import delete

        from hotswap_proxy.store.tables import routes

        connection.execute(delete(routes))

    await one.store.write(drop)
    done = await one.until(made, ended, limit=2)
    assert done.status == "Failed" and "route users is gone" in done.message


async def test_an_order_that_came_within_a_turn_wins(one: World) -> None:
    """The engine looks, somebody pauses the deployment, the engine writes: nothing of the order is lost."""
    made = await one.create(phases=SHORT)
    await one.serve(made, *good(made))
    real = one.store

    class Slow:
        read, beat = real.read, real.beat

        async def write(self, query: Any, /, *args: Any) -> Any:
            await one.orders.pause(made.deployment_id, BOB)
            return await real.write(query, *args)

    engine = one.new_engine("one", Slow())  # type: ignore[arg-type]
    await one.tick(5.0, engine)
    found = await one.get(made.deployment_id)
    assert (found.status, found.events[-1].event, found.current_phase) == ("Paused", "pause", 0)
    assert engine._leadership.fencing is not None, "it goes on driving"


async def test_a_clock_that_was_set_back_keeps_nobody_out(one: World) -> None:
    first = Leadership(one.store, "test", "one", clock=one.clock.monotonic)
    second = Leadership(one.store, "test", "two", clock=one.clock.monotonic)
    assert await first.keep() == 1
    one.clock.now -= 1
    assert await second.keep() is None, "a correction is no reason to take over"
    one.clock.now -= 3600
    assert await second.keep() == 2
    assert await first.keep() is None
