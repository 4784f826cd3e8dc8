"""A node's program is replaced under load, and nobody who uses it notices."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.load import Load
from e2e.conftest import Api
from e2e.rollout import LENIENT, SHORT, Rollout, Traffic, versioned
from e2e.test_tls import options as tls_options
from e2e.test_tls import tls_port
from harness.certs import client_context
from harness.client import Client
from harness.victim import Victim

from tests.node import READY, write_config
from tests.processes import alive, eventually
from tests.upgrades import Copy, Halt, Upgradable, family

CLIENTS = {"get": 4, "post": 2, "once": 4, "slow": 2}
ROUTE = {"name": "all", "pathPattern": "/**"}
Start = Callable[..., Upgradable]
Halted = tuple[Upgradable, Halt, subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    nodes: list[Upgradable] = []

    def begin(*options: str, **environ: str) -> Upgradable:
        node = Upgradable(tmp_path, *options, **environ)
        nodes.append(node)
        node.start()
        assert node.ready, node.log.read_text()[-2000:]
        node.processes()
        return node

    yield begin
    for node in nodes:
        node.clean_up()


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def serve(node: Upgradable, *urls: str, **fields: Any) -> Api:
    api = Api(node)
    api.call("POST", "/gateway/routes", ROUTE | {"backends": [{"url": url} for url in urls]} | fields)
    return api


def add_route(api: Api, path: str, url: str) -> None:
    api.call("POST", "/gateway/routes", {"name": path, "pathPattern": path, "backends": [{"url": url}]})


class Download:
    """A body whose second half is sent when the test says so."""

    SIZE = 200_000

    def __init__(self, gateway: int, backend: socket.socket) -> None:
        self._backend = backend
        self.received = 0
        self._send = threading.Event()
        self._half = threading.Event()
        self._gateway = gateway
        self._threads = [threading.Thread(target=work) for work in (self._serve, self._ask)]
        for thread in self._threads:
            thread.start()
        assert self._half.wait(20)

    def _serve(self) -> None:
        connection, _ = self._backend.accept()
        with connection:
            connection.recv(65536)
            half = b"x" * (self.SIZE // 2)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % self.SIZE + half)
            self._send.wait(120)
            connection.sendall(half)

    def _ask(self) -> None:
        with socket.create_connection(("127.0.0.1", self._gateway), timeout=120) as client:
            client.sendall(b"GET /download HTTP/1.1\r\nhost: test.example\r\nconnection: close\r\n\r\n")
            head, _, body = client.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            self.received = len(body)
            while piece := client.recv(65536):
                self.received += len(piece)
                if self.received >= self.SIZE // 2:
                    self._half.set()

    def finish(self) -> int:
        """How much has come in the end."""
        self._send.set()
        for thread in self._threads:
            thread.join(30)
        return self.received


def test_three_upgrades_under_load_lose_nothing(start: Start, victim: Victim, tmp_path: Path) -> None:
    tls = tls_options(tmp_path, "localhost", "127.0.0.1")
    node = start("--proxy-tls", "127.0.0.1:0", "--drain-timeout", "90", *tls)
    api = serve(node, victim.url)
    first = node.in_charge
    with socket.create_server(("127.0.0.1", 0)) as slow:
        url = f"http://127.0.0.1:{slow.getsockname()[1]}"
        add_route(api, "/download", url)
        download = Download(node.proxy_port, slow)
        with (
            Load(node.proxy_port, CLIENTS | {"websocket": 2}) as plain,
            Load(tls_port(node), {"get": 2, "once": 2}, tls=client_context()) as secure,
        ):
            for number in range(3):
                before = node.in_charge
                code, said = node.upgrade()
                assert code == 0, said
                assert node.in_charge != before and f"process {node.in_charge} " in said
                # What is changed now is live for every new request.
                path = f"/new{number}"
                add_route(api, path, victim.url)
                for _ in range(8):
                    with Client(node.proxy_port) as client:
                        assert client.get(path).status == 200
                for load in (plain, secure):
                    load.run_on()
            assert alive(first), "its WebSockets are open"
        assert plain.failed() == [] and secure.failed() == []
        assert download.finish() == Download.SIZE
    assert node.process.wait(60) == 0
    eventually(lambda: not any(map(alive, node.pids - node.processes())), "the old ones have ended", 30)
    assert api.call("GET", "/gateway/health")["status"] == "Healthy"


def test_a_signal_is_enough(start: Start, victim: Victim) -> None:
    node = start()
    serve(node, victim.url)
    node.process.send_signal(signal.SIGUSR2)
    assert node.process.wait(60) == 0
    assert READY.match(node.process.stdout.readline() if node.process.stdout else "")
    successor = node.in_charge
    assert successor != node.process.pid
    with Client(node.proxy_port) as client:
        assert client.get("/get").status == 200
    node.processes()
    os.kill(successor, signal.SIGTERM)
    eventually(lambda: not any(map(alive, node.pids)), "all ends in order")


def test_what_is_known_of_backends_survives(start: Start, victim: Victim) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dead = f"http://127.0.0.1:{gone.getsockname()[1]}"
    check = {"type": "Tcp", "interval": "2s", "unhealthyThreshold": 3, "healthyThreshold": 2}
    node = start()
    api = Api(node)
    made = {
        url: api.call("POST", "/gateway/backends", {"name": name, "url": url, "healthCheck": check})
        for name, url in (("live", victim.url), ("dead", dead))
    }
    held = made[victim.url]["backendId"]
    route = ROUTE | {"backends": [{"name": name} for name in ("live", "dead")]}
    api.call("POST", "/gateway/routes", route)

    def health(url: str) -> str:
        found: dict[str, Any] = api.call("GET", f"/gateway/backends/{made[url]['backendId']}/health")
        return str(found["healthStatus"])

    eventually(lambda: health(dead) == "Unhealthy" and health(victim.url) == "Healthy", "the checks have run")
    api.call("PUT", f"/gateway/backends/{held}/circuit-breaker", {"state": "Closed"})
    assert node.upgrade()[0] == 0
    assert health(dead) == "Unhealthy" and health(victim.url) == "Healthy"
    assert api.call("GET", f"/gateway/backends/{held}/health")["circuitBreaker"]["mode"] == "Closed"


def test_the_configuration_file_goes_with_the_node(start: Start, victim: Victim, tmp_path: Path) -> None:
    file = write_config(tmp_path / "gateway.json", victim.port)
    node = start("--config", str(file))
    api = Api(node)

    def names() -> set[str]:
        return {route["name"] for route in api.call("GET", "/gateway/routes")["routes"]}

    add_route(api, "/by-hand", victim.url)
    write_config(file, victim.port, text="{}")
    node.logged("configuration file refused")
    code, said = node.upgrade()
    assert code == 1 and "is refused; its mistakes are on standard error" in said
    write_config(file, victim.port)
    node.logged("configuration file applied")
    add_route(api, "/by-hand", victim.url)
    code, said = node.upgrade()
    assert code == 0, said
    assert names() == {"route-0", "/by-hand"}, "it was not applied again"
    write_config(file, victim.port, routes=3)
    eventually(lambda: names() == {"route-0", "route-1", "route-2"}, "the new process looks at it")


def counted(rollout: Rollout) -> int:
    return sum(int(arm["requestCount"]) for arm in rollout.metrics()["total"].values())


def test_a_canary_goes_on(start: Start, stable: str) -> None:
    node = start()
    with versioned("v2", delay=0.004) as candidate:
        rollout = Rollout(Api(node), stable, candidate)
        with Traffic([node.proxy_port]) as traffic:
            rollout.deploy(phases=SHORT, thresholds=LENIENT)
            eventually(lambda: counted(rollout) > 100, "requests are counted")
            before = counted(rollout)
            code, said = node.upgrade()
            assert code == 0, said
            assert counted(rollout) >= before, "what the old process has counted is judged too"
            rollout.reaches("Completed")
            traffic.more(100)
        traffic.check_nothing_was_lost()


# Of a module: a line, and what stands before it in the new version.
BROKEN = {
    "it cannot be imported": ("control/main.py", "import asyncio\n", "import nothing_of_this_name\n"),
    "its settings are refused": (
        "control/__main__.py",
        "        settings.check_combinations()",
        "        raise SettingsError(['HOTSWAP_OLD: no'])\n",
    ),
    "its workers die": ("worker/main.py", "    resources = Resources(", "    raise SystemExit(9)\n"),
    "it fails in charge": ("deploy/start.py", "    leadership = ", "    raise RuntimeError('broken')\n"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_new_version_that_fails_changes_nothing(start: Start, victim: Victim, copy: Copy, how: str) -> None:
    node = start(PYTHONPATH=str(copy.path))
    api = serve(node, victim.url)
    control = node.in_charge
    with Load(node.proxy_port, CLIENTS) as load:
        module, line, more = BROKEN[how]
        with copy.changed(module, line, more + line):
            code, said = node.upgrade()
        assert code == 1 and "not upgraded" in said
        load.run_on()
        assert node.in_charge == control == node.process.pid
        assert len(node.workers()) == 2
        add_route(api, "/n", victim.url)
        code, said = node.upgrade()
        assert code == 0, said
        load.run_on()
    assert load.failed() == []
    assert node.logged("upgrade failed")["level"] == "error"


def test_one_that_does_not_come_up_is_not_waited_for(start: Start, victim: Victim, copy: Copy) -> None:
    node = start(PYTHONPATH=str(copy.path))
    serve(node, victim.url)
    with copy.halted("control/handover/predecessor.py", '        await self._tell({"prepared"') as halt:
        with node.begin_upgrade("--timeout", "8") as first:
            new = halt.wait()
            code, said = node.upgrade()
            assert code == 1 and "an upgrade is under way" in said
            _, said = first.communicate(timeout=60)
        assert first.returncode == 1 and "not ready within 8 s" in said
        assert not alive(new)
    with Client(node.proxy_port) as client:
        assert client.get("/get").status == 200


STAGES = {
    "prepares": ("control/handover/predecessor.py", '        await self._tell({"prepared"'),
    "takes over": ("control/handover/turn.py", "    standing.take(found or (), node"),
    "serves": ("control/handover/predecessor.py", '        await self._tell({"serving": True})'),
    "takes the duties": ("control/main.py", "        await duties.take()\n"),
}


@pytest.fixture
def halted(start: Start, victim: Victim, copy: Copy, request: pytest.FixtureRequest) -> Iterator[Halted]:
    """A node in the middle of an upgrade, at a stage of its new process."""
    node = start(PYTHONPATH=str(copy.path))
    serve(node, victim.url)
    with copy.halted(*STAGES[request.param]) as halt, node.begin_upgrade() as asking:
        yield node, halt, asking
        halt.go_on()
        asking.kill()


@pytest.mark.parametrize("halted", STAGES, indirect=True)
def test_the_new_process_is_killed(halted: Halted) -> None:
    node, halt, asking = halted
    with Load(node.proxy_port, CLIENTS) as load:
        new = halt.wait()
        node.pids |= {new, *family(new)}
        os.kill(new, signal.SIGKILL)
        asking.communicate(timeout=60)
        assert asking.returncode == 1
        load.run_on()
        eventually(lambda: node.in_charge == node.process.pid, "the old one goes on")
        eventually(lambda: node.health()["status"] == "Healthy", "it answers")
        halt.go_on()
        code, said = node.upgrade()
        assert code == 0, said
        load.run_on()
    assert load.failed() == []


@pytest.mark.parametrize("halted", STAGES, indirect=True)
def test_the_old_process_is_killed(halted: Halted) -> None:
    node, halt, asking = halted
    with Load(node.proxy_port, CLIENTS) as load:
        new = halt.wait()
        old = set(node.pids)
        node.process.kill()
        node.process.wait()
        halt.go_on()
        asking.communicate(timeout=60)
        assert asking.returncode == 1
        eventually(lambda: node.in_charge == new, "the new one goes on")
        eventually(lambda: node.health()["status"] == "Healthy", "it answers")
        node.processes()
        eventually(lambda: not any(map(alive, old)), "the orphans have drained")
        load.run_on()
        code, said = node.upgrade()
        assert code == 0, said
    assert load.failed() == []


@pytest.mark.parametrize("halted", ["prepares", "serves"], indirect=True)
def test_sigterm_in_the_middle_ends_both(halted: Halted) -> None:
    node, halt, asking = halted
    new = halt.wait()
    node.processes()
    assert node.end() == 0
    assert not alive(new)
    asking.communicate(timeout=30)
    assert asking.returncode == 1
    eventually(lambda: not any(map(alive, node.pids)), "all have ended")


def test_nobody_to_ask(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "hotswap_proxy", "upgrade", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no node of this data directory can be asked" in done.stderr
