"""A rollout without waiting: the real store and engine, on a made-up clock with made-up traffic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection

from hotswap_proxy.control.changeset import route_write
from hotswap_proxy.deploy import commands, engine
from hotswap_proxy.deploy.commands import Commands
from hotswap_proxy.deploy.engine import Engine
from hotswap_proxy.deploy.facts import Smoke
from hotswap_proxy.deploy.judge import judge
from hotswap_proxy.deploy.lease import Leadership
from hotswap_proxy.deploy.measurement import ArmCounts, Measurement
from hotswap_proxy.deploy.record import Deployment, SmokeTest
from hotswap_proxy.deploy.targets import routes as route_target
from hotswap_proxy.deploy.targets.base import Target
from hotswap_proxy.deploy.targets.routes import RouteTarget
from hotswap_proxy.deploy.targets.smoke import SmokeTester
from hotswap_proxy.deploy.writing import LEASE
from hotswap_proxy.fleet import nodes
from hotswap_proxy.model.deployment import DeploymentCreate
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import (
    FILE_NAME,
    Store,
    StoreChanges,
    VersionWrite,
    changes,
    deployments,
    leases,
    revisions,
    routes,
)
from hotswap_proxy.store.audit import Author
from tests.gateway import empty_store

ANN = Author("ann", "usr-ann")
BOB = Author("bob", "usr-bob")
ROUTE: dict[str, Any] = {
    "routeId": "rt-1",
    "name": "users",
    "pathPattern": "/users/**",
    "methods": ["*"],
    "backends": [
        {
            "backendId": "rt-1:old",
            "name": "old",
            "url": "http://127.0.0.1:9001",
            "weight": 100,
            "isEnabled": True,
        }
    ],
    "strategy": "RoundRobin",
    "strategyConfig": {},
    "timeoutSeconds": 30,
    "isEnabled": True,
    "priority": 0,
    "version": "1.0",
}
PHASES = [
    {"trafficPercentage": 10, "duration": "10s"},
    {"trafficPercentage": 50, "duration": "10s"},
    {"trafficPercentage": 100, "duration": "10s"},
]

NOTHING = ArmCounts()


TELLING_TIME = (commands, engine, route_target, nodes, deployments, leases)


class Clock:
    """The database's, and that of the process."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def monotonic(self) -> float:
        return self.now


class Follower:
    """In the place of ``Configuration``."""

    def __init__(self) -> None:
        self.synced = 0
        self.refuses: Exception | None = None

    async def sync(self) -> None:
        self.synced += 1

    async def rehearse(self, document: dict[str, Any]) -> None:
        if self.refuses is not None:
            raise self.refuses


class Smokes(SmokeTester):
    """Ends as it is told."""

    result = Smoke(True, "smoke test passed on 1 backend")
    runs = 0

    async def run(self, route: Mapping[str, Any], tests: Sequence[SmokeTest]) -> Smoke:
        Smokes.runs += 1
        return Smokes.result


class World:
    """Some nodes on one store. Each has counted what ``serve`` says, and is as far as the store unless it
    ``hangs``.
    """

    def __init__(self, store: Store, settings: Settings, clock: Clock, nodes: Sequence[str]) -> None:
        self.store = store
        self.clock = clock
        self.nodes = list(nodes)
        self.hangs: set[str] = set()
        self.active: dict[str, int] = {}  # on the stable arm, by node
        self.revision = 0
        self.environments: dict[str, str] = {}  # of nodes that are not in Development
        self.told: list[str] = []
        self.follower = Follower()
        self._counts: dict[tuple[str, str], Measurement] = {}
        self._settings = settings
        smokes = Smokes(store, None, settings.tls_files)  # type: ignore[arg-type]
        self.targets: dict[str, Target] = {"route": RouteTarget(store, settings, self.follower, smokes)}
        self.orders = Commands(store, self.targets, self.follower, judge, announce=self._tell)
        self.engine = self.new_engine("one")

    def new_engine(self, owner: str, store: Store | None = None) -> Engine:
        store = store or self.store
        self.leadership = Leadership(store, LEASE, owner, clock=self.clock.monotonic)
        return Engine(store, self.targets, self.follower, judge, self.leadership, announce=self._tell)

    def _tell(self, event: str, /, **fields: Any) -> None:
        orjson.dumps(fields)
        self.told.append(event)

    async def create(self, strategy: str = "Canary", author: Author = ANN, **fields: Any) -> Deployment:
        if strategy == "Canary":
            fields = {"phases": PHASES} | fields
        asked = {"routeId": "rt-1", "configVersion": "2.0", "strategy": strategy} | fields
        return await self.orders.create(DeploymentCreate.model_validate(asked), author)

    async def get(self, deployment_id: str) -> Deployment:
        found = await self.store.read(deployments.get, deployment_id)
        assert found is not None
        return found.deployment

    async def live(self) -> str:
        found = await self.store.read(routes.get, "rt-1")
        assert found is not None
        return str(found.document["version"])

    async def serve(
        self,
        deployment: Deployment,
        stable: ArmCounts = NOTHING,
        canary: ArmCounts = NOTHING,
        node: str | None = None,
    ) -> None:
        """Count more requests."""
        node = node or self.nodes[0]
        key = deployment.deployment_id, node
        counts = self._counts[key] = self._counts.get(key, Measurement()) + Measurement(stable, canary)
        document = counts.document() | {"active": {"stable": self.active.get(node, 0), "canary": 0}}
        await self.store.beat(deployments.measure, deployment.deployment_id, node, f"boot-{node}", document)

    async def beat(self) -> None:
        """Every node tells that it is there, and what it serves."""

        def run(connection: Connection) -> None:
            self.revision = revisions.current(connection)
            for node in self.nodes:
                revision = 0 if node in self.hangs else self.revision
                environment = self.environments.get(node, "Development")
                own = nodes.Beat(node, f"boot-{node}", environment, revision, {}, 60.0)
                nodes.beat(connection, own)

        await self.store.beat(run)

    async def tick(self, seconds: float = 1.0, engine: Engine | None = None) -> None:
        """Some time goes by, then the engine has its turn."""
        self.clock.now += seconds
        await self.beat()
        engine = engine or self.engine
        await engine._leadership.keep()
        await engine.tick()
        await engine.smoke_tests_ended()

    async def until(
        self,
        deployment: Deployment,
        done: Callable[[Deployment], bool],
        traffic: Callable[[Deployment], tuple[ArmCounts, ArmCounts]] | None = None,
        limit: int = 200,
    ) -> Deployment:
        """Turn after turn until ``done``; with so much traffic each second."""
        for _ in range(limit):
            deployment = await self.get(deployment.deployment_id)
            if done(deployment):
                return deployment
            if traffic is not None and deployment.is_under_way:
                await self.serve(deployment, *traffic(deployment))
            await self.tick()
        raise AssertionError(f"not within {limit} turns: {deployment.status}, {deployment.message}")


def ended(deployment: Deployment) -> bool:
    return not deployment.is_active


def arm(requests: int, failed: int = 0, us: int = 1024) -> ArmCounts:
    return ArmCounts(requests, failed, latency={us: requests} if requests else {})


def good(deployment: Deployment, rate: int = 1000) -> tuple[ArmCounts, ArmCounts]:
    """Split as the record says, 1 % of failures in both arms."""
    canary = round(rate * deployment.traffic_percentage / 100)
    stable = rate - canary
    return arm(stable, stable // 100), arm(canary, canary // 100)


def bad(deployment: Deployment) -> tuple[ArmCounts, ArmCounts]:
    """The candidate fails each time."""
    stable, canary = good(deployment)
    return stable, arm(canary.requests, canary.requests)


@asynccontextmanager
async def world(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *node_ids: str, **settings: Any
) -> AsyncIterator[World]:
    """A route in version 1.0, and a version 2.0 that is staged."""
    clock = Clock()
    for module in TELLING_TIME:
        monkeypatch.setattr(module, "database_clock", lambda _connection: clock.now)
    monkeypatch.setattr(Smokes, "result", Smoke(True, "smoke test passed on 1 backend"))
    monkeypatch.setattr(Smokes, "runs", 0)
    if "database_url" not in settings:
        (directory / FILE_NAME).write_bytes(empty_store())
    config = Settings(data_dir=directory, node_id="n1", **settings)
    store = await Store.open(config)
    try:
        await store.write(changes.write, StoreChanges(routes=[route_write(ROUTE, is_new=True)]), ANN)
        candidate = dict(ROUTE, version="2.0", timeoutSeconds=20)
        await stage(store, candidate)
        made = World(store, config, clock, node_ids or ("n1",))
        await made.beat()
        yield made
    finally:
        await store.close()


async def stage(store: Store, document: dict[str, Any]) -> None:
    staged = VersionWrite(
        route_id=document["routeId"],
        version=document["version"],
        document=orjson.dumps(document).decode(),
    )
    await store.write(changes.write, StoreChanges(staged=[staged]), ANN)
