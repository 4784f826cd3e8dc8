"""What people may order, and what is refused with which words."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from deploy.rollout import ANN, BOB, ROUTE, World, ended, good, stage, world
from sqlalchemy import Connection

from hotswap_proxy.control.edits import check_rename
from hotswap_proxy.errors import Conflict, Forbidden, NotFound, ValidationFailed
from hotswap_proxy.model.deployment import DeploymentCreate
from hotswap_proxy.store import BackendWrite, StoreChanges, changes, deployments, revisions
from hotswap_proxy.store.audit import AuditFilter, Author, page

pytestmark = pytest.mark.anyio


async def test_one_at_a_time_for_each_route(one: World) -> None:
    made = await one.create()
    with pytest.raises(Conflict, match=f"deployment {made.deployment_id} of users is InProgress"):
        await one.create()
    with pytest.raises(Conflict):
        await one.orders._store.write(deployments.add, made.model_copy(update={"deployment_id": "dep-2"}))
    await one.orders.roll_back(made.deployment_id, ANN, "no")
    assert (await one.create()).status == "InProgress"


async def test_of_many_at_the_same_moment_one_begins(one: World) -> None:
    results = await asyncio.gather(*(one.create() for _ in range(5)), return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert all(isinstance(result, Conflict) for result in results if isinstance(result, BaseException))


async def test_what_cannot_be_deployed(one: World) -> None:
    with pytest.raises(NotFound):
        await one.create(routeId="rt-9")
    with pytest.raises(ValidationFailed, match=r"configVersion: there is no version 9\.9 of route users"):
        await one.create(configVersion="9.9")
    for live in ("1.0", "live"):
        with pytest.raises(Conflict, match=r"version 1\.0 of route users is live already"):
            await one.create(configVersion=live)
    with pytest.raises(
        ValidationFailed, match="environment: route users is served in Development, not in QA"
    ):
        await one.create(environment="QA")
    one.follower.refuses = ValidationFailed("backends[0].url: the name cannot be resolved")
    with pytest.raises(ValidationFailed, match="cannot be resolved"):
        await one.create()
    one.follower.refuses = None
    by_name = await one.create(routeId=None, routeName="users")
    assert by_name.route_id == "rt-1"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pathPattern", "/people/**"),
        ("methods", ["GET"]),
        ("hosts", ["a.example"]),
        ("priority", 5),
        ("isEnabled", False),
        ("environment", "Development"),
    ],
)
async def test_versions_for_other_requests_are_deployed_by_direct_alone(
    one: World, field: str, value: Any
) -> None:
    await stage(one.store, ROUTE | {"version": "3.0", field: value})
    with pytest.raises(ValidationFailed, match=f"{field} differs; only the strategy Direct") as refused:
        await one.create(configVersion="3.0")
    assert refused.value.details[0].rule == "matching"
    made = await one.create("Direct", configVersion="3.0")
    assert (await one.until(made, ended, limit=3)).status == "Completed"


async def test_a_name_that_was_taken_meanwhile_does_not_break_the_turn(one: World) -> None:
    await stage(one.store, ROUTE | {"version": "3.0", "name": "people"})
    made = await one.create(configVersion="3.0")

    from hotswap_proxy.control.changeset import route_write
    from hotswap_proxy.store import StoreChanges, changes

    other = ROUTE | {"routeId": "rt-2", "name": "people", "pathPattern": "/people"}
    other["backends"] = [dict(ROUTE["backends"][0], backendId="rt-2:old")]
    await one.store.write(changes.write, StoreChanges(routes=[route_write(other, is_new=True)]), ANN)
    done = await one.until(made, ended, good)
    assert done.status == "Failed" and "the name people" in done.message and await one.live() == "1.0"


async def test_production_takes_two_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch, environment="Production") as one:
        made = await one.create()
        assert (made.status, made.approval_status) == ("Pending", "Pending")
        for _ in range(3):
            await one.tick()
        assert (await one.get(made.deployment_id)).status == "Pending"
        with pytest.raises(Forbidden, match="ann created deployment"):
            await one.orders.approve(made.deployment_id, ANN)
        with pytest.raises(Forbidden):
            # The same human under another name: an API key, or a renamed user.
            await one.orders.approve(made.deployment_id, Author("ann's key", ANN.user_id))
        with pytest.raises(Conflict, match="is Pending; promote is not possible"):
            await one.orders.promote(made.deployment_id, BOB)
        approved = await one.orders.approve(made.deployment_id, BOB)
        assert (approved.status, approved.approval_status) == ("Approved", "Approved")
        assert approved.approved_by is not None and approved.approved_by.username == "bob"
        with pytest.raises(Conflict, match="is Approved; approve is not possible"):
            await one.orders.approve(made.deployment_id, BOB)
        await one.tick()
        started = await one.get(made.deployment_id)
        assert (started.status, started.traffic_percentage) == ("InProgress", 10)
        await one.orders.roll_back(made.deployment_id, ANN, "no")

        rejected = await one.orders.reject((await one.create()).deployment_id, BOB, "not on a Friday")
        assert (rejected.status, rejected.approval_status) == ("Failed", "Rejected")
        assert "rejected by bob: not on a Friday" in rejected.message

        withdrawn = await one.orders.roll_back((await one.create()).deployment_id, ANN, "found a bug")
        assert withdrawn.status == "RolledBack" and "withdrawn by ann before it began" in withdrawn.message

        direct = await one.create("Direct")
        assert await one.live() == "1.0"
        await one.orders.approve(direct.deployment_id, BOB)
        assert (await one.until(direct, ended, limit=4)).status == "Completed"
        assert await one.live() == "2.0"


async def test_a_route_of_production_takes_two_people_on_any_node(one: World) -> None:
    await stage(one.store, ROUTE | {"version": "3.0", "environment": "Production"})
    made = await one.create("Direct", configVersion="3.0")
    assert made.status == "Pending"


async def test_a_dry_run_checks_and_writes_nothing(one: World) -> None:
    from hotswap_proxy.model.deployment import DeploymentCreate

    request = DeploymentCreate(routeId="rt-1", configVersion="2.0", strategy="Canary")
    revision = await one.store.read(revisions.current)
    would = await one.orders.create(request, ANN, dry_run=True)
    assert would.status == "InProgress" and [phase.traffic_percentage for phase in would.phases] == [
        10,
        50,
        100,
    ]
    assert await one.store.read(deployments.get, would.deployment_id) is None
    made = await one.create()
    with pytest.raises(Conflict):
        await one.orders.create(request, ANN, dry_run=True)
    told = list(one.told)
    assert (await one.orders.roll_back(made.deployment_id, ANN, "x", dry_run=True)).status == "RolledBack"
    assert (await one.get(made.deployment_id)).status == "InProgress" and one.told == told
    assert await one.store.read(revisions.current) == revision + 1, "of the one that was made"


async def test_unknown_and_ended_deployments(one: World) -> None:
    with pytest.raises(NotFound):
        await one.orders.pause("dep-9", ANN)
    made = await one.create()
    await one.orders.roll_back(made.deployment_id, ANN, "no")
    for order in (one.orders.pause, one.orders.resume, one.orders.promote, one.orders.roll_back):
        with pytest.raises(Conflict, match=r"is RolledBack; .* is not possible \(it has ended\)"):
            await order(made.deployment_id, ANN)


async def test_what_shares_are_promoted_to(three: World) -> None:
    made = await three.create("Rolling")
    with pytest.raises(ValidationFailed, match="Rolling"):
        await three.orders.promote(made.deployment_id, ANN, 50.0)
    assert (await three.orders.promote(made.deployment_id, ANN)).nodes_done == ["n1", "n2"]
    await three.orders.roll_back(made.deployment_id, ANN, "no")
    made = await three.create("BlueGreen")
    with pytest.raises(ValidationFailed, match="BlueGreen has no shares to choose"):
        await three.orders.promote(made.deployment_id, ANN, 50.0)
    assert (await three.orders.promote(made.deployment_id, ANN, 100.0)).traffic_percentage == 100


async def test_every_order_is_in_the_audit_log_by_who_gave_it(one: World) -> None:
    made = await one.create()
    await one.orders.pause(made.deployment_id, BOB)
    await one.orders.resume(made.deployment_id, ANN)
    await one.orders.promote(made.deployment_id, BOB, 100.0)
    await one.orders.promote(made.deployment_id, BOB)

    def read(connection: Connection) -> list[tuple[str, str]]:
        entries, _ = page(connection, AuditFilter(entity_type="deployment"), 50, 0)
        return [(entry["action"], entry["username"]) for entry in reversed(entries)]

    assert await one.store.read(read) == [
        ("deployment.create", "ann"),
        ("deployment.start", "ann"),
        ("deployment.pause", "bob"),
        ("deployment.resume", "ann"),
        ("deployment.promote", "bob"),
        ("deployment.complete", "bob"),
    ]


async def test_nodes_are_told_only_when_they_have_something_to_do(one: World) -> None:
    made = await one.create()
    revision = await one.store.read(revisions.current)
    await one.orders.pause(made.deployment_id, ANN)
    await one.orders.resume(made.deployment_id, ANN)
    await one.serve(made, *good(made))
    for _ in range(3):
        await one.tick()
    assert await one.store.read(revisions.current) == revision
    await one.orders.promote(made.deployment_id, ANN)
    assert await one.store.read(revisions.current) == revision + 1


async def test_only_the_newest_that_ended_are_kept(one: World) -> None:
    made = await one.create()
    await one.orders.roll_back(made.deployment_id, ANN, "no")
    old = await one.get(made.deployment_id)

    def fill(connection: Connection) -> int:
        for number in range(12):
            at = f"2020-01-{number + 1:02}T00:00:00.000000Z"
            deployments.add(
                connection, old.model_copy(update={"deployment_id": f"dep-{number}", "created_at": at})
            )
        return deployments.prune(connection, kept=5)

    assert await one.store.write(fill) == 8
    wanted = deployments.DeploymentFilter(is_active=False)
    found, total = await one.store.read(deployments.page, wanted, 20, 0)
    assert total == 5 and [each.deployment_id for each in found] == [
        made.deployment_id, "dep-11", "dep-10", "dep-9", "dep-8",
    ]  # fmt: skip


async def test_who_was_removed_and_made_anew_is_the_same_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch, environment="Production") as one:
        made = await one.create()
        for order in (one.orders.approve, one.orders.reject):
            with pytest.raises(Forbidden, match="ann created deployment"):
                await order(made.deployment_id, Author("ann", "usr-ann-2"))


async def test_a_node_of_development_is_no_way_around_approval(three: World) -> None:
    """A route without an environment is served by the node of Production as well."""
    three.environments["n3"] = "Production"
    await three.beat()
    made = await three.create("Direct")
    assert (made.status, made.environment) == ("Pending", "Production")
    with pytest.raises(ValidationFailed, match="is served in Production, not in Development"):
        await three.create("Direct", environment="Development")


def _registered(store_changes: StoreChanges, backend_id: str) -> StoreChanges:
    document = {"backendId": backend_id, "name": backend_id, "url": "http://127.0.0.1:9003"}
    text = orjson.dumps(document | {"weight": 100, "isEnabled": True}).decode()
    store_changes.backends.append(
        BackendWrite(
            is_new=True,
            backend_id=backend_id,
            name=backend_id,
            document=text,
            is_enabled=True,
            etag="e",
            dns_names=None,
        )
    )
    return store_changes


HEADER_BASED = {
    "strategy": "HeaderBased",
    "strategyConfig": {"headerName": "X-V", "routingRules": {"new": "be-1"}, "defaultBackend": "be-1"},
    "backends": [{"backendId": "be-1"}],
}


async def test_backends_of_both_versions_stay_as_they_are_called(three: World) -> None:
    await three.store.write(changes.write, _registered(StoreChanges(), "be-1"), ANN)
    await stage(three.store, ROUTE | HEADER_BASED | {"version": "3.0"})
    gone = StoreChanges(removed_backends=["be-1"])
    forward = await three.create(configVersion="3.0")
    with pytest.raises(Conflict, match=r"version 3\.0 of route users, which deployment dep-"):
        await three.store.read(check_rename, "be-1", "be-1")
    with pytest.raises(Conflict, match=r"used by version 3\.0"):
        await three.store.write(changes.write, gone, ANN)
    assert (await three.orders.promote(forward.deployment_id, ANN, 100.0)).is_active
    await three.orders.promote(forward.deployment_id, ANN)
    assert await three.live() == "3.0"

    three.hangs.add("n3")
    back = await three.create("Direct", configVersion="1.0")  # be-1 is what an undo of it returns to
    with pytest.raises(Conflict, match=r"used by version 3\.0"):
        await three.store.write(changes.write, gone, ANN)
    await three.orders.roll_back(back.deployment_id, ANN, "wrong one")
    assert await three.live() == "3.0"


async def test_a_version_whose_backend_is_gone_cannot_go_live(one: World) -> None:
    await stage(one.store, ROUTE | {"version": "3.0", "backends": [{"backendId": "be-9"}]})
    made = await one.create(configVersion="3.0")
    done = await one.until(made, ended, good)
    assert done.status == "Failed" and "backend be-9 of version 3.0" in done.message


@pytest.mark.parametrize(
    "headers", [{"X": "a\r\nX-Admin: 1"}, {"X\r\nY": "a"}, {"Transfer-Encoding": "chunked"}, {"X": "ä"}]
)
def test_headers_of_smoke_tests_are_headers(headers: dict[str, str]) -> None:
    asked = {"routeId": "rt-1", "configVersion": "2.0", "strategy": "BlueGreen"}
    with pytest.raises(ValueError, match="header_"):
        DeploymentCreate.model_validate(asked | {"smokeTests": [{"headers": headers}]})
