"""The journey of a change: order, concurrency, start, and the DNS in the background."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hotswap_proxy.control.configuration import Configuration
from hotswap_proxy.errors import Conflict, StoreUnavailable
from hotswap_proxy.settings import Settings
from tests.gateway import BACKENDS, ROUTE, ROUTES, Gateway, running

pytestmark = pytest.mark.anyio


async def test_changes_at_once_are_done_one_after_the_other(gateway: Gateway) -> None:
    before = gateway.configuration.generation
    routes = [ROUTE | {"name": f"r{i}", "pathPattern": f"/r{i}"} for i in range(20)]
    answers = await asyncio.gather(*(gateway.client.post(ROUTES, json=route) for route in routes))
    assert [answer.status_code for answer in answers] == [201] * 20
    assert gateway.configuration.generation >= before + 20
    assert all(gateway.match(f"/r{i}") == "1.0" for i in range(20))


async def test_of_two_conflicting_changes_at_once_one_wins(gateway: Gateway) -> None:
    routes = [ROUTE | {"name": name} for name in ("a", "b")]
    answers = await asyncio.gather(*(gateway.client.post(ROUTES, json=route) for route in routes))
    assert sorted(answer.status_code for answer in answers) == [201, 409]


async def test_a_change_whose_author_goes_away_is_finished(gateway: Gateway) -> None:
    task = asyncio.ensure_future(gateway.configuration.create_route(ROUTE, author="test"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    other = ROUTE | {"name": "b", "pathPattern": "/b"}
    await gateway.configuration.create_route(other, author="test")  # waits for the first
    assert gateway.match("/users/1") == "1.0"
    assert (await gateway.client.get(ROUTES)).json()["total"] == 2, "store and workers agree"


class Staged:
    """Counts what becomes of a staged configuration."""

    def __init__(self, staged: Any, log: list[str]) -> None:
        self._staged, self._log = staged, log
        self.key_sets = staged.key_sets

    def publish(self) -> int:
        self._log.append("publish")
        return int(self._staged.publish())

    def discard(self) -> None:
        self._log.append("discard")
        self._staged.discard()


class Watched:
    """A catalog that tells what was done with it."""

    def __init__(self, catalog: Any, log: list[str]) -> None:
        self._catalog, self._log = catalog, log
        self.routes, self.backends = 0, 0
        self.key_sets = catalog.key_sets

    def stage(self, changes: bytes) -> Staged:
        self._log.append("stage")
        return Staged(self._catalog.stage(changes), self._log)


async def test_a_change_is_compiled_then_stored_then_published(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    configuration = gateway.configuration
    monkeypatch.setattr(configuration._publisher, "_catalog", Watched(configuration._catalog, log))
    commit = gateway.store.commit

    async def watched(*args: Any) -> int:
        log.append("store")
        return await commit(*args)

    monkeypatch.setattr(gateway.store, "commit", watched)
    await configuration.create_route(ROUTE, author="test")
    assert log == ["stage", "store", "publish"]
    log.clear()
    with pytest.raises(Conflict):
        await configuration.create_route(ROUTE | {"name": "b"}, author="test")
    assert log == ["stage"]
    log.clear()
    await configuration.create_route(ROUTE | {"name": "c", "pathPattern": "/c"}, author="test", dry_run=True)
    assert log == ["stage", "discard"]

    async def full(*_: Any) -> None:
        raise StoreUnavailable("full")

    log.clear()
    monkeypatch.setattr(gateway.store, "commit", full)
    with pytest.raises(StoreUnavailable):
        await configuration.create_route(ROUTE | {"name": "c", "pathPattern": "/c"}, author="test")
    assert log == ["stage", "discard"]


async def test_a_start_goes_on_without_the_dns_and_catches_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    named = {"url": "http://users.internal:80"}
    async with running(tmp_path) as first:
        made = await first.add_route(backends=[named])
        await first.add_backend(url="http://users.internal:81", name="registered")
    async with running(tmp_path) as second:
        second.resolver.known.clear()
        await second.configuration.load()
        assert second.pick(made["routeId"]) == "users.internal:80", "its last address stays"

        fresh = Configuration(
            second.store,
            second.configuration._catalog,
            Settings(),
            resolver=second.resolver,  # type: ignore[arg-type]
        )
        caplog.clear()
        await fresh.load()
        assert "users.internal:80" in caplog.text and "users.internal:81" in caplog.text
        assert second.match("/users/1") == "1.0", "the route is there"
        assert second.pick(made["routeId"]) is None, "but has nowhere to go"
        assert await fresh.refresh_addresses() is False

        second.resolver.known["users.internal"] = "10.0.0.9"
        assert await fresh.refresh_addresses() is True
        assert second.pick(made["routeId"]) == "users.internal:80"
        before = fresh.generation
        assert await fresh.refresh_addresses() is False and fresh.generation == before


async def test_an_answer_that_comes_and_goes_is_published_once(gateway: Gateway) -> None:
    await gateway.add_route(backends=[{"url": "http://users.internal:80"}])
    assert await gateway.configuration.refresh_addresses() is False
    gateway.resolver.known["users.internal"] = "10.0.0.8"
    assert await gateway.configuration.refresh_addresses() is True
    gateway.resolver.known.clear()
    assert await gateway.configuration.refresh_addresses() is False, "a failing DNS changes nothing"


async def test_in_production_http_needs_to_be_allowed(tmp_path: Path) -> None:
    async with running(
        tmp_path, environment="Production", allowed_backend_hosts=("Users.Internal",)
    ) as gateway:
        answer = await gateway.client.post(ROUTES, json=ROUTE)
        assert answer.status_code == 400 and "Production" in answer.text
        made = await gateway.add_route(backends=[{"url": "http://users.internal:80"}])
        assert made["configChangeApplied"] is True


async def test_what_was_allowed_once_is_still_served_and_shown(tmp_path: Path) -> None:
    url = "http://169.254.10.10:80"
    async with running(tmp_path, allowed_backend_hosts=("169.254.10.10",)) as first:
        made = await first.add_route(backends=[{"url": url}])
    async with running(tmp_path) as second:
        assert second.match("/users/1") == "1.0"
        got = await second.client.get(f"{ROUTES}/{made['routeId']}")
        assert got.json()["backends"][0]["url"] == url
        assert (await second.client.get("/api/v1/gateway/config/export")).is_success
        changed = await second.client.put(f"{ROUTES}/{made['routeId']}", json={"priority": 1})
        assert changed.status_code == 400, "but not in a new version"


async def test_another_process_that_was_faster_is_a_conflict(gateway: Gateway) -> None:
    """Two control processes on one store: the database is the last guard of unique names."""
    from hotswap_proxy import _core

    core = _core.Node(2, arena_bytes=1 << 24)
    other = Configuration(gateway.store, _core.Catalog(core), Settings())
    await other.load()
    await other.create_backend({"name": "b1", "url": "http://127.0.0.1:1"}, author="other")
    answer = await gateway.client.post(BACKENDS, json={"name": "b1", "url": "http://127.0.0.1:2"})
    assert answer.status_code == 409


async def test_last_update_and_counts_follow(gateway: Gateway) -> None:
    first = gateway.configuration.last_update
    assert first is not None and gateway.configuration.routes == 0
    await gateway.add_route()
    assert gateway.configuration.routes == 1
    assert gateway.configuration.last_update is not None and gateway.configuration.last_update > first


async def test_what_stricter_settings_forbid_is_served_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = {"name": "plain", "url": "http://10.0.0.7:80"}
    async with running(tmp_path) as gateway:
        await gateway.client.post(BACKENDS, json=plain)
        await gateway.add_route(backends=["plain", {"name": "own", "url": "http://10.0.0.8:80"}])
        assert gateway.configuration.violations == []
    async with running(tmp_path, environment="Production") as strict:
        assert strict.match("/users/1") == "1.0", "a restart must not become an outage"
        found = [(one["kind"], one["name"], one["url"]) for one in strict.configuration.violations]
        assert found == [("backend", "plain", plain["url"]), ("route", "users", "http://10.0.0.8:80")]
        assert all("https" in one["message"] for one in strict.configuration.violations)
        answer = await strict.client.post(BACKENDS, json=plain | {"name": "another"})
        assert answer.status_code == 400
    assert "this node's settings forbid" in caplog.text
