"""What a node promises when things fail and when it counts: both codecs, two workers, TLS and plain."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import Api
from e2e.test_node_limits import HOUR, ask_at_once
from e2e.test_resilience import UNAVAILABLE, Flaky, ask, server
from e2e.test_tls import options, tls_port
from harness.backend import Backend
from harness.certs import client_context
from harness.client import Client
from harness.raw import Peer, RawBackend
from harness.wait import eventually

from tests.node import Node

CLIENTS = 6
Start = Callable[..., Node]


@pytest.fixture(params=["native", "httptools"])
def node(request: pytest.FixtureRequest, tmp_path: Path, start_node: Start) -> Node:
    tls = options(tmp_path, "localhost", "127.0.0.1")
    return start_node("--http", request.param, "--proxy-tls", "127.0.0.1:0", *tls)


def add_route(node: Node, urls: list[str], **fields: Any) -> None:
    backends = [{"name": f"b{n}", "url": url} for n, url in enumerate(urls)]
    Api(node).call("POST", "/gateway/routes", {"name": "r", "path": "/**", "backends": backends} | fields)


class Clients:
    """Half of them over TLS. Each keeps its connection until it is told to close or loses it."""

    def __init__(self, node: Node) -> None:
        self.ports = [node.proxy_port, tls_port(node)]
        self.statuses: Counter[int] = Counter()
        self.lost = 0
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self.threads:
            thread.start()
        self.more(100)
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join(30)

    def more(self, requests: int) -> None:
        at = self.statuses.total()
        eventually(lambda: self.statuses.total() > at + requests, timeout=60)

    def _run(self, number: int) -> None:
        secure = number % 2
        while not self.ending.is_set():
            tls = client_context() if secure else None
            try:
                with Client(self.ports[secure], tls=tls, name="localhost" if secure else None) as client:
                    said = None
                    while said != "close" and not self.ending.is_set():
                        answer = client.get("/")
                        self.statuses[answer.status] += 1
                        said = answer.header("connection")
            except OSError:
                self.lost += 1


def test_death_and_return_under_load_fail_no_request_but_those_of_a_worker(
    node: Node, start_node: Start, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A backend, a worker and the control process die in turn, and come back."""
    with server() as (_, kept), server() as (victim, port):
        urls = [f"http://127.0.0.1:{number}" for number in (kept, port)]
        add_route(node, urls, retryPolicy={"initialDelay": "1ms"}, circuitBreaker={})
        with Clients(node) as clients:
            victim.kill()
            victim.wait()
            clients.more(200)
            with server(port):
                clients.more(200)
                assert clients.lost == 0
                dying, _staying = node.workers()
                os.kill(dying, signal.SIGKILL)
                eventually(lambda: dying not in node.workers() and len(node.workers()) == 2)
                clients.more(200)
                lost = clients.lost
                assert lost <= CLIENTS, "a connection each, at most"
                node.process.kill()
                node.process.wait()
                clients.more(200)
                codec = request.node.callspec.params["node"]
                addresses = ["--proxy", f"127.0.0.1:{clients.ports[0]}"]
                addresses += ["--proxy-tls", f"127.0.0.1:{clients.ports[1]}"]
                tls = options(tmp_path, "localhost", "127.0.0.1")
                start_node("--http", codec, *addresses, *tls)
                clients.more(200)
                assert clients.lost == lost, "the death of the control process costs nothing"
    assert set(clients.statuses) == {200}


def test_two_hundred_requests_at_ninety_to_ten_give_twenty(node: Node, backends: list[Backend]) -> None:
    weighted = [{"name": str(w), "url": b.url, "weight": w} for w, b in zip((90, 10), backends, strict=True)]
    add_route(node, [], backends=weighted, strategy="WeightedRoundRobin")
    for _ in range(200):
        assert ask(node.proxy_port)[0] == 200
    assert [len(backend.requests) for backend in backends] == [180, 20]


def test_a_limit_of_fifty_lets_fifty_of_eighty_through(node: Node, backends: list[Backend]) -> None:
    while time.time() % 3600 > 3540:  # the next window is about to begin
        time.sleep(1)
    add_route(node, [backends[0].url], rateLimit=HOUR)
    statuses = ask_at_once(node.proxy_port, 80)
    assert (statuses.count(200), statuses.count(429)) == (50, 30)
    assert len(backends[0].requests) == 50


@pytest.fixture
def flaky() -> Iterator[Flaky]:
    backend = Flaky()
    yield backend
    backend.close()


def test_a_breaker_of_five_lets_five_failures_through_and_recovers(node: Node, flaky: Flaky) -> None:
    breaker = {"failureThreshold": 5, "timeout": "1s", "halfOpenRequests": 2}
    add_route(node, [flaky.url], circuitBreaker=breaker)
    assert {ask(node.proxy_port)[0] for _ in range(20)} == {503}
    assert len(flaky.requests) == 5
    flaky.well = True
    eventually(lambda: ask(node.proxy_port)[0] == 200)
    assert {ask(node.proxy_port)[0] for _ in range(20)} == {200}


def reset(peer: Peer) -> None:
    peer.read_head()
    peer.reset()


def close(peer: Peer) -> None:
    peer.read_head()


def stall(peer: Peer) -> None:
    peer.read_head()
    peer.ended()


def refuse(peer: Peer) -> None:
    peer.read_head()
    peer.send(UNAVAILABLE)


@pytest.mark.parametrize("failing", [reset, close, stall, refuse])
def test_a_post_is_never_sent_twice(node: Node, failing: Callable[[Peer], None]) -> None:
    pair = [RawBackend(failing), RawBackend(failing)]
    timeouts = {"readTimeout": "500ms"}
    own = [{"name": str(n), "url": each.url, "timeouts": timeouts} for n, each in enumerate(pair)]
    add_route(node, [], backends=own, retryPolicy={"maxAttempts": 5, "initialDelay": "1ms"})
    for asked in range(1, 5):
        with Client(node.proxy_port) as client:
            assert client.get("/", method="POST", body=b"pay").status in (502, 503, 504)
        assert sum(len(peer.heads) for backend in pair for peer in backend.peers) == asked
    for backend in pair:
        backend.close()
