"""The node runs out of descriptors or room on the disk; or its clock is set, or its store is hurt."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import shutil
import sqlite3
import struct
import subprocess
import time
import urllib.error
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from chaos.conftest import kill_control, metric
from chaos.load import Load
from e2e.conftest import Api
from harness.client import Client

from tests.processes import connect, eventually, read_answer

CLIENTS = {"get": 4, "post": 2, "once": 2}
CHECK = {"interval": "100ms", "timeout": "1s", "unhealthyThreshold": 2, "healthyThreshold": 2}


@contextlib.contextmanager
def limited(pid: int, what: int, soft: int) -> Iterator[None]:
    """A process has a lower limit for a while."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, before[1]))
    yield
    resource.prlimit(pid, what, before)


def test_workers_without_descriptors_serve_whom_they_have(nodes, victims, write_routes):
    node = nodes.start("--config", str(write_routes(*(victim.url for victim in victims))))
    with Load(nodes.port, {"get": 8, "post": 4}) as load, contextlib.ExitStack() as stack:
        load.run_on()  # each has its connections, to both backends
        for worker in node.workers():
            stack.enter_context(limited(worker, resource.RLIMIT_NOFILE, 3))
        clients = [connect(nodes.port) for _ in range(10)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        load.run_on()
        stack.close()
        for client in clients:  # they have waited in the queue
            assert read_answer(client).startswith(b"HTTP/1.1 200")
            client.close()
    # A request that needs a connection of its own to its backend has none; all others are served.
    assert {one.what for one in load.failures} <= {"HTTP/1.1 503 Service Unavailable"}


def test_a_control_process_without_descriptors_takes_no_backend_out(nodes, victims, write_routes):
    file = write_routes(*(victim.url for victim in victims), backend={"healthCheck": CHECK})
    node = nodes.start("--config", str(file))
    eventually(lambda: metric(node, "gateway_backends_healthy") == 2, "both are checked")
    with Load(nodes.port, CLIENTS) as load:
        with limited(node.process.pid, resource.RLIMIT_NOFILE, 3):
            node.logged("health checks cannot be run")
            load.run_on()
        node.logged("health checks are run again")
        assert metric(node, "gateway_backends_unhealthy") == 0
    assert load.failed() == []


def test_a_full_disk_refuses_changes_and_nothing_else(nodes, victims, write_routes):
    node = nodes.start("--config", str(write_routes(*(victim.url for victim in victims))))
    api = Api(node)
    made = api.call("POST", "/gateway/backends", {"name": "other", "url": victims[0].url, "weight": 1})
    path = f"/gateway/backends/{made['backendId']}"
    accepted = 1
    with Load(nodes.port, CLIENTS) as load:
        with limited(node.process.pid, resource.RLIMIT_FSIZE, 64 * 1024):
            for weight in range(2, 60):  # until the log of the store meets the limit
                try:
                    api.call("PUT", path, {"weight": weight})
                except urllib.error.HTTPError as error:
                    refused = json.load(error)["error"]
                    assert (error.code, refused["code"]) == (503, "SERVICE_UNAVAILABLE")
                    assert "nothing was changed" in refused["message"]
                    break
                accepted = weight
            else:
                raise AssertionError("the limit was never met")
            assert api.call("GET", path)["weight"] == accepted
            load.run_on()
        api.call("PUT", path, {"weight": 77})
        assert api.call("GET", path)["weight"] == 77
    assert load.failed() == []


def test_a_damaged_store_stops_changes_not_traffic(nodes, victims, write_routes, tmp_path):
    node = nodes.start("--config", str(write_routes(victims[0].url)))
    api = Api(node)
    store = next((tmp_path / "data").glob("*.db"))
    kept = tmp_path / "kept.db"
    with (
        contextlib.closing(sqlite3.connect(store)) as live,
        contextlib.closing(sqlite3.connect(kept)) as copy,
    ):
        live.backup(copy)
    with Load(nodes.port, CLIENTS) as load:
        for file in (store, Path(f"{store}-wal")):
            size = file.stat().st_size
            with file.open("r+b") as damaged:
                damaged.write(os.urandom(size))
        with pytest.raises(urllib.error.HTTPError) as refused:
            api.call("POST", "/gateway/backends", {"name": "x", "url": "http://127.0.0.1:1"})
        assert refused.value.code == 503
        load.run_on()
        kill_control(node)
        load.run_on()
        # The backup, in its place: the next control process takes over.
        for file in (tmp_path / "data").glob(f"{store.name}*"):
            file.unlink()
        shutil.copy(kept, store)
        node = nodes.start()
        load.run_on()
        assert node.health()["routesConfigured"] == 1
    assert load.failed() == []


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[tuple[dict[str, str], Callable[[int], None]]]:
    """What a node needs in its environment, and the setter of its wall clock: seconds from the true time."""
    library, file = tmp_path / "clock.so", tmp_path / "offset"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    file.write_bytes(bytes(8))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 8) as shared:

        def set_clock(seconds: int) -> None:
            shared[:] = struct.pack("=q", seconds)

        yield {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(file)}, set_clock


def test_a_clock_that_is_set_changes_no_timeout(nodes, victims, write_routes, clock):
    """Forward and back by days: what is open stays open, what waits waits as long as it should."""
    environ, set_clock = clock
    file = write_routes(*(victim.url for victim in victims), backend={"healthCheck": CHECK})
    node = nodes.start("--config", str(file), **environ)
    with Load(nodes.port, {**CLIENTS, "slow": 2, "websocket": 1}) as load:
        for jump in (86400, -86400, 0):
            set_clock(jump)

            def shown(jump: int = jump) -> bool:
                with Client(nodes.port) as client:
                    date = client.get("/", "Expect: nothing").header("Date")  # an answer of the gateway's own
                assert date is not None
                moment = parsedate_to_datetime(date).timestamp()
                return abs(moment - time.time() - jump) < 60

            eventually(shown, "workers show the new time")
            checks = metric(node, "gateway_backend_health_checks_total")
            eventually(
                lambda enough=checks + 4: metric(node, "gateway_backend_health_checks_total") > enough,
                "checks go on",
            )
            load.run_on()
        assert metric(node, "gateway_backends_unhealthy") == 0
        assert 0 <= node.health()["uptime"] < 600
    assert load.failed() == []
