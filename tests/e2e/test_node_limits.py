"""Limits of a whole node: two workers, one count; and what a worker held comes back when it dies."""

from __future__ import annotations

import os
import signal
import threading
import time

from e2e.conftest import Api
from harness.client import Client

from tests.processes import eventually

HOUR = {"type": "FixedWindow", "requests": 50, "window": "1h", "keyBy": "ClientIP"}


def add_route(api: Api, url: str, **fields: object) -> str:
    document = {"name": "limited", "path": "/**", "backends": [{"name": "b", "url": url}], **fields}
    return str(api.call("POST", "/gateway/routes", document)["routeId"])


def ask_at_once(port: int, clients: int) -> list[int]:
    connections = [Client(port) for _ in range(clients)]
    statuses: list[int] = []
    start = threading.Barrier(clients)

    def ask(client: Client) -> None:
        start.wait(20)
        statuses.append(client.get().status)

    threads = [threading.Thread(target=ask, args=(client,)) for client in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for client in connections:
        client.sock.close()
    return statuses


def test_a_limit_is_exact_over_all_workers_and_outlives_changes(start_node, backends):
    node = start_node()
    api = Api(node)
    # Not two windows: the next one is not about to begin.
    while time.time() % 3600 > 3540:
        time.sleep(1)
    route_id = add_route(api, backends[0].url, rateLimit=HOUR)
    statuses = ask_at_once(node.proxy_port, 80)
    assert (statuses.count(200), statuses.count(429)) == (50, 30)
    assert api.metric("gateway_rate_limited_total") == 30
    # A change of something else resets nothing; one of the limit holds at once.
    api.call("PUT", f"/gateway/routes/{route_id}", {"timeoutSeconds": 20})
    assert ask_at_once(node.proxy_port, 4) == [429] * 4
    api.call("PUT", f"/gateway/routes/{route_id}", {"rateLimit": {**HOUR, "requests": 60}})
    assert sorted(ask_at_once(node.proxy_port, 14)) == [200] * 10 + [429] * 4
    assert api.metric("gateway_requests_lost_total") == 0


def test_a_dead_worker_gives_back_its_connections(start_node, backends):
    node = start_node("--max-connections-per-client", "4")
    api = Api(node)
    add_route(api, backends[0].url)

    def served(client: Client) -> bool:
        try:
            return client.get().status == 200
        except OSError:  # closed at once
            return False

    held = [Client(node.proxy_port) for _ in range(4)]
    assert all(served(client) for client in held)
    extra = Client(node.proxy_port)
    assert not served(extra)
    assert api.metric("gateway_connections_refused_total") == 1
    for pid in node.workers():
        os.kill(pid, signal.SIGKILL)
    assert not any(served(client) for client in held)

    def four_again() -> bool:
        fresh = [Client(node.proxy_port) for _ in range(4)]
        try:
            return all(served(client) for client in fresh)
        finally:
            for client in fresh:
                client.sock.close()

    eventually(four_again, "four connections, as before")
    for client in [*held, extra]:
        client.sock.close()


def test_proxies_before_a_node(start_node, backends):
    node = start_node("--trusted-proxies", "127.0.0.0/8", "--proxy-protocol", "on", "--forwarded", "on")
    add_route(Api(node), backends[0].url)
    client = Client(node.proxy_port)
    client.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n")
    assert client.get().status == 200
    (request,) = backends[0].requests
    assert request.header("X-Forwarded-For") == "203.0.113.7"
    assert request.header("Forwarded") == 'for=203.0.113.7;host="test.example";proto=http'
    client.sock.close()
    stranger = Client(node.proxy_port)
    stranger.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert stranger.closed()
