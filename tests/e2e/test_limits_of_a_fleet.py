"""Two nodes as an operator runs them, one PostgreSQL, one Redis: a limit is the fleet's."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from harness.backend import Backend, ok
from harness.client import Client
from harness.redisserver import RedisServer

from tests.node import Node
from tests.processes import eventually

CONFIG = """
routes:
  - name: limited
    path: /**
    backends: [{{url: "{url}"}}]
    rateLimit: {{type: TokenBucket, requests: 40, window: 24h, keyBy: ClientIP}}
"""


def is_sharing(node: Node) -> bool:
    with urllib.request.urlopen(node.admin_url + "/metrics") as answer:
        text = answer.read().decode()
    return "gateway_rate_limit_nodes 2" in text and "gateway_rate_limit_apart 0" in text


def statuses(node: Node, times: int) -> list[int]:
    with Client(node.proxy_port) as client:
        return [client.get().status for _ in range(times)]


def test_a_client_has_one_limit_on_all_nodes(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer
) -> None:
    target = Backend(lambda _request: ok())
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(url=target.url))
    nodes: list[Node] = []
    try:
        for index in range(2):
            place = tmp_path / f"n{index}"
            place.mkdir()
            options = ("--node-id", f"n{index}", *(("--config", str(config)) if index == 0 else ()))
            where = {"HOTSWAP_DATABASE_URL": postgres_url, "HOTSWAP_REDIS_URL": redis_server.url}
            nodes.append(Node(place, *options, **where).start())
        for node in nodes:
            eventually(lambda node=node: is_sharing(node), "the nodes share")
        passed = 0

        def all_used() -> bool:
            nonlocal passed
            asked = [statuses(node, 3) for node in nodes]
            assert {status for each in asked for status in each} <= {200, 429}
            passed += sum(each.count(200) for each in asked)
            return passed >= 38 and not any(each.count(200) for each in asked)

        eventually(all_used, "the limit is used up")
        assert 38 <= passed <= 42
    finally:
        for node in nodes:
            node.end()
            node.clean_up()
        target.close()
