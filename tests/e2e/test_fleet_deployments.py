"""Three nodes with one PostgreSQL and one Redis: what a deployment and the loss of any part of it cost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from e2e.conftest import Api
from e2e.rollout import LENIENT, Rollout, Traffic, versioned
from harness.client import Client
from harness.postgres import PostgresServer
from harness.redisserver import RedisServer

from tests.node import Node
from tests.processes import eventually

NAMES = ("one", "two", "three")
SHORT = [{"trafficPercentage": share, "duration": "3s"} for share in (10, 50, 100)]
LONG = [
    {"trafficPercentage": 20, "duration": "5m"},
    {"trafficPercentage": 60, "duration": "5m"},
    {"trafficPercentage": 100, "duration": "5m"},
]


class Fleet:
    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory, self.environment = directory, environment
        self.nodes: dict[str, Node] = {}
        self.apis: dict[Node, Api] = {}

    def start(self, name: str, *options: str) -> Node:
        (self.directory / name).mkdir(exist_ok=True)
        node = Node(
            self.directory / name,
            *("--workers", "1", "--node-id", name, *options),
            HOTSWAP_ADMIN_USERNAME="admin",
            **self.environment,
        )
        self.nodes[name] = node
        node.start()
        assert node.ready, node.log.read_text()
        return node

    def start_all(self) -> None:
        with ThreadPoolExecutor(len(NAMES)) as threads:
            list(threads.map(self.start, NAMES))

    @property
    def ports(self) -> list[int]:
        return [node.proxy_port for node in self.nodes.values()]

    def api(self, name: str = "one") -> Api:
        """Logged in once, for logins are limited."""
        node = self.nodes[name]
        if node not in self.apis:
            self.apis[node] = Api(node)
        return self.apis[node]


@pytest.fixture
def fleet(tmp_path: Path, postgres_url: str, redis_server: RedisServer) -> Iterator[Fleet]:
    made = Fleet(tmp_path, {"HOTSWAP_DATABASE_URL": postgres_url, "HOTSWAP_REDIS_URL": redis_server.url})
    made.start_all()
    yield made
    for node in made.nodes.values():
        node.clean_up()


def everywhere(fleet: Fleet) -> None:
    """Wait until each node answers for the route."""
    for node in fleet.nodes.values():
        eventually(lambda node=node: ask_users(node) == 200, "the route on every node")


def ask_users(node: Node) -> int:
    with Client(node.proxy_port) as client:
        return client.get("/users/1").status


def test_a_good_and_a_bad_rollout_on_three_nodes(fleet: Fleet, stable: str) -> None:
    with versioned("v2", delay=0.004) as good, versioned("v3", failed=1.0) as bad:
        rollout = Rollout(fleet.api("two"), stable, good)
        rollout.stage("3.0", bad)
        everywhere(fleet)
        with Traffic(fleet.ports, rate=400, clients=30) as traffic:
            rollout.deploy(phases=SHORT, thresholds=LENIENT)
            rollout.reaches("Completed", within=110)
            traffic.more(100)
            assert {key for key, n in traffic.more(300).items() if n} == {"v2 200"}
            began = time.monotonic()
            rollout.deploy(configVersion="3.0", phases=LONG)
            rollout.reaches("RolledBack", within=30)
            assert time.monotonic() - began < 30
            traffic.more(100)
            assert {key for key, n in traffic.more(300).items() if n} == {"v2 200"}
        traffic.check_nothing_was_lost(failures_of="v3 500")
    assert rollout.live()["version"] == "2.0"


def test_the_node_that_drives_is_stopped_then_killed_and_another_finishes(fleet: Fleet, stable: str) -> None:
    with versioned("v2", delay=0.004) as good:
        rollout = Rollout(fleet.api(), stable, good)
        everywhere(fleet)
        rollout.deploy(phases=SHORT, thresholds=LENIENT)
        asleep = takes_over(rollout, list(NAMES))
        others = [name for name in NAMES if name != asleep]
        rollout.api = fleet.api(others[0])
        process = fleet.nodes[asleep].process
        with Traffic([fleet.nodes[asleep].proxy_port], rate=300) as traffic:
            process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            driver = takes_over(rollout, others)
            assert time.monotonic() - began < 12
            process.send_signal(signal.SIGCONT)
            eventually(lambda: rollout.get()["currentPhase"] == 1, "the second phase", 60)
            assert takes_over(rollout, list(NAMES)) == driver, "the one that was asleep does not drive"
            fleet.nodes[driver].process.kill()
            began = time.monotonic()
            fleet.nodes[driver].process.wait()
            left = [name for name in NAMES if name != driver]
            rollout.api = fleet.api(next(name for name in others if name != driver))
            takes_over(rollout, left)
            assert time.monotonic() - began < 12
            done = rollout.reaches("Completed", within=110)
            advanced = [event for event in done["events"] if event["event"] == "advance"]
            assert len(advanced) == len(SHORT) - 1, "each step was made once"

            # Back again, node after node, over those that are left.
            def away() -> bool:
                told = rollout.api.call("GET", "/gateway/nodes")["nodes"]
                return [node["nodeId"] for node in told if node["status"] == "Away"] == [driver]

            eventually(away, "the killed node is away", 30)
            rollout.deploy(configVersion="1.0", strategy="Rolling")
            assert sorted(rollout.get()["nodes"]) == sorted(left)
            rollout.reaches("Completed", within=60)
            traffic.more(50)
            assert {key for key, n in traffic.more(300).items() if n} == {"v1 200"}
        traffic.check_nothing_was_lost()


def takes_over(rollout: Rollout, names: list[str]) -> str:
    """Which of these nodes drives, as soon as one of them does."""

    def found() -> str:
        told = rollout.api.call("GET", "/gateway/nodes")["nodes"]
        return next((n["nodeId"] for n in told if n["drivesDeployments"] and n["nodeId"] in names), "")

    return eventually(found, f"one of {names} drives", 20)


def test_redis_and_then_postgresql_die_under_load_and_come_back(
    fleet: Fleet, stable: str, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    with versioned("v2", delay=0.004) as good:
        rollout = Rollout(fleet.api(), stable, good)
        everywhere(fleet)
        with Traffic(fleet.ports, rate=300, clients=30) as traffic:
            redis_server.kill()
            rollout.deploy(phases=LONG)
            eventually(lambda: traffic.count("v2") > 20, "traffic on the canary arm without Redis", 30)
            postgres.kill()
            traffic.more(1000)
            for node in fleet.nodes.values():

                def degraded(node: Node = node) -> bool:
                    told = node.health()
                    return bool(told["ready"]) and told["status"] == "Degraded"

                eventually(degraded, "health that says degraded")
            share = traffic.more(1000)
            assert share["v2 200"] / sum(share.values()) == pytest.approx(0.2, abs=0.04), "as it was"
            postgres.start()
            redis_server.start()
            began = time.monotonic()

            def healthy() -> bool:
                return all(node.health()["status"] == "Healthy" for node in fleet.nodes.values())

            eventually(healthy, "all nodes healthy again", 20)
            rollout.api = fleet.api()
            rollout.command("promote", targetPercentage=100)
            eventually(lambda: {k for k, n in traffic.more(90).items() if n} == {"v2 200"}, "v2 alone", 20)
            assert time.monotonic() - began < 30
        traffic.check_nothing_was_lost()
