"""The core's hot decisions and a change of 10,000 routes, in one process.

Run with ``pytest bench/micro``. The bounds hold for processor time, and matching and picking are timed inside
the core, without Python; the rows of pytest-benchmark show the whole call and are for comparing runs.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from hotswap_proxy import _core

ROUTES = 10_000
STRATEGIES = ["RoundRobin", "WeightedRoundRobin", "LeastConnections", "IPHash", "Direct"]

Benchmark = Any


def path_of(n: int) -> str:
    return f"/api/v{n % 4}/team-{n % 97}/service-{n}"


def configuration() -> bytes:
    """10,000 routes in the shapes that gateways have: literals, captures, subtrees, some with a host."""
    shapes = ["", "/items/{id}", "/**", "/*/details"]
    routes = [
        {
            "routeId": f"r{n}",
            "name": f"route-{n}",
            "pathPattern": path_of(n) + shapes[n % 4],
            "methods": ["*"] if n % 3 else ["GET", "POST"],
            "hosts": [f"tenant-{n % 50}.example.com"] if n % 10 == 0 else [],
            "backends": [{"backendId": f"b{n % 100}"}, {"backendId": f"b{(n + 1) % 100}", "weight": 10}],
            "strategy": STRATEGIES[n % len(STRATEGIES)],
        }
        for n in range(ROUTES)
    ]
    backends = [
        {"backendId": f"b{n}", "name": f"backend-{n}", "url": f"http://10.0.{n}.1:8080", "weight": 90}
        for n in range(100)
    ]
    return json.dumps({"reset": True, "upsertBackends": backends, "upsertRoutes": routes}).encode()


def requests() -> list[tuple[str, str, str]]:
    """Requests all over the table, every fourth without a route."""
    tails = ["", "/items/4711", "/a/b/c/d", "/x/details"]
    hosts = [f"tenant-{n % 50}.example.com:8000" for n in range(ROUTES)]
    found = [("GET", hosts[n], path_of(n) + tails[n % 4]) for n in range(0, ROUTES, 7)]
    return [(m, h, p + "/none/of/them") if i % 4 == 3 else (m, h, p) for i, (m, h, p) in enumerate(found)]


@pytest.fixture(scope="module", autouse=True)
def release_build() -> None:
    if _core.BUILD_PROFILE != "release":
        pytest.fail("figures of a debug build mean nothing: build for release")


@pytest.fixture(scope="module")
def node() -> _core.Node:
    return _core.Node(4)


@pytest.fixture(scope="module")
def catalog(node: _core.Node) -> _core.Catalog:
    catalog = _core.Catalog(node)
    catalog.stage(configuration()).publish()
    return catalog


@pytest.fixture(scope="module")
def worker(node: _core.Node, catalog: _core.Catalog) -> _core.Worker:
    return _core.Worker(node.state_fd, node.arena_fd, 0)


def test_match_among_10000_routes(benchmark: Benchmark, worker: _core.Worker) -> None:
    """At most 300 ns for a match, all over the table."""
    asked = requests()
    nanos = min(worker.bench_match(asked, 20) for _ in range(20))
    benchmark.extra_info["nanoseconds"] = nanos
    benchmark(worker.match, *asked[1])
    assert nanos < 300


@pytest.mark.parametrize("index", range(len(STRATEGIES)), ids=STRATEGIES)
def test_pick(benchmark: Benchmark, worker: _core.Worker, index: int) -> None:
    """At most 50 ns for choosing a backend."""
    nanos = min(worker.bench_pick(f"r{index}", 50_000) for _ in range(20))
    benchmark.extra_info["nanoseconds"] = nanos
    benchmark(worker.pick, f"r{index}")
    assert nanos < 50


def told(core: dict[str, Any]) -> tuple[_core.Worker, _core.Journal, list[Any]]:
    """A worker with a journal, and what has to live as long."""
    node, journal = _core.Node(1), _core.Journal(1)
    catalog = _core.Catalog(node)
    catalog.stage(configuration()).publish()
    worker = _core.Worker(node.state_fd, node.arena_fd, 0, json.dumps(core).encode(), journal.fd)
    return worker, journal, [node, catalog]


@pytest.mark.parametrize(
    ("core", "most"),
    [({"accessLog": True}, 300), ({"tracing": True, "traceSample": 0.1}, 200)],
    ids=["access-log", "tracing"],
)
def test_whole_exchange_with_a_journal(
    benchmark: Benchmark, worker: _core.Worker, core: dict[str, Any], most: int
) -> None:
    """What a record costs the exchange beyond what it costs without a journal."""
    teller, journal, _alive = told(core)

    def nanos() -> float:
        journal.drain(-1)
        return teller.bench_exchange(HEAD, ANSWER, 1000)  # as many as a ring holds

    without = min(worker.bench_exchange(HEAD, ANSWER, 1000) for _ in range(200))
    with_it = min(nanos() for _ in range(200))
    assert journal.drain(-1)["dropped"] == 0
    benchmark.extra_info["nanoseconds"] = with_it - without
    benchmark(teller.bench_exchange, HEAD, ANSWER, 1)
    assert with_it - without < most


def test_lines_of_the_access_log(benchmark: Benchmark) -> None:
    """Formatted and written to nowhere, at most 500 ns a line."""
    teller, journal, _alive = told({"accessLog": True})

    def nanos(sink: int) -> float:
        teller.bench_exchange(HEAD, ANSWER, 1000)
        started = time.thread_time()
        assert journal.drain(sink)["lines"] == 1000
        return (time.thread_time() - started) * 1e6

    with Path(os.devnull).open("wb") as null:
        best = min(nanos(null.fileno()) for _ in range(100))
        benchmark.extra_info["nanoseconds"] = best
        benchmark(journal.drain, null.fileno())
    assert best < 500


def processor_seconds(catalog: _core.Catalog, document: bytes) -> float:
    """The least of several changes; this thread's time only."""
    times = []
    for _ in range(5):
        started = time.thread_time()
        catalog.stage(document).publish()
        times.append(time.thread_time() - started)
    return min(times)


def test_load_10000_routes(benchmark: Benchmark, catalog: _core.Catalog) -> None:
    """Read, check, compile and publish the whole table."""
    document = configuration()
    benchmark.pedantic(lambda: catalog.stage(document).publish(), rounds=5)
    assert processor_seconds(catalog, document) < 0.150


def test_change_one_of_10000_routes(benchmark: Benchmark, catalog: _core.Catalog) -> None:
    """What an operator's change costs in the core before it is live on every worker."""
    one = {"routeId": "r1", "name": "route-1", "pathPattern": "/changed", "backends": [{"backendId": "b1"}]}
    document = json.dumps({"upsertRoutes": [one]}).encode()
    benchmark.pedantic(lambda: catalog.stage(document).publish(), rounds=10)
    assert processor_seconds(catalog, document) < 0.100


HEAD = (
    b"GET /api/v1/team-5/service-5/items/4711?page=2 HTTP/1.1\r\n"
    b"Host: api.example.com\r\nUser-Agent: bench/1.0\r\n"
    b"Accept: */*\r\nAccept-Encoding: gzip\r\nCookie: session=0123456789abcdef\r\n\r\n"
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\nContent-Length: 128\r\n"
    b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
)


def test_whole_exchange(benchmark: Benchmark, worker: _core.Worker) -> None:
    """Both heads read and written, route and backend found, everything counted: at most 1.5 µs."""
    nanos = min(worker.bench_exchange(HEAD, ANSWER, 20_000) for _ in range(20))
    benchmark.extra_info["nanoseconds"] = nanos
    benchmark(worker.bench_exchange, HEAD, ANSWER, 1)
    assert nanos < 1500
