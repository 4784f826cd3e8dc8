"""Nodes that share a store come to serve the same, whoever changed what, and lose nobody's change."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, delete, insert, update

from hotswap_proxy.control import following
from hotswap_proxy.errors import Conflict, GatewayError, StoreUnavailable, Unavailable
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import revisions
from hotswap_proxy.store.revisions import Entry
from hotswap_proxy.store.tables import changes, deployments, meta, route_versions, routes
from hotswap_proxy.store.times import now
from tests.fleet.members import Member, member, route

pytestmark = pytest.mark.anyio
Pair = tuple[Member, Member]


async def test_a_change_of_one_node_is_taken_over_by_the_other(pair: Pair) -> None:
    a, b = pair
    route_id = await a.create("users")
    assert b.match("/users") is None
    assert await b.configuration.follow()
    assert b.match("/users") == "1.0" and b.route_id("/users") == route_id
    assert b.configuration.revision == a.configuration.revision
    await a.update(route_id, pathPattern="/people")
    await b.configuration.follow()
    assert b.match("/people") == "1.1" and b.match("/users") is None
    await a.configuration.delete_route(route_id, author="test")
    await b.configuration.follow()
    assert b.match("/people") is None and b.configuration.routes == 0


async def test_without_news_nothing_is_published(pair: Pair) -> None:
    a, b = pair
    await a.create("users")
    await b.configuration.follow()
    generation = b.configuration.generation
    assert not await b.configuration.follow()
    assert b.configuration.generation == generation


async def test_backends_are_taken_over_with_their_checks_and_addresses(pair: Pair) -> None:
    a, b = pair
    made = await a.configuration.create_backend(
        {"name": "users", "url": "http://users.internal:80", "healthCheck": {}}, author="test"
    )
    assert made.stored is not None
    backend_id = made.stored.document["backendId"]
    await a.create("users", backends=[{"name": "users"}])
    await b.configuration.follow()
    assert b.match("/users") == "1.0"
    assert b.checker.registry.status("http://users.internal:80") is not None
    assert b.checker.registry.addresses == {"users.internal:80": ["10.0.0.7:80"]}
    await a.configuration.update_backend(backend_id, {"healthCheck": None}, author="test")
    await b.configuration.follow()
    assert b.checker.registry.status("http://users.internal:80") is None


async def test_edits_at_two_nodes_at_once_are_all_kept(pair: Pair) -> None:
    both = [(node, f"{name}{index}") for index in range(8) for name, node in zip("ab", pair, strict=True)]
    await asyncio.gather(*(node.create(name) for node, name in both))
    for node in pair:
        await node.configuration.follow()
        assert node.configuration.routes == 16 and node.configuration.revision == 16
        assert all(node.match(f"/{name}") == "1.0" for _, name in both)


async def test_edits_of_one_route_at_two_nodes_are_all_versions_of_it(pair: Pair) -> None:
    a, b = pair
    route_id = await a.create("users")
    await asyncio.gather(
        *(node.update(route_id, priority=10 * index + each)
          for index in range(1, 5) for each, node in enumerate(pair))
    )  # fmt: skip
    for node in pair:
        await node.configuration.follow()
    assert a.match("/users") == b.match("/users") == "1.8"


async def test_of_two_clashing_routes_made_at_two_nodes_at_once_one_is_refused(pair: Pair) -> None:
    made = await asyncio.gather(
        *(node.create(name, "/same/{id}") for node, name in zip(pair, "ab", strict=True)),
        return_exceptions=True,
    )
    (refused,) = [one for one in made if isinstance(one, BaseException)]
    assert isinstance(refused, Conflict)
    for node in pair:
        await node.configuration.follow()
    assert pair[0].route_id("/same/1") == pair[1].route_id("/same/1") is not None


async def test_a_refusal_is_about_what_the_store_has_now(pair: Pair) -> None:
    a, b = pair
    route_id = await a.create("users")
    await b.configuration.follow()
    await a.configuration.delete_route(route_id, author="test")
    await b.create("users")  # b has not heard of the deletion; its compiler still has the old one
    assert b.match("/users") == "1.0"


async def test_whoever_is_always_slower_is_told_so(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    commit, count = b.store.commit, 0

    async def slow(*args: Any) -> int:
        nonlocal count
        count += 1
        await a.create(f"other{count}")
        return await commit(*args)

    monkeypatch.setattr(b.store, "commit", slow)
    with pytest.raises(Unavailable, match="all the time"):
        await b.create("users")
    assert count == 10 and b.match("/users") is None
    monkeypatch.undo()
    await b.create("users")
    assert b.configuration.routes == 11


async def test_a_long_absence_is_made_up_for_by_reading_everything(pair: Pair) -> None:
    a, b = pair
    await a.create("old")
    await b.configuration.follow()
    gone = b.route_id("/old")

    def skip(connection: Connection) -> None:
        """Others have changed a lot; the log of most of it is gone."""
        connection.execute(update(meta).where(meta.c.key == "revision").values(value="20000"))
        connection.execute(delete(changes))
        connection.execute(delete(routes).where(routes.c.route_id == gone))

    await a.store.write(skip)
    await a.create("new")
    await b.configuration.follow()
    assert b.configuration.revision == 20001
    assert b.match("/new") == "1.0" and b.match("/old") is None


async def test_a_store_that_was_replaced_by_an_older_one_is_read_as_a_whole(pair: Pair) -> None:
    a, b = pair
    await a.create("users")
    await b.configuration.follow()

    def restore(connection: Connection) -> None:
        connection.execute(update(meta).where(meta.c.key == "revision").values(value="0"))
        connection.execute(delete(routes))

    await a.store.write(restore)
    await b.configuration.follow()
    assert b.configuration.revision == 0 and b.match("/users") is None


async def test_a_store_that_was_replaced_by_one_with_the_same_number_is_read_as_a_whole(pair: Pair) -> None:
    a, b = pair
    await a.create("users")
    await b.create("both")  # b has the number of its own change

    def restore(connection: Connection) -> None:
        """An older state, in which something else was changed since."""
        connection.execute(update(meta).where(meta.c.key == "revision").values(value="1"))
        connection.execute(delete(changes).where(changes.c.revision > 1))
        connection.execute(delete(routes).where(routes.c.name == "both"))
        revisions.advance(connection, [])

    assert b.configuration.serves(await b.store.read(revisions.head))
    await a.store.write(restore)
    head = await b.store.read(revisions.head)
    assert head.revision == b.configuration.revision and not b.configuration.serves(head)
    await b.configuration.follow()
    assert b.match("/both") is None and b.match("/users") == "1.0"
    assert b.configuration.serves(await b.store.read(revisions.head))
    await a.configuration.follow()
    later = await a.create("later")
    await a.store.write(restore)
    await a.create("after")  # beyond the number that b knows, and not from there
    await b.configuration.follow()
    assert b.match("/after") == "1.0" and later


async def test_health_stays_when_everything_is_read_again(pair: Pair) -> None:
    a, b = pair
    check = {"type": "Tcp", "unhealthyThreshold": 1}
    backend = {"name": "x", "url": "http://127.0.0.1:9001", "healthCheck": check}
    await a.create("users", backends=[backend])
    await b.configuration.follow()
    (target,) = b.checker.registry
    b.checker.registry.note(target, False)
    await b.configuration.load()
    (same,) = b.checker.registry
    assert same is target and b.checker.registry.counts()["unhealthy"] == 1


async def test_what_cannot_be_compiled_here_stays_as_it_was_and_the_rest_goes_on(settings: Settings) -> None:
    async with member(settings, "a") as a, member(settings, "b", environment="QA") as b:
        await b.create("ours", "/x", environment="QA")
        await a.create("any", "/x")  # a does not serve QA's routes, so nothing stands in its way there
        other = await a.create("other")
        await b.configuration.follow()
        assert b.match("/x") == "1.0" and b.match("/other") == "1.0"
        ours = b.route_id("/x")
        problem = b.configuration.problem
        assert problem is not None and "ours" in problem, "it says what is in the way"
        assert b.configuration.revision == a.configuration.revision
        # What was refused is tried again when something changes: now it is welcome.
        assert ours is not None
        await b.configuration.delete_route(ours, author="test")
        await a.update(other, priority=3)
        await b.configuration.follow()
        assert b.configuration.problem is None
        assert b.route_id("/x") == a.route_id("/x") and b.match("/other") == "1.1"


async def test_a_refused_version_leaves_the_one_before_it(settings: Settings) -> None:
    async with member(settings, "a") as a, member(settings, "b", environment="QA") as b:
        await b.create("ours", "/x", environment="QA")
        moving = await a.create("moving", "/y")
        await b.configuration.follow()
        await a.update(moving, pathPattern="/x")
        await b.configuration.follow()
        assert b.match("/y") == "1.0" and a.match("/y") is None
        await b.configuration.load()  # also when everything is read
        assert b.match("/y") == "1.0" and b.configuration.problem is not None
        assert b.route_id("/y") in b.configuration.refused_routes
        await a.update(moving, pathPattern="/z")
        await b.configuration.follow()
        assert b.match("/z") == "1.2" and b.match("/y") is None and b.configuration.problem is None
        assert b.configuration.refused_routes == []


async def test_a_start_with_something_that_cannot_be_compiled_serves_the_rest(settings: Settings) -> None:
    async with member(settings, "a") as a:
        await a.create("any", "/x")
        await a.create("other")
        async with member(settings, "early", environment="QA") as early:
            with pytest.raises(Conflict):
                await early.create("ours", "/x", environment="QA")
    async with member(settings, "c", environment="Staging") as c:
        await c.configuration.delete_route(c.route_id("/x") or "", author="test")
        await c.create("theirs", "/x", environment="QA")
        await c.create("any", "/x")
    async with member(settings, "b", environment="QA") as b:
        assert b.match("/x") == "1.0" and b.match("/other") == "1.0"
        assert b.configuration.problem is not None


async def test_a_store_that_fails_while_following_changes_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    await a.create("users")

    def fail(*_: Any) -> Any:
        raise StoreUnavailable("not now")

    with monkeypatch.context() as patched:
        patched.setattr(following, "read_changes", fail)
        with pytest.raises(StoreUnavailable):
            await b.configuration.follow()
        with pytest.raises(StoreUnavailable):
            await b.create("other")
    assert b.match("/users") is None
    await b.configuration.follow()
    assert b.match("/users") == "1.0"


async def test_a_node_announces_what_it_commits_and_not_what_it_follows(pair: Pair) -> None:
    a, b = pair
    told: list[tuple[str, int]] = []
    a.configuration.announce = lambda revision: told.append(("a", revision))
    b.configuration.announce = lambda revision: told.append(("b", revision))
    await a.create("users")
    await b.configuration.follow()
    await b.configuration.apply(orjson.dumps({"version": "1", "routes": [route("x")]}), prune=False,
                                author="test")  # fmt: skip
    assert told == [("a", 1), ("b", 2)]
    await b.configuration.create_route(route("dry"), author="test", dry_run=True)
    await a.configuration.sync()  # after something was written to the store by another way
    assert told == [("a", 1), ("b", 2), ("a", 2)]


def deployment(route_id: str, share: float, status: str = "InProgress") -> str:
    return orjson.dumps(
        {
            "deploymentId": "dep-1",
            "routeId": route_id,
            "routeName": "users",
            "stableVersion": "1.0",
            "configVersion": "2.0",
            "strategy": "Canary",
            "status": status,
            "approvalStatus": "NotRequired",
            "salt": "00000000000000ff",
            "phases": [{"name": "first", "trafficPercentage": share}],
            "trafficPercentage": share,
            "createdBy": {"username": "test"},
            "createdAt": now(),
        }
    ).decode()


def start_deployment(connection: Connection, route_id: str, share: float, candidate: str) -> None:
    at = now()
    version = {"route_id": route_id, "version": "2.0", "sequence": 9, "document": candidate}
    connection.execute(insert(route_versions).values(**version, created_at=at, created_by="test"))
    columns = {"deployment_id": "dep-1", "target_kind": "route", "target_id": route_id}
    columns |= {"target": f"route:{route_id}", "status": "InProgress", "record_version": 1}
    columns |= {"document": deployment(route_id, share), "created_at": at, "updated_at": at}
    connection.execute(insert(deployments).values(columns))
    revisions.advance(connection, [Entry("deployment", "dep-1")])


async def test_a_deployment_under_way_gives_its_route_a_second_arm(pair: Pair) -> None:
    a, b = pair
    route_id = await a.create("users")
    document = (await a.store.read(lambda c: dict(following_route(c, route_id)))) | {"version": "2.0"}
    document["backends"] = [
        {**document["backends"][0], "url": "http://users.internal:81", "healthCheck": CHECK}
    ]
    await a.store.write(start_deployment, route_id, 100.0, orjson.dumps(document).decode())
    for node in pair:
        await node.configuration.sync()
        assert node.configuration.problem is None
        assert node.checker.registry.status("http://users.internal:81") is not None
        assert "users.internal:81" in node.checker.registry.addresses
        assert await node.configuration.refresh_addresses() is False
        assert "users.internal:81" in node.checker.registry.addresses, "the candidate's names are in use"
        (arm,) = [row for row in node.core.arm_stats() if row["arm"] == "canary"]
        assert arm["deploymentId"] == "dep-1"
    await b.configuration.load()
    assert [row["arm"] for row in b.core.arm_stats()], "also when everything is read"

    def end(connection: Connection) -> None:
        values = {"status": "RolledBack", "target": None, "document": deployment(route_id, 0, "RolledBack")}
        connection.execute(update(deployments).values(values))
        revisions.advance(connection, [Entry("deployment", "dep-1")])

    await a.store.write(end)
    for node in pair:
        await node.configuration.follow()
        assert node.checker.registry.status("http://users.internal:81") is None
        assert node.match("/users") == "1.0"


CHECK: dict[str, Any] = {
    "type": "Tcp", "endpoint": "/", "interval": "5s", "timeout": "3s", "unhealthyThreshold": 3,
    "healthyThreshold": 2, "expectedStatusCode": 200, "headers": {}, "initialState": "Up",
}  # fmt: skip


def following_route(connection: Connection, route_id: str) -> dict[str, Any]:
    from hotswap_proxy.store import routes as queries

    found = queries.get(connection, route_id)
    assert found is not None
    return found.document


async def test_a_record_that_cannot_be_read_leaves_the_live_version(pair: Pair) -> None:
    a, b = pair
    route_id = await a.create("users")
    await a.store.write(start_deployment, route_id, 50.0, "{}")
    await a.store.write(lambda c: c.execute(update(deployments).values(document="{}")) and None)
    await b.configuration.follow()
    assert b.match("/users") == "1.0"


async def test_errors_of_edits_are_not_retried(pair: Pair) -> None:
    a, _ = pair
    with pytest.raises(GatewayError, match="pathPattern"):
        await a.create("users", "no slash")
