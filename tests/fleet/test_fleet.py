"""Three nodes as processes, on one PostgreSQL and one Redis: a change is soon everywhere, and of the traffic
nothing is lost when one of the two servers goes, hangs, or comes back.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.postgres import PostgresServer
from harness.redisserver import RedisServer

from tests.conftest import MIGRATED
from tests.node import PASSWORD, Node, backend, children
from tests.processes import alive, eventually

ALL = ("a", "b", "c")


class Fleet:
    def __init__(self, directory: Path, *options: str) -> None:
        self.options = options
        self.directory = directory
        self.nodes: dict[str, Node] = {}
        self.token = ""

    def start(self, *names: str) -> None:
        """At the same time."""
        threads = [threading.Thread(target=self._start, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in names:
            assert self.nodes[name].ready, (self.directory / name / "log").read_text()

    def _start(self, name: str) -> None:
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        options = (*self.options, "--node-id", name, "--workers", "1")
        self.nodes[name] = Node(directory, *options)
        self.nodes[name].start()

    def log_in(self) -> None:
        answer = self.call("a", "POST", "/authentication/login", {"username": "admin", "password": PASSWORD})
        self.token = answer["token"]

    def call(self, name: str, method: str, path: str, body: Any = None, status: int = 0) -> dict[str, Any]:
        """A call of a node's API; ``status`` is what it has to answer, 0: any success."""
        found, text = self.ask(name, method, path, body)
        assert found == status or (not status and found < 300), (found, text)
        return json.loads(text) if text else {}

    def ask(self, name: str, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"{self.nodes[name].admin_url}/api/v1{path}",
            None if body is None else json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {self.token}"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def add_route(self, name: str, port: int, path: str, **fields: Any) -> str:
        inline = {"name": "b", "url": f"http://127.0.0.1:{port}"}
        route = {"name": path.strip("/"), "pathPattern": path, "backends": [inline]} | fields
        return str(self.call(name, "POST", "/gateway/routes", route)["routeId"])

    def serves(self, name: str, path: str) -> bool:
        return get(self.nodes[name].proxy_port, path) == 200

    def everywhere(self, path: str, served: bool = True, names: tuple[str, ...] = ALL) -> float:
        """Wait until the nodes serve a path (or do not); seconds."""
        begun = time.monotonic()
        for name in names:
            eventually(lambda name=name: self.serves(name, path) is served, f"{path} at {name}")
        return time.monotonic() - begun

    def health(self, name: str) -> dict[str, Any]:
        return self.nodes[name].health()

    def reasons(self, name: str) -> list[str]:
        return [each["reason"] for each in self.health(name)["degraded"]]

    def close(self) -> None:
        for node in self.nodes.values():
            node.clean_up()


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


class Load:
    """Requests to every node, one after the other on a connection that is kept, until told to stop."""

    def __init__(self, ports: list[int], path: str) -> None:
        self._stop = threading.Event()
        self.done = 0
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(port, path)) for port in ports]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, port: int, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.connect()
        connection.auto_open = 0  # a connection that is closed is a failure
        while not self._stop.wait(0.01):
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failed.append(f"status {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                return
            self.done += 1
        connection.close()


@pytest.fixture
def fleet(tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer) -> Iterator[Fleet]:
    url = postgres.new_database(MIGRATED)
    found = Fleet(tmp_path, "--database-url", url, "--redis-url", redis_server.url)
    try:
        yield found
    finally:
        found.close()
        postgres.restore()
        postgres.drop_database(url)


@contextlib.contextmanager
def running(fleet: Fleet) -> Iterator[int]:
    """Three nodes with a route, and the port of its backend."""
    with backend() as port:
        fleet.start(*ALL)
        fleet.log_in()
        fleet.add_route("a", port, "/first")
        fleet.everywhere("/first")
        yield port


def test_a_change_at_one_node_is_live_at_all(
    fleet: Fleet, redis_server: RedisServer, record_property: Callable[[str, object], None]
) -> None:
    with running(fleet) as port:
        nodes = fleet.call("b", "GET", "/gateway/nodes")["nodes"]
        assert [each["nodeId"] for each in nodes] == ["b", "a", "c"], "a token of one node counts at all"
        took = []
        for index, name in enumerate(ALL):
            route_id = fleet.add_route(name, port, f"/r{index}")
            took.append(fleet.everywhere(f"/r{index}"))
            fleet.call(name, "DELETE", f"/gateway/routes/{route_id}")
            took.append(fleet.everywhere(f"/r{index}", served=False))
        record_property("seconds", took)
        eventually(
            lambda: (
                len({each["revision"] for each in fleet.call("c", "GET", "/gateway/nodes")["nodes"]}) == 1
            ),
            "all nodes tell of one revision",
        )
        assert not any(each["behind"] for each in fleet.call("c", "GET", "/gateway/nodes")["nodes"])
        redis_server.kill()
        eventually(lambda: fleet.reasons("b") == ["redis"], "b without Redis")
        fleet.add_route("a", port, "/polled")
        fleet.everywhere("/polled")
        assert fleet.health("b")["status"] == "Degraded" and fleet.health("b")["ready"]


def test_two_nodes_that_make_clashing_routes_at_once(fleet: Fleet) -> None:
    with running(fleet) as port:
        route = {"pathPattern": "/same", "backends": [{"name": "b", "url": f"http://127.0.0.1:{port}"}]}
        answers: list[int] = []

        def make(name: str) -> None:
            answers.append(fleet.ask(name, "POST", "/gateway/routes", route | {"name": f"of-{name}"})[0])

        threads = [threading.Thread(target=make, args=(name,)) for name in ALL]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [201, 409, 409]
        fleet.everywhere("/same")


def test_files_that_are_applied_at_all_nodes_at_once(fleet: Fleet) -> None:
    with running(fleet) as port:

        def apply(name: str) -> None:
            backends = [{"name": "b", "url": f"http://127.0.0.1:{port}"}]
            routes = [
                {"name": f"{name}{index}", "pathPattern": f"/{name}{index}", "backends": backends}
                for index in range(20)
            ]
            fleet.call(name, "POST", "/gateway/config/apply", {"version": "1", "routes": routes})

        threads = [threading.Thread(target=apply, args=(name,)) for name in ALL]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in ALL:
            fleet.everywhere(f"/{name}19")
        assert {fleet.health(name)["routesConfigured"] for name in ALL} == {61}


def test_servers_that_are_killed_and_come_back(
    fleet: Fleet, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    with running(fleet) as port:
        with Load([fleet.nodes[name].proxy_port for name in ALL], "/first") as load:
            redis_server.kill()
            eventually(lambda: all("redis" in fleet.reasons(name) for name in ALL), "Redis is missed")
            postgres.kill()
            eventually(lambda: all("store" in fleet.reasons(name) for name in ALL), "the store is missed")
            error = fleet.call("a", "GET", "/gateway/routes", status=503)["error"]
            assert error["code"] == "SERVICE_UNAVAILABLE"
            metrics = urllib.request.urlopen(f"{fleet.nodes['a'].admin_url}/metrics", timeout=10).read()
            assert b"\ngateway_store_up 0\n" in metrics and b"\ngateway_redis_up 0\n" in metrics
            postgres.start()
            redis_server.start()
            eventually(lambda: not any(fleet.reasons(name) for name in ALL), "all is well again")
            fleet.add_route("c", port, "/after")
            fleet.everywhere("/after")
        assert load.failed == [] and load.done > 10


def test_a_server_that_hangs_keeps_nothing_waiting(
    fleet: Fleet, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    with running(fleet), Load([fleet.nodes[name].proxy_port for name in ALL], "/first") as load:
        postgres.pause()
        redis_server.pause()
        eventually(lambda: {"store", "redis"} <= set(fleet.reasons("a")), "both are missed")
        begun = time.monotonic()
        assert fleet.health("b")["ready"]
        urllib.request.urlopen(f"{fleet.nodes['b'].admin_url}/metrics", timeout=10).read()
        assert time.monotonic() - begun < 2
        fleet.call("a", "GET", "/gateway/routes", status=503)
        postgres.resume()
        redis_server.resume()
        eventually(lambda: not any(fleet.reasons(name) for name in ALL), "all is well again")
    assert load.failed == [] and load.done > 10


def test_a_node_that_was_away_catches_up(fleet: Fleet) -> None:
    with running(fleet) as port:
        fleet.nodes["c"].end()
        eventually(lambda: len(fleet.call("a", "GET", "/gateway/nodes")["nodes"]) == 2, "c has said goodbye")
        fleet.nodes["b"].process.send_signal(signal.SIGSTOP)  # its control process; its workers go on
        try:
            fleet.add_route("a", port, "/missed")
            assert not fleet.serves("b", "/missed") and fleet.serves("b", "/first")

            def away() -> bool:
                nodes = fleet.call("a", "GET", "/gateway/nodes")["nodes"]
                return [(each["status"], each["behind"]) for each in nodes[1:]] == [("Away", True)]

            eventually(away, "b is away", 30)
        finally:
            fleet.nodes["b"].process.send_signal(signal.SIGCONT)
        fleet.everywhere("/missed", names=("a", "b"))
        fleet.start("c")
        fleet.everywhere("/missed")


def test_a_start_without_the_store(fleet: Fleet, postgres: PostgresServer) -> None:
    with running(fleet) as port:
        for name in ("b", "c"):
            fleet.nodes[name].end()
        fleet.add_route("a", port, "/missed")
        postgres.kill()
        lost = fleet.directory / "c" / "data" / "last-known-good"
        lost.write_bytes(lost.read_bytes()[:40])
        fleet._start("c")
        assert fleet.nodes["c"].process.wait(30) == 1 and not fleet.nodes["c"].ready
        text = fleet.nodes["c"].log.read_text()
        assert "no last good configuration" in text and "Traceback" not in text
        fleet.start("b")
        assert fleet.serves("b", "/first") and not fleet.serves("b", "/missed")
        assert {"store", "lastKnownGood"} <= set(fleet.reasons("b"))
        assert fleet.nodes["b"].logged("starting with the configuration that was live last")
        fleet.call("b", "GET", "/gateway/routes", status=503)
        postgres.start()
        fleet.everywhere("/missed", names=("a", "b"))
        eventually(lambda: not fleet.reasons("b"), "all is well")
        fleet.call("b", "GET", "/gateway/routes")
        fleet.start("c")
        fleet.everywhere("/missed")


def test_a_signal_ends_a_start_that_waits_for_a_server_that_hangs(
    fleet: Fleet, postgres: PostgresServer
) -> None:
    """With the process that applies the file, which would keep the addresses and the data directory."""
    (fleet.directory / "a").mkdir()
    file = fleet.directory / "gateway.yaml"
    file.write_text('version: "1"\nroutes: []\n')
    postgres.pause()
    starting = threading.Thread(target=fleet._start, args=("a",))
    fleet.options = (*fleet.options, "--config", str(file))
    starting.start()
    node = eventually(lambda: fleet.nodes.get("a"), "a starts") or fleet.nodes["a"]
    (child,) = eventually(lambda: _seeds(node), "the file is being applied") or []
    assert node.end() == 0
    assert not alive(child)
    starting.join()
    assert not node.ready


def _seeds(node: Node) -> list[int]:
    """The process that applies the file at the start: the one child with its parent's command line."""
    with contextlib.suppress(AttributeError, OSError):
        parent = Path(f"/proc/{node.process.pid}/cmdline").read_bytes()
        found = [
            pid for pid in children(node.process.pid) if Path(f"/proc/{pid}/cmdline").read_bytes() == parent
        ]
        if node.log.exists() and '"open files' in node.log.read_text():
            return found
    return []


def test_two_nodes_with_one_id(fleet: Fleet) -> None:
    fleet.start("a")
    fleet.log_in()
    other = Node(
        fleet.directory, *fleet.options, "--node-id", "a", "--workers", "1", data_dir="other"
    ).start()
    try:
        eventually(lambda: fleet.reasons("a") == ["nodeId"], "the older one says so")
        assert fleet.nodes["a"].logged("another node has this node's id")
        assert other.health()["degraded"] == []
    finally:
        other.clean_up()


def test_no_password_of_a_url_is_shown(
    fleet: Fleet, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    secret = "redis-password-of-the-test"
    fleet.options = (*fleet.options[:2], "--redis-url", f"redis://:{secret}@127.0.0.1:{redis_server.port}/0")
    fleet.start("a")
    fleet.log_in()
    eventually(lambda: fleet.reasons("a") == ["redis"], "a password that is wrong")
    postgres.kill()
    eventually(lambda: "store" in fleet.reasons("a"), "the store is missed")
    told = fleet.nodes["a"].log.read_text() + json.dumps(fleet.health("a")) + "".join(fleet.nodes["a"].lines)
    assert secret not in told and "p%40ss" not in told and "p@ss" not in told
