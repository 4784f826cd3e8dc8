"""Where the lines go: no request without one, none torn, whatever happens to processes, files and disks."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.accesslog import Numbered, line_of, once_each, read, rotate
from e2e.conftest import Api
from harness.backend import Backend, ok
from harness.client import Client

from tests.node import Node
from tests.processes import alive, eventually
from tests.upgrades import Upgradable

Start = Callable[..., Node]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """One route for all, with a backend that is always well."""
    backend = Backend(lambda _request: ok(b"fine"))
    path = tmp_path / "gateway.json"
    route = {"name": "all", "pathPattern": "/**", "backends": [{"name": "b", "url": backend.url}]}
    path.write_text(json.dumps({"version": "1", "routes": [route]}))
    return path


def reopen(node: Node) -> None:
    node.process.send_signal(signal.SIGUSR1)


def test_rotated_under_load(start_node: Start, config: Path, tmp_path: Path) -> None:
    """Ten thousand requests over four files."""
    log = tmp_path / "access.log"
    node = start_node("--config", str(config), "--access-log", str(log))
    renamed: list[Path] = []
    with Numbered(node.proxy_port, clients=16, most=10_000) as load:
        for number in range(1, 4):
            load.more(2000)
            renamed.append(rotate(log, number, lambda: reopen(node)))
        load.join()
    assert node.end() == 0
    lines = read(log, *renamed)
    assert len(load.answered) > 9900 and len(lines) == len(load.answered)
    assert once_each(lines, load.answered) == (set(), set())
    assert all(read(path) for path in (log, *renamed)), "each file has its part"
    assert [line["event"] for line in node.events()].count("access log opened anew") == 3


def test_a_node_that_drains_loses_no_line(start_node: Start, config: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    node = start_node("--config", str(config), "--access-log", str(log))
    with Numbered(node.proxy_port) as load:
        load.more(500)
        assert node.end() == 0
    assert once_each(read(log), load.answered) == (set(), set())


def test_an_upgrade_loses_no_line(config: Path, tmp_path: Path) -> None:
    """Two nodes write to one file for a while; and it is rotated meanwhile."""
    log = tmp_path / "access.log"
    node = Upgradable(tmp_path, "--config", str(config), "--access-log", str(log))
    node.start()
    try:
        before = node.in_charge
        with Numbered(node.proxy_port) as load:
            load.more(200)
            code, said = node.upgrade()
            assert code == 0, said
            load.more(200)
            renamed = rotate(log, 1, lambda: os.kill(node.in_charge, signal.SIGUSR1))
            load.more(200)
        after = node.in_charge
        assert after != before
        os.kill(after, signal.SIGTERM)
        eventually(lambda: not alive(after) and not alive(before), "both have ended", 60)
    finally:
        node.clean_up()
    assert once_each(read(log, renamed), load.answered) == (set(), set())


def test_a_worker_that_is_killed_takes_no_lines_with_it(
    start_node: Start, config: Path, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    node = start_node("--config", str(config), "--access-log", str(log))
    killed = 0
    with Numbered(node.proxy_port) as load:
        for _ in range(3):
            load.more(200)
            victim = node.workers()[0]
            os.kill(victim, signal.SIGKILL)
            killed += 1
            eventually(lambda victim=victim: not alive(victim) and len(node.workers()) == 2, "the next one")
        load.more(500)
    assert node.end() == 0
    missing, twice = once_each(read(log), load.answered)
    assert twice == set()
    assert len(missing) <= killed, "at most the one that it had just answered"


def test_the_signal_ends_no_process(start_node: Start, config: Path, tmp_path: Path) -> None:
    """`systemctl kill` sends it to all of them; and a node may have no log to open."""
    node = start_node("--config", str(config))
    family = [node.process.pid, node.spawner(), *node.workers()]
    for pid in family:
        os.kill(pid, signal.SIGUSR1)
    with Client(node.proxy_port) as client:
        assert client.get("/x").status == 200
    os.kill(node.workers()[0], signal.SIGKILL)  # its replacement is no other
    eventually(lambda: len(set(node.workers()) - set(family)) == 1, "the next worker")
    for pid in node.workers():
        os.kill(pid, signal.SIGUSR1)
    with Client(node.proxy_port) as client:
        assert client.get("/x").status == 200
    assert node.end() == 0


def test_a_directory_that_is_gone_at_the_rotation(start_node: Start, config: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "access.log"
    log.parent.mkdir()
    node = start_node("--config", str(config), "--access-log", str(log))
    log.parent.rename(tmp_path / "moved")
    reopen(node)
    told = node.logged("the access log stays the file it was")
    assert told["reason"] == f"cannot write the access log {log}: the directory {log.parent} does not exist"
    with Client(node.proxy_port) as client:
        client.get("/x", "X-Request-ID: still")
    line_of(tmp_path / "moved" / "access.log", "still")


def test_a_full_disk_costs_lines_and_nothing_else(start_node: Start, config: Path) -> None:
    node = start_node("--config", str(config), "--access-log", "/dev/full")
    with Numbered(node.proxy_port, most=500) as load:
        load.join()
    api = Api(node)
    eventually(lambda: api.metric("gateway_access_log_errors_total") == len(load.answered), "all are counted")
    assert api.metric("gateway_access_log_lines_total") == 0
    assert api.metric("gateway_journal_dropped_total") == 0
    assert node.health()["status"] == "Healthy"
    told = [line for line in node.events() if line["event"] == "the access log cannot be written"]
    (line,) = told
    assert line["reason"].startswith("No space left on device")
    assert node.end() == 0


def test_a_reader_that_hangs_costs_lines_and_nothing_else(
    start_node: Start, config: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    node = start_node("--config", str(config), "--access-log", str(pipe))
    api = Api(node)
    with Numbered(node.proxy_port, agent="x" * 500, pause=0) as load:
        eventually(lambda: api.metric("gateway_journal_dropped_total") > 0, "the rings are full", 60)
        load.more(200)
    assert node.logged("requests are missing in the access log or traces")["level"] == "error"

    os.set_blocking(reader, True)  # it goes on: what waited comes, whole
    data = b""
    with Client(node.proxy_port) as client:
        while b'"requestId":"last"' not in data:
            data += os.read(reader, 1 << 16)
            if b"last" not in data:
                client.get("/x", "X-Request-ID: last")
    lines = [json.loads(line) for line in data.rpartition(b"\n")[0].splitlines()]
    ids = [line["requestId"] for line in lines if line["requestId"] != "last"]
    assert len(ids) == len(set(ids)) > 1000
    os.close(reader)
    assert node.end() == 0


def test_a_node_ends_while_its_reader_hangs(start_node: Start, config: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    node = start_node("--config", str(config), "--access-log", str(pipe))
    with Numbered(node.proxy_port, most=400, agent="x" * 500) as load:
        load.join()
    assert node.end() == 0
    assert node.logged("the access log is not written to its end")["file"] == str(pipe)
    os.close(reader)


def test_the_file_is_for_owner_and_group(start_node: Start, config: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    start_node("--config", str(config), "--access-log", str(log))
    assert log.stat().st_mode & 0o777 == 0o640
