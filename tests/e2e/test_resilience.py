"""Breakers, retries and failover on a whole node with two workers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from e2e.conftest import Api
from harness.backend import Backend, Received, ok
from harness.client import Client
from harness.wait import eventually

UNAVAILABLE = ok(b"no", status=b"503 Service Unavailable")
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 4096  # head and body in one write: killed in between, it would have cut its answer
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Flaky(Backend):
    """Answers 503 until it is well."""

    def __init__(self) -> None:
        self.well = False
        super().__init__(self._answer)

    def _answer(self, _request: Received) -> bytes:
        return ok() if self.well else UNAVAILABLE


@pytest.fixture
def flaky() -> Iterator[Flaky]:
    backend = Flaky()
    yield backend
    backend.close()


def ask(port: int) -> tuple[int, bytes]:
    """One request on a connection of its own, which either worker may get."""
    with Client(port) as client:
        answer = client.get("/")
        return answer.status, answer.body


def breakers(api: Api) -> dict[str, int]:
    found: dict[str, int] = api.call("GET", "/gateway/metrics")["circuitBreakers"]
    return found


def test_five_failures_on_the_whole_node_and_recovery(start_node, flaky: Flaky) -> None:
    node = start_node("--workers", "2")
    api = Api(node)
    policy = {"failureThreshold": 5, "timeout": "1s", "halfOpenRequests": 2}
    made = api.call("POST", "/gateway/backends", {"name": "b", "url": flaky.url})
    api.call(
        "POST", "/gateway/routes", {"name": "r", "path": "/**", "backends": ["b"], "circuitBreaker": policy}
    )
    answers = [ask(node.proxy_port) for _ in range(40)]
    assert [status for status, _ in answers] == [503] * 40
    assert len(flaky.requests) == sum(body == b"no" for _, body in answers) == 5
    assert breakers(api) == {"closed": 0, "open": 1, "halfOpen": 0}
    assert api.metric("gateway_circuit_breaker_state") == 2
    assert api.metric("gateway_circuit_breaker_open_total") == 1
    shown = api.call("GET", f"/gateway/backends/{made['backendId']}/health")
    assert shown["circuitBreaker"] == {"state": "Open", "mode": "Auto"}
    flaky.well = True
    eventually(lambda: ask(node.proxy_port)[0] == 200)
    assert ask(node.proxy_port)[0] == 200
    assert breakers(api) == {"closed": 1, "open": 0, "halfOpen": 0}
    assert {ask(node.proxy_port)[0] for _ in range(40)} == {200}


def test_an_order_holds_on_every_worker_until_it_is_taken_back(start_node, flaky: Flaky) -> None:
    flaky.well = True
    node = start_node("--workers", "2")
    api = Api(node)
    own = {"name": "own", "url": flaky.url}
    route = api.call("POST", "/gateway/routes", {"name": "r", "path": "/**", "backends": [own]})
    url = f"/gateway/backends/{route['backends'][0]['backendId']}/circuit-breaker"
    told = api.call("PUT", url, {"state": "Open"})
    assert told["circuitBreaker"] == {"state": "Open", "mode": "Open"}
    assert {ask(node.proxy_port)[0] for _ in range(20)} == {503}
    api.call("PUT", f"/gateway/routes/{route['routeId']}", {"priority": 5})
    assert {ask(node.proxy_port)[0] for _ in range(20)} == {503}
    assert api.call("PUT", url, {"state": "Auto"})["circuitBreaker"]["state"] == "Closed"
    assert {ask(node.proxy_port)[0] for _ in range(20)} == {200}


def test_the_budget_holds_for_the_whole_node(start_node, flaky: Flaky) -> None:
    node = start_node("--workers", "2")
    api = Api(node)
    policy = {"maxAttempts": 10, "initialDelay": "1ms", "maxDelay": "1ms"}
    body = {"name": "r", "path": "/**", "backends": [{"name": "b", "url": flaky.url}], "retryPolicy": policy}
    api.call("POST", "/gateway/routes", body)
    started = time.monotonic()

    def load() -> None:
        for _ in range(25):
            assert ask(node.proxy_port)[0] == 503

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = int(time.monotonic() - started) + 2
    assert 200 <= len(flaky.requests) <= 200 + 40 + 3 * seconds
    assert api.metric("gateway_retries_total") == len(flaky.requests) - 200
    assert api.metric("gateway_retry_budget_exhausted_total") > 0


def test_shares_are_exact_on_two_workers_with_breakers_and_retries(
    start_node, backends: list[Backend]
) -> None:
    node = start_node("--workers", "2")
    body = {
        "name": "r",
        "path": "/**",
        "strategy": "WeightedRoundRobin",
        "backends": [
            {"name": str(n), "url": backend.url, "weight": (90, 10)[n]} for n, backend in enumerate(backends)
        ],
        "circuitBreaker": {},
        "retryPolicy": {},
    }
    Api(node).call("POST", "/gateway/routes", body)
    assert {ask(node.proxy_port)[0] for _ in range(200)} == {200}
    assert [len(backend.requests) for backend in backends] == [180, 20]


@contextmanager
def server(port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A backend in a process of its own."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_backend_that_is_killed_under_load_fails_no_request(start_node: Callable[..., object]) -> None:
    """And one that comes back is used again."""
    node = start_node("--workers", "2")
    api = Api(node)  # type: ignore[arg-type]
    with server() as (_, kept), server() as (victim, port):
        body = {
            "name": "r",
            "path": "/**",
            "backends": [{"name": str(p), "url": f"http://127.0.0.1:{p}"} for p in (kept, port)],
            "retryPolicy": {"initialDelay": "1ms"},
        }
        api.call("POST", "/gateway/routes", body)
        statuses: list[int] = []
        ending = threading.Event()

        def load() -> None:
            with Client(node.proxy_port) as client:  # type: ignore[attr-defined]
                while not ending.is_set():
                    statuses.append(client.get("/").status)

        threads = [threading.Thread(target=load) for _ in range(6)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(statuses) > 300)
        victim.kill()
        victim.wait()
        at = len(statuses)
        eventually(lambda: len(statuses) > at + 600)
        ejected = api.call("GET", "/gateway/metrics")["backends"]
        assert [row["address"] for row in ejected if row["ejectedUntil"]] == [f"http://127.0.0.1:{port}"]
        with server(port):
            back = f"http://127.0.0.1:{port}"

            def served() -> int:
                rows = api.call("GET", "/gateway/metrics")["backends"]
                return next(row["totalRequests"] for row in rows if row["address"] == back)

            before = served()
            eventually(lambda: served() > before + 20, timeout=30)
            ending.set()
            for thread in threads:
                thread.join()
    assert set(statuses) == {200}
    ledger = api.call("GET", "/gateway/metrics")["ledger"]
    assert ledger["accepted"] == ledger["completed"] + ledger["aborted"] and ledger["inFlight"] == 0


def test_an_outlier_is_ejected_and_told_of(start_node: Callable[..., object]) -> None:
    """It answers, so connections say nothing; its failures beside those of its peers do."""
    bad, good = Backend(lambda _: UNAVAILABLE), Backend()
    hook = Backend()
    node = start_node("--workers", "2", "--alert-webhooks", hook.url)
    api = Api(node)  # type: ignore[arg-type]
    body = {
        "name": "r",
        "path": "/**",
        "backends": [{"name": str(n), "url": each.url} for n, each in enumerate((bad, good))],
    }
    api.call("POST", "/gateway/routes", body)
    try:

        def ejected() -> bool:
            for _ in range(40):
                ask(node.proxy_port)  # type: ignore[attr-defined]
            return api.metric("gateway_backends_ejected") == 1

        eventually(ejected, timeout=40)
        assert {ask(node.proxy_port)[0] for _ in range(20)} == {200}  # type: ignore[attr-defined]
        hook.wait(lambda: len(hook.requests) == 1)
        told = json.loads(hook.requests[0].body)
        assert (told["event"], told["address"]) == ("backend.ejected", bad.url)
    finally:
        for each in (bad, good, hook):
            each.close()
