"""What the manifests say, done with real processes: variables, probes, the job, the end of a pod."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from e2e.conftest import Api
from harness.client import Client
from harness.redisserver import RedisServer

from tests.delivery import manifests
from tests.delivery.manifests import ADMIN, PROXY
from tests.delivery.service import ServiceClients
from tests.node import PASSWORD, Node, backend
from tests.processes import eventually

StartPod = Callable[[str], Node]
# Its own place instead of the cluster's: addresses, the directory of the volume.
ELSEWHERE = {"HOTSWAP_PROXY", "HOTSWAP_ADMIN", "HOTSWAP_WORKERS", "HOTSWAP_DATA_DIR"}


@pytest.fixture
def pod(tmp_path: Path, postgres_url: str, redis_server: RedisServer) -> Iterator[StartPod]:
    """Starts a gateway with the variables of the Deployment, and waits until it is ready."""
    secrets = {
        "database-url": postgres_url,
        "redis-url": redis_server.url,
        "admin-username": "admin",
        "admin-password": PASSWORD,
    }
    started: list[Node] = []

    def start(name: str) -> Node:
        variables = manifests.environment(secrets, name=name)
        assert variables.keys() >= ELSEWHERE
        options = {key: value for key, value in variables.items() if key not in ELSEWHERE}
        # The backends are here, and there is no collector.
        options["HOTSWAP_ALLOWED_BACKEND_HOSTS"] = "127.0.0.1"
        options["HOTSWAP_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
        (tmp_path / name).mkdir()
        node = Node(tmp_path / name, "--workers", variables["HOTSWAP_WORKERS"], **options)
        started.append(node)
        node.start()
        assert node.ready, node.log.read_text()
        threading.Thread(target=read_on, args=(node,), daemon=True).start()
        return node

    yield start
    for node in started:
        node.clean_up()


def read_on(node: Node) -> None:
    """Take the access log from its standard output, as a container's runtime does."""
    assert node.process.stdout is not None
    with contextlib.suppress(ValueError):  # closed by the end of the test
        node.lines.extend(line.rstrip("\n") for line in node.process.stdout)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with the command of the image."""
    directory = tmp_path / "bin"
    directory.mkdir()
    command = directory / "hotswap-proxy"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m hotswap_proxy "$@"\n')
    command.chmod(0o755)
    return directory


def probe(node: Node, name: str) -> int:
    """The status that a probe gets, asked as the kubelet does: by the pod's address."""
    path = manifests.container()[name]["httpGet"]["path"]
    request = urllib.request.Request(node.admin_url + path, headers={"Host": f"10.1.2.3:{ADMIN}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(answer.status)


def configure(
    node: Node, programs: Path, backend_port: int, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run the configuration job's script with its file."""
    [job] = manifests.find("Job", of="configure")["spec"]["template"]["spec"]["containers"]
    text = manifests.find("ConfigMap", of="configure")["data"]["gateway.yaml"]
    document = yaml.safe_load(text)
    document["backends"][0]["url"] = f"http://127.0.0.1:{backend_port}"
    document["routes"][0] |= changes
    file = programs.parent / "gateway.yaml"
    file.write_text(yaml.safe_dump(document))
    assert {item["name"] for item in job["env"]} == {
        "HOTSWAP_ADMIN_URL",
        "HOTSWAP_FILE",
        "HOTSWAP_USERNAME",
        "HOTSWAP_PASSWORD",
    }
    environ = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOTSWAP_ADMIN_URL": node.admin_url,
        "HOTSWAP_FILE": str(file),
        "HOTSWAP_USERNAME": "admin",
        "HOTSWAP_PASSWORD": PASSWORD,
    }
    line = [*job["command"], *job["args"]]
    return subprocess.run(line, env=environ, capture_output=True, text=True, timeout=60, check=False)


def answers(node: Node) -> bool:
    with Client(node.proxy_port) as client:
        return client.get("/example/x").status == 200


def test_a_pod_begins_is_configured_and_ends_under_load(pod: StartPod, programs: Path) -> None:
    with backend() as port:
        one, two = pod("gateway-7d9c5b-aaaaa"), pod("gateway-7d9c5b-bbbbb")
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert probe(one, name) == 200
        done = configure(one, programs, port)
        assert done.returncode == 0, done.stderr
        eventually(lambda: answers(one) and answers(two), "the route on both")

        endpoints = [one.proxy_port, two.proxy_port]
        with ServiceClients(endpoints, "/example/x") as clients:
            eventually(lambda: min(clients.count(port) for port in endpoints) > 100, "load on both")
            # The pod is deleted: it is taken out of the Service while its preStop hook runs.
            hook = manifests.container()["lifecycle"]["preStop"]["exec"]["command"]
            with subprocess.Popen(hook) as waiting:
                before = clients.count(one.proxy_port)
                eventually(lambda: clients.count(one.proxy_port) > before, "still served")
                endpoints.remove(one.proxy_port)
                assert waiting.wait(30) == 0
            assert one.health()["ready"]  # the hook is before the signal
            assert one.end(signal.SIGTERM) == 0
            after = clients.count(two.proxy_port)
            eventually(lambda: clients.count(two.proxy_port) > after + 100, "all on the other one")
        assert clients.failures == []
        nodes = Api(two).call("GET", "/gateway/nodes")["nodes"]
        assert [node["nodeId"] for node in nodes] == ["gateway-7d9c5b-bbbbb"]  # it left in order: not "Away"


def test_the_job_does_not_change_what_is_in_production(pod: StartPod, programs: Path) -> None:
    with backend() as port:
        node = pod("gateway-7d9c5b-ccccc")
        for _ in range(2):  # the second time there is nothing to do
            done = configure(node, programs, port)
            assert done.returncode == 0, done.stderr
        refused = configure(node, programs, port, pathPattern="/other/**")
        assert refused.returncode != 0 and "approves" in refused.stderr, refused.stderr
        eventually(lambda: answers(node), "the route as it was")


def test_addresses_of_the_pod_are_its_own() -> None:
    """What the first test replaces."""
    variables = manifests.find("ConfigMap")["data"]
    assert variables["HOTSWAP_PROXY"] == f"0.0.0.0:{PROXY}"
    [mount] = [m for m in manifests.container()["volumeMounts"] if m["name"] == "data"]
    assert Path(mount["mountPath"]) in Path(variables["HOTSWAP_DATA_DIR"]).parents
