"""Nodes of a fleet without their processes: real stores and compilers, several in one event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from hotswap_proxy import _core
from hotswap_proxy.control.configuration import Configuration
from hotswap_proxy.control.health.checker import Checker
from hotswap_proxy.control.jwks import KeyKeeper
from hotswap_proxy.control.publishing import Live
from hotswap_proxy.control.resolver import url_rules
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store
from tests.gateway import FakeResolver


def route(name: str, path: str = "", **fields: Any) -> dict[str, Any]:
    backends = [{"name": f"{name}-1", "url": "http://127.0.0.1:9001"}]
    return {"name": name, "pathPattern": path or f"/{name}", "backends": backends} | fields


@dataclass
class Member:
    """One node: what it serves, and how it is changed."""

    settings: Settings
    store: Store
    configuration: Configuration
    core: _core.Node
    worker: _core.Worker
    resolver: FakeResolver
    checker: Checker

    def match(self, path: str) -> str | None:
        """The version of the route that serves a path here, or None."""
        route_id, version = self.worker.match("GET", "a.example", path)
        return version if route_id is not None else None  # type: ignore[return-value]

    def route_id(self, path: str) -> str | None:
        return self.worker.match("GET", "a.example", path)[0]  # type: ignore[no-any-return]

    async def create(self, name: str, path: str = "", **fields: Any) -> str:
        """A route of that name; its id."""
        made = await self.configuration.create_route(route(name, path, **fields), author="test")
        assert made.stored is not None
        return str(made.stored.document["routeId"])

    async def update(self, route_id: str, **fields: Any) -> None:
        await self.configuration.update_route(route_id, fields, author="test")


@asynccontextmanager
async def member(
    settings: Settings,
    node_id: str,
    *,
    keep: Callable[[Live], None] | None = None,
    load: bool = True,
    **fields: Any,
) -> AsyncIterator[Member]:
    """A node on the store that ``settings`` say."""
    settings = replace(settings, node_id=node_id, **fields)
    store = Store(settings)
    core = _core.Node(2, arena_bytes=1 << 26)
    checker, resolver = Checker(core), FakeResolver()
    keys = KeyKeeper(url_rules(settings), resolver)
    configuration = Configuration(
        store,
        _core.Catalog(core),
        settings,
        resolver=resolver,  # type: ignore[arg-type]
        health=checker,
        keys=keys,
        keep=keep,
    )
    try:
        if load:
            await store.prepare()
            await configuration.load()
        worker = _core.Worker(core.state_fd, core.arena_fd, 0)
        yield Member(settings, store, configuration, core, worker, resolver, checker)
    finally:
        await keys.stop()
        await checker.stop()
        await store.close()
