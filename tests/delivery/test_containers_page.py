"""The walk-through of docs/containers.md: its commands in their order, on a node without a container."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from e2e.conftest import Api
from e2e.rollout import Traffic, versioned
from harness.client import Client
from harness.server import free_port

from tests.node import PASSWORD, Node

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "containers.md").read_text()
COMMAND = re.compile(r"^    docker compose exec gateway-1 hotswap-proxy (.+)$", re.M)
ROLLED_BACK = 4


def run(node: Node, line: str) -> subprocess.CompletedProcess[str]:
    """A command of the page, as it is run in the container."""
    environ = {
        **os.environ,
        "HOTSWAP_ADMIN_URL": node.admin_url,
        "HOTSWAP_PASSWORD": PASSWORD,
        "XDG_CONFIG_HOME": str(node.directory / "config"),
    }
    command = [sys.executable, "-P", "-m", "hotswap_proxy", *shlex.split(line)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=110, check=False)


def here(line: str, backend: str) -> str:
    """The command for backends of this machine, and quicker; two processes on a busy one are not alike."""
    for old, new in {
        "http://httpbin:8081": f"http://127.0.0.1:{free_port()}",  # nobody listens
        "http://httpbin:8080": backend,
        ":1m": ":2s",
        "--latency-increase 300": "--latency-increase 1000",
    }.items():
        line = line.replace(old, new)
    return line


def test_its_commands_do_what_it_says(start_node: Callable[..., Node]) -> None:
    lines = COMMAND.findall(PAGE)
    assert len(lines) == 10
    node = start_node()
    with versioned("v1", delay=0.002) as old, versioned("v2", delay=0.002) as new:
        route = {"name": "httpbin", "pathPattern": "/**", "backends": [{"name": "httpbin", "url": old}]}
        Api(node).call("POST", "/gateway/routes", route)
        with Traffic([node.proxy_port], rate=100, clients=8):
            for line in lines:
                done = run(node, here(line, new))
                assert done.returncode == (ROLLED_BACK if "--wait" in line else 0), (line, done)
                if '"requests": 1,' in line:
                    with Client(node.proxy_port) as client:
                        assert 429 in {client.get("/get").status for _ in range(2)}
                elif "--watch" in line:
                    assert "Completed" in done.stdout
        assert "system" in done.stdout and "condemn" in done.stdout  # the last one: who did it
