"""A whole control plane without workers: real store, real compiler, real API; only the DNS is made up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import conformance
import httpx
import pytest

from hotswap_proxy import _core
from hotswap_proxy.admin.app import AdminContext, create_app
from hotswap_proxy.control.configuration import Configuration
from hotswap_proxy.control.health.checker import Checker
from hotswap_proxy.control.health.report import report
from hotswap_proxy.control.health.spec import read_spec
from hotswap_proxy.control.jwks import KeyKeeper
from hotswap_proxy.control.resolver import Resolution, url_rules
from hotswap_proxy.deploy.commands import Commands
from hotswap_proxy.deploy.judge import judge
from hotswap_proxy.deploy.targets.base import Target
from hotswap_proxy.deploy.targets.routes import RouteTarget
from hotswap_proxy.deploy.targets.smoke import SmokeTester
from hotswap_proxy.history.recorder import Recorder
from hotswap_proxy.history.windows import History
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import FILE_NAME, Store
from hotswap_proxy.store.migrate import migrate

PASSWORD = "correct horse battery"
ROUTES = "/api/v1/gateway/routes"
BACKENDS = "/api/v1/gateway/backends"
ROUTE: dict[str, Any] = {
    "name": "users",
    "pathPattern": "/users/**",
    "backends": [{"name": "users-1", "url": "http://127.0.0.1:9001"}],
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


CLOSED = {"state": "Closed", "mode": "Auto"}
MOMENT = "2030-01-31T12:00:00.000Z"
HEALTH: dict[str, Any] = {
    "version": "0",
    "nodeId": "n1",
    "lastConfigUpdate": None,
    "configError": False,
    "geoipError": False,
    "degraded": [],
    **dict.fromkeys(("generation", "revision", "workers", "activeConnections", "routesConfigured"), 1),
    **dict.fromkeys(("backendsHealthy", "backendsUnhealthy", "backendsTotal", "memoryBytes"), 1),
    **dict.fromkeys(("uptime", "requestsPerSecond", "cpuUsage", "memoryUsage"), 1.5),
}
SUMMARY: dict[str, Any] = {
    "totalRequests": 7,
    "failedRequests": 0,
    "errorRate": 0.0,
    "requestsPerSecond": 0.0,
    "activeConnections": 0,
    "latency": dict.fromkeys(("p50", "p95", "p99", "average")),
    "backends": [],
    "circuitBreakers": {"closed": 0, "open": 0, "halfOpen": 0},
    "generation": 1,
    "ledger": dict.fromkeys(("accepted", "completed", "aborted", "lost", "inFlight"), 0)
    | {"generations": []},
}
NODE: dict[str, Any] = {
    "nodeId": "n1",
    "environment": "Development",
    "version": "0",
    "status": "Healthy",
    "generation": 1,
    "revision": 1,
    "startedAt": MOMENT,
    "lastConfigUpdate": None,
}


class FakeNode:
    """A NodeView with fixed numbers, and the real health checks."""

    def __init__(self, checker: Checker) -> None:
        self.ready = True
        self.checker = checker
        self.orders: list[tuple[str, str]] = []  # about circuit breakers
        self.looks = 0  # at the statistics of all backends

    def health(self) -> dict[str, Any]:
        return HEALTH | {"status": "Healthy" if self.ready else "Unhealthy", "ready": self.ready}

    def summary(self) -> dict[str, Any]:
        return SUMMARY

    def prometheus(self, *, openmetrics: bool) -> Iterator[bytes]:
        return iter([b"gateway_routes_count 1\n"] + [b"# EOF\n"] * openmetrics)

    def route_statistics(self, route_id: str) -> dict[str, Any]:
        return {"totalRequests": 7, "failedRequests": 1, "averageLatencyMs": 2.5, "p99LatencyMs": 9.0}

    def backend_rows(self) -> dict[str, Any]:
        self.looks += 1
        return {}

    def backend_statistics(self, address: str, rows: Any = None) -> dict[str, Any]:
        if rows is None:
            self.backend_rows()
        assert address == "http://127.0.0.1:9001", "a backend is known by scheme://host:port"
        counted = {"activeConnections": 2, "totalRequests": 3, "failedRequests": 0}
        return counted | {"healthStatus": "Unknown", "circuitBreaker": CLOSED, "ejectedUntil": None}

    def order_circuit(self, address: str, order: str) -> dict[str, str] | None:
        self.orders.append((address, order))
        return {"state": "Open" if order == "Open" else "Closed", "mode": order}

    def backend_check(self, address: str, check: Any) -> dict[str, Any] | None:
        target = self.checker.registry.find(address, read_spec(check))
        return None if target is None else report(target)

    async def check_now(self, address: str, check: Any) -> dict[str, Any] | None:
        running = self.checker.check_now(address, read_spec(check))
        return None if running is None else report(await running)

    def nodes(self) -> list[dict[str, Any]]:
        return [NODE]


class FakeResolver:
    """Answers from a dictionary host → address; other names do not exist."""

    def __init__(self) -> None:
        self.known = {"users.internal": "10.0.0.7"}

    async def resolve(self, authorities: Any) -> Resolution:
        result = Resolution()
        for authority in authorities:
            host, _, port = authority.rpartition(":")
            if host in self.known:
                result.addresses[authority] = [f"{self.known[host]}:{port}"]
            else:
                result.errors[authority] = "the name cannot be resolved"
        return result


@dataclass
class Gateway:
    """The control plane and what a worker sees of it. ``client`` is logged in as the administrator."""

    client: httpx.AsyncClient
    context: AdminContext
    node: FakeNode
    resolver: FakeResolver
    core: _core.Node
    worker: _core.Worker
    keys: KeyKeeper
    recorder: Recorder

    @property
    def configuration(self) -> Configuration:
        return self.context.configuration

    @property
    def store(self) -> Store:
        return self.context.store

    def match(self, path: str, method: str = "GET", host: str = "a.example") -> str | None:
        """The version of the route that a worker would serve now, or None."""
        route_id, version = self.worker.match(method, host, path)
        return version if route_id is not None else None  # type: ignore[return-value]

    def pick(self, route_id: str, header: str | None = None) -> str | None:
        return self.worker.pick(route_id, "client", header)

    async def as_role(self, role: str) -> dict[str, str]:
        """Headers of a new user of this role."""
        name = f"{role.lower()}-user"
        user = {"username": name, "password": PASSWORD, "role": role}
        await self.client.post("/api/v1/users", json=user)
        return await login(self.client, name)

    async def add_route(self, **fields: Any) -> dict[str, Any]:
        answer = await self.client.post(ROUTES, json=ROUTE | fields)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def add_backend(self, **fields: Any) -> dict[str, Any]:
        given = {"name": "b1", "url": "http://127.0.0.1:9001"} | fields
        answer = await self.client.post(BACKENDS, json=given)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


async def login(client: httpx.AsyncClient, username: str, password: str = PASSWORD) -> dict[str, str]:
    credentials = {"username": username, "password": password}
    answer = await client.post("/api/v1/authentication/login", json=credentials)
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['token']}"}


@cache
def empty_store() -> bytes:
    """A migrated, empty database file: migrations have tests of their own and take a second."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / FILE_NAME
        migrate(path)
        return path.read_bytes()


@pytest.fixture
async def store(tmp_path: Path, database_url: str | None) -> AsyncIterator[Store]:
    """An empty store, of both databases."""
    if database_url is None:
        (tmp_path / FILE_NAME).write_bytes(empty_store())
    opened = await Store.open(Settings(data_dir=tmp_path, database_url=database_url))
    yield opened
    await opened.close()


@asynccontextmanager
async def running(data_dir: Path, **fields: Any) -> AsyncIterator[Gateway]:
    """A gateway on this data directory; leave and enter again to restart it."""
    settings = Settings(data_dir=data_dir, admin_password=PASSWORD, **fields)
    if settings.database_url is None and not (data_dir / FILE_NAME).exists():
        (data_dir / FILE_NAME).write_bytes(empty_store())
    store = await Store.open(settings)
    try:
        await store.users.ensure_first_admin(settings)
        core = _core.Node(2, arena_bytes=1 << 26)
        checker = Checker(core)
        node, resolver = FakeNode(checker), FakeResolver()
        keys = KeyKeeper(url_rules(settings), resolver)
        configuration = Configuration(
            store,
            _core.Catalog(core),
            settings,
            resolver=resolver,  # type: ignore[arg-type]
            health=checker,
            keys=keys,
        )
        await configuration.load()
        checker.start()
        worker = _core.Worker(core.state_fd, core.arena_fd, 0)
        smoke = SmokeTester(store, resolver, settings.tls_files)
        targets: dict[str, Target] = {"route": RouteTarget(store, settings, configuration, smoke)}
        orders = Commands(store, targets, configuration, judge)
        recorder = Recorder(_core.Rollups(core), store, settings.node_id, "boot")
        history = History(store, recorder)
        context = AdminContext(settings, store, configuration, node, orders, history)
        transport = httpx.ASGITransport(create_app(context), client=("192.0.2.1", 5555))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            client.event_hooks["response"].append(_conforms)
            client.headers.update(await login(client, "admin"))
            yield Gateway(client, context, node, resolver, core, worker, keys, recorder)
        await recorder.stop()
        await keys.stop()
        await checker.stop()
    finally:
        await store.close()


async def _conforms(answer: httpx.Response) -> None:
    """Whatever a test asks, the answer is as documented."""
    await answer.aread()
    found = conformance.problems(answer.request.method, answer.request.url.path, answer)
    assert not found, "\n".join(found)


@pytest.fixture
async def gateway(tmp_path: Path, database_url: str | None) -> AsyncIterator[Gateway]:
    async with running(tmp_path, database_url=database_url) as started:
        yield started


def problem(answer: httpx.Response) -> tuple[int, str, list[tuple[str, str]]]:
    """(status, code, [(field, rule)]) of an error answer."""
    error = answer.json()["error"]
    assert error["traceId"] == answer.headers["x-request-id"]
    assert error["message"] and error["timestamp"].endswith("Z")
    return answer.status_code, error["code"], [(d["field"], d["rule"]) for d in error["details"]]
