"""A whole node: what signals, crashes and files do to it, seen from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.node import Handler, Node, backend, children, write_config
from tests.processes import alive, ask, connect, eventually, peer_inode, read_answer, socket_inodes


@pytest.fixture
def backend_port() -> Iterator[int]:
    with backend() as port:
        yield port


@pytest.fixture
def config(tmp_path: Path, backend_port: int) -> Path:
    return write_config(tmp_path / "gateway.json", backend_port)


@contextlib.contextmanager
def started(node: Node) -> Iterator[Node]:
    node.start()
    try:
        assert node.ready, node.log.read_text()
        yield node
    finally:
        node.clean_up()


@pytest.fixture
def node(tmp_path: Path, config: Path) -> Iterator[Node]:
    with started(Node(tmp_path, "--config", str(config))) as running:
        yield running


def get(node: Node, path: str = "/") -> bytes:
    with connect(node.proxy_port) as client:
        return ask(client, path)


def test_one_line_says_that_it_is_ready(node: Node) -> None:
    assert len(node.lines) == 1
    assert node.ready["workers"] == "2"
    assert node.ready["routes"] == "1"
    assert len(node.workers()) == 2
    assert b"HTTP/1.1 200" in get(node)
    health = node.health()
    assert health["ready"] is True
    assert health["status"] == "Healthy"
    assert health["routesConfigured"] == 1
    assert health["generation"] == int(node.ready["generation"])
    assert health["memoryBytes"] < 100_000_000


def test_the_first_administrators_password_is_told_once(tmp_path: Path) -> None:
    options = {"HOTSWAP_ADMIN_PASSWORD": ""}
    with started(Node(tmp_path, **options)) as first:
        told, ready = first.lines
        assert "administrator 'admin'" in told
        password = told.rpartition(" ")[2]
        assert len(password) >= 16
        assert ready.startswith("hotswap-proxy")
        assert first.end() == 0
    with started(Node(tmp_path, **options)) as second:
        assert len(second.lines) == 1
    assert password not in first.log.read_text()


def test_modules_in_the_current_directory_are_not_imported(
    tmp_path: Path, config: Path, backend_port: int
) -> None:
    """Whoever may write where a node is started must not become the node's user."""
    here, marker = tmp_path / "here", tmp_path / "imported"
    here.mkdir()
    for name in ("hotswap_proxy", "alembic", "sqlalchemy", "uvicorn", "uvloop", "typer"):
        (here / f"{name}.py").write_text(f"open({str(marker)!r}, 'a').write('{name} ')")
    with started(Node(tmp_path, "--config", str(config), cwd=here)) as node:
        write_config(config, backend_port, routes=2)
        node.process.send_signal(signal.SIGHUP)
        eventually(lambda: node.health()["routesConfigured"] == 2, "the file is applied")
    command = [sys.executable, "-P", "-m", "hotswap_proxy", "migrate", "--data-dir", str(tmp_path / "other")]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("migrated\n")
    assert not marker.exists(), marker.read_text()


def test_what_is_in_the_data_directory_is_for_its_owner(tmp_path: Path, config: Path) -> None:
    with started(Node(tmp_path, "--config", str(config), umask=0)) as node:
        node.health()
        data = tmp_path / "data"
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [data, *data.iterdir()]}
        assert modes.pop("data") == 0o700
        assert {"hotswap.db", "hotswap.db-wal", "hotswap.db-shm", "hotswap.db.lock", "jwt.key"} <= set(modes)
        assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
        assert "others may enter" not in node.log.read_text()
        assert node.end() == 0
    data.chmod(0o755)
    with started(Node(tmp_path)) as node:
        assert node.logged("others may enter the data directory")["mode"] == "0755"


def test_sigterm_drains_and_ends_with_zero(node: Node) -> None:
    workers, spawner = node.workers(), node.spawner()
    with connect(node.proxy_port) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nhost: test.local\r\n\r\n")
        assert Handler.arrived.wait(15)
        node.process.send_signal(signal.SIGTERM)
        eventually(lambda: node.health()["status"] == "Draining", "health tells of the drain")
        assert node.health()["ready"] is False
        eventually(lambda: refused(node.proxy_port), "new connections are refused")
        assert node.process.poll() is None
        Handler.released.set()
        assert b"backend /slow" in read_answer(client)
    assert node.process.wait(20) == 0
    assert not [pid for pid in (*workers, spawner) if alive(pid)]


def refused(port: int) -> bool:
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_drain_ends_at_its_timeout(tmp_path: Path, config: Path) -> None:
    with started(Node(tmp_path, "--config", str(config), "--drain-timeout", "0.3")) as node:
        with connect(node.proxy_port) as client:
            client.sendall(b"GET /slow HTTP/1.1\r\nhost: test.local\r\n\r\n")
            assert Handler.arrived.wait(15)
            assert node.end() == 0
        assert node.logged("drain timed out")["connections_cut"] == 1


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(node: Node, second: signal.Signals) -> None:
    with connect(node.proxy_port) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nhost: test.local\r\n\r\n")
        assert Handler.arrived.wait(15)
        node.process.send_signal(signal.SIGTERM)
        node.logged("draining")
        assert node.end(second) == 0  # the drain's own timeout is longer than the test's patience


def test_ctrl_c_reaches_the_whole_group_and_only_control_acts(tmp_path: Path, config: Path) -> None:
    # In a session of its own, so that the signal reaches these processes and not the test.
    node = Node(tmp_path, "--config", str(config))
    node.command = ["setsid", *node.command]
    with started(node):
        with connect(node.proxy_port) as client:
            client.sendall(b"GET /slow HTTP/1.1\r\nhost: test.local\r\n\r\n")
            assert Handler.arrived.wait(15)
            os.killpg(node.process.pid, signal.SIGINT)
            node.logged("draining")
            Handler.released.set()
            assert b"backend /slow" in read_answer(client)
        assert node.process.wait(20) == 0


def test_a_killed_worker_is_replaced(node: Node) -> None:
    victim, other = node.workers()
    kept = connection_of(other, node.proxy_port)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(node.workers()) == 2 and victim not in node.workers(), "a replacement")
    assert other in node.workers()
    assert b"HTTP/1.1 200" in ask(kept)
    kept.close()
    for _ in range(20):
        assert b"HTTP/1.1 200" in get(node)
    assert node.logged("worker died")["status"] == "SIGKILL"


def metrics(node: Node) -> dict[str, float]:
    """Each sample of /metrics by its name and labels, as they are written."""
    with urllib.request.urlopen(f"{node.admin_url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


def test_one_scrape_counts_all_workers(node: Node) -> None:
    for worker in node.workers():
        client = connection_of(worker, node.proxy_port)
        for path in ("/a", "/b"):
            assert b"HTTP/1.1 200" in ask(client, path)
        client.close()

    def counted() -> bool:
        found = metrics(node)
        return sum(value for name, value in found.items() if name.startswith("gateway_requests_total")) == 4

    eventually(counted, "four requests in one scrape")
    found = metrics(node)
    by_route = [name for name in found if name.startswith("gateway_requests_total ")]
    assert len(by_route) == 1
    assert "arm=stable code=200 method=GET" in by_route[0]
    assert (
        sum(value for name, value in found.items() if name.startswith("gateway_requests_backend_total")) == 4
    )
    assert found["gateway_requests_accepted_total"] == found["gateway_requests_completed_total"] == 4
    assert found["gateway_requests_lost_total"] == 0
    assert found["gateway_routes_count"] == 1
    assert found["gateway_config_generation"] == node.health()["generation"]
    assert found["gateway_process_memory_bytes process=worker-1"] > 1_000_000
    assert (
        sum(
            value
            for name, value in found.items()
            if name.startswith("gateway_request_duration_seconds_count")
        )
        == 4
    )


def test_what_was_in_flight_in_a_killed_worker_is_counted_as_lost(node: Node) -> None:
    victim = node.workers()[0]
    client = connection_of(victim, node.proxy_port)
    client.sendall(b"GET /slow HTTP/1.1\r\nhost: test.local\r\n\r\n")
    assert Handler.arrived.wait(15)
    os.kill(victim, signal.SIGKILL)
    assert node.logged("worker died")["requests_lost"] == 1
    found = metrics(node)
    assert found["gateway_requests_lost_total"] == 1
    assert found["gateway_requests_accepted_total"] == 1
    assert found["gateway_active_connections"] == 0  # the dead worker's gauges do not linger
    assert found["gateway_workers_replaced_total"] == 1
    client.close()


def connection_of(pid: int, port: int) -> socket.socket:
    for _ in range(200):
        client = connect(port)
        inode = eventually(lambda c=client: peer_inode(c), "the connection is accepted")
        if inode in socket_inodes(pid):
            return client
        client.close()
    raise AssertionError("no connection reached the worker")


def test_a_worker_that_drains_finishes_its_request_beside_its_replacement(node: Node) -> None:
    worker = node.workers()[0]
    client = connection_of(worker, node.proxy_port)
    client.sendall(b"GET /slow HTTP/1.1\r\nhost: test.local\r\n\r\n")
    assert Handler.arrived.wait(15)
    os.kill(worker, signal.SIGTERM)
    eventually(lambda: len(node.workers()) == 3, "a replacement beside the draining worker")
    assert b"HTTP/1.1 200" in get(node)
    Handler.released.set()
    assert b"backend /slow" in read_answer(client)
    client.close()
    eventually(lambda: worker not in node.workers(), "the end of the drained worker")


def test_workers_outlive_control_and_drain_when_it_comes_back(tmp_path: Path, config: Path) -> None:
    node = Node(tmp_path, "--config", str(config)).start()
    workers, spawner = tuple(node.workers()), node.spawner()
    try:
        os.kill(node.process.pid, signal.SIGKILL)
        node.process.wait()
        eventually(lambda: not alive(spawner), "the spawner ends with the control process")
        assert all(alive(pid) for pid in workers)
        for _ in range(10):
            assert b"HTTP/1.1 200" in get(node)
        successor = Node(tmp_path, "--config", str(config), "--proxy", node.ready["proxy"])
        with started(successor):
            eventually(lambda: not any(alive(pid) for pid in workers), "the orphans drain")
            for _ in range(10):
                assert b"HTTP/1.1 200" in get(successor)
    finally:
        node.clean_up(workers)


def test_an_orphan_drains_on_sigterm(tmp_path: Path, config: Path) -> None:
    node = Node(tmp_path, "--config", str(config)).start()
    workers = tuple(node.workers())
    try:
        os.kill(node.process.pid, signal.SIGKILL)
        node.process.wait()
        node.logged("the control process is gone")
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not any(alive(pid) for pid in workers), "the orphans end")
    finally:
        node.clean_up(workers)


@pytest.mark.parametrize("how", ["signal", "file"])
def test_a_good_file_is_taken(node: Node, config: Path, backend_port: int, how: str) -> None:
    before = node.health()["generation"]
    workers = node.workers()
    with connect(node.proxy_port) as client:
        write_config(config, backend_port, routes=3)
        if how == "signal":
            node.process.send_signal(signal.SIGHUP)
        eventually(lambda: node.health()["routesConfigured"] == 3, "the new routes")
        assert b"HTTP/1.1 200" in ask(client)  # a reload closes no connection
    assert node.health()["generation"] > before
    assert node.workers() == workers


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"routes": [', "line 1"),
        ('{"version": "1", "routes": [{"name": "x"}]}', "pathPattern"),
        ('{"version": "1", "unknown": true}', "unknown"),
    ],
)
def test_a_broken_file_changes_nothing(
    node: Node, config: Path, backend_port: int, text: str, problem: str
) -> None:
    before = node.health()
    write_config(config, backend_port, text=text)
    node.process.send_signal(signal.SIGHUP)
    assert problem in " ".join(node.logged("configuration file refused")["problems"])
    after = node.health()
    assert (after["generation"], after["routesConfigured"]) == (
        before["generation"],
        before["routesConfigured"],
    )
    assert after["status"] == "Degraded"
    assert after["configError"] is True
    assert problem not in str(after), "everybody may read this"
    assert b"HTTP/1.1 200" in get(node)
    write_config(config, backend_port, routes=2)
    node.process.send_signal(signal.SIGHUP)
    eventually(lambda: node.health()["status"] == "Healthy", "a good file heals it")


def test_a_broken_file_at_start_is_refused(tmp_path: Path) -> None:
    broken = write_config(tmp_path / "gateway.json", 1, text='{"version": "1", "routes": [{"name": "x"}]}')
    node = Node(tmp_path, "--config", str(broken)).start()
    assert node.process.wait(20) == 2
    assert node.lines == []
    assert "routes[0].pathPattern: this field is required" in node.log.read_text()
    assert children(node.process.pid) == []
    node.clean_up()


def test_an_address_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        for option in ("--proxy", "--admin"):
            node = Node(tmp_path, option, address).start()
            assert node.process.wait(20) == 1
            assert f"cannot listen on {address} ({option}): the address is in use" in node.log.read_text()
            node.clean_up()


def test_a_data_directory_in_use_is_refused(node: Node, tmp_path: Path) -> None:
    second = Node(tmp_path).start()
    assert second.process.wait(20) == 1
    assert f"in use by another node (process {node.process.pid})" in second.log.read_text()
    second.clean_up()
    assert node.health()["ready"]


@pytest.mark.parametrize("option", ["--workers=0", "--proxy=nowhere", "--http=quic", "--environment=Moon"])
def test_a_bad_option_is_refused(tmp_path: Path, option: str) -> None:
    node = Node(tmp_path, option).start()
    assert node.process.wait(20) == 2
    assert node.log.read_text().startswith(f"hotswap-proxy: {option.partition('=')[0]} (HOTSWAP_")
    node.clean_up()


def test_sighup_without_a_file_is_harmless(tmp_path: Path) -> None:
    with started(Node(tmp_path)) as node:
        node.process.send_signal(signal.SIGHUP)
        node.logged("SIGHUP without --config")
        assert node.health()["ready"]
        assert node.end() == 0
