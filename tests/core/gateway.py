"""One node, its catalog and one worker, in one process; and short ways to write a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hotswap_proxy._core import Catalog, ConfigError, Node, Worker

Json = dict[str, Any]


def backend(backend_id: str, port: int = 9000, **more: object) -> Json:
    """A registered backend; its name is its id."""
    return {"backendId": backend_id, "name": backend_id, "url": f"http://127.0.0.1:{port}", **more}


def route(route_id: str, pattern: str = "/", *, backends: list[Any] | None = None, **more: object) -> Json:
    """A route whose name is its id; `backends` are ids or member objects."""
    members = [b if isinstance(b, dict) else {"backendId": b} for b in backends or ["b"]]
    return {"routeId": route_id, "name": route_id, "pathPattern": pattern, "backends": members, **more}


class Gateway:
    """The two sides of a node without the processes."""

    def __init__(self, lanes: int = 1, arena_bytes: int = 1 << 30) -> None:
        self.node = Node(lanes, arena_bytes=arena_bytes)
        self.catalog = Catalog(self.node)
        self.worker = self.attach(0)

    def attach(self, lane: int) -> Worker:
        """A worker on a lane of its own."""
        return Worker(self.node.state_fd, self.node.arena_fd, lane)

    def apply(self, **changes: object) -> int:
        """Stage and publish a change, keywords as in the document."""
        return self.catalog.stage(json.dumps(changes).encode()).publish()

    def load(self, routes: list[Json], backends: list[Json] | None = None, **more: object) -> int:
        """Replace the whole configuration."""
        registered = [backend("b")] if backends is None else backends
        return self.apply(reset=True, upsertBackends=registered, upsertRoutes=routes, **more)


def problems(change: Callable[[], object]) -> list[Any]:
    """The problems of a change that must be refused."""
    try:
        change()
    except ConfigError as error:
        return list(error.problems)
    raise AssertionError("the change was accepted")
