"""Two nodes with one PostgreSQL, upgraded one after the other while both serve and a deployment goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.conftest import Api
from e2e.rollout import LENIENT, Rollout, Traffic, versioned
from harness.client import Client
from harness.redisserver import RedisServer

from tests.processes import eventually
from tests.upgrades import Upgradable

PHASES = [{"trafficPercentage": share, "duration": "4s"} for share in (20, 60, 100)]


@pytest.fixture
def fleet(tmp_path: Path, postgres_url: str, redis_server: RedisServer) -> Iterator[list[Upgradable]]:
    stores = {"HOTSWAP_DATABASE_URL": postgres_url, "HOTSWAP_REDIS_URL": redis_server.url}
    nodes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        node = Upgradable(tmp_path / name, "--workers", "1", "--node-id", name, **stores)
        nodes.append(node)
        node.start()
        assert node.ready, node.log.read_text()[-2000:]
        node.processes()
    yield nodes
    for node in nodes:
        node.clean_up()


def test_one_after_the_other(fleet: list[Upgradable], stable: str) -> None:
    api = Api(fleet[0])
    with versioned("v2", delay=0.004) as candidate:
        rollout = Rollout(api, stable, candidate)
        for node in fleet:
            eventually(lambda port=node.proxy_port: _ask(port) == 200, "the route on both nodes")
        with Traffic([node.proxy_port for node in fleet]) as traffic:
            rollout.deploy(phases=PHASES, thresholds=LENIENT)
            for node in fleet:
                before = node.in_charge
                code, said = node.upgrade()
                assert code == 0, said
                assert node.in_charge != before
                eventually(lambda: _in_step(api), "both nodes serve the newest revision")
            record = rollout.reaches("Completed", within=90)
            assert record["verdict"]["kind"] != "Fail"
            traffic.more(100)
        traffic.check_nothing_was_lost()
    for node in fleet:
        assert not [line for line in node.events() if "another node has this node's id" in line["event"]]


def _ask(port: int) -> int:
    with Client(port) as client:
        return client.get("/users/1").status


def _in_step(api: Api) -> bool:
    rows = api.call("GET", "/gateway/nodes")["nodes"]
    return len(rows) == 2 and len({row["revision"] for row in rows}) == 1
