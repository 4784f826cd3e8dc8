"""A node under a service manager: sockets that it made, what it is told, and what comes after a crash.

The manager is a fake with real sockets: it speaks the protocols of sd_listen_fds(3) and sd_notify(3).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.load import Load
from e2e.conftest import Api
from harness.client import Client
from harness.victim import Victim

from tests.node import children
from tests.processes import alive, eventually, listening_inodes, socket_inodes
from tests.upgrades import Copy, Upgradable

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
# What systemd does between fork and exec: the descriptors from 3 on, and whose they are.
EXEC = """
import fcntl, os, sys
for place, fd in enumerate([fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1].split(",")]):
    os.dup2(fd, 3 + place)
    os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """Makes the sockets ``proxy`` and ``admin`` and hears what its service tells."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in ("proxy", "admin")}
        self.heard: list[str] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path = directory / "notify"
        self._notify.bind(str(self._path))
        self._thread = threading.Thread(target=self._receive)  # the kernel's queue is short
        self._thread.start()
        self._nodes: list[Upgradable] = []

    def start(self, *options: str, names: str = "proxy:admin", **environ: str) -> Upgradable:
        fds = tuple(sock.fileno() for sock in self.sockets.values())
        listen = {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names, "NOTIFY_SOCKET": str(self._path)}
        node = Upgradable(self._directory, *options, **listen, **environ)
        node.command = [sys.executable, "-c", EXEC, ",".join(map(str, fds)), *node.command]
        node.pass_fds = fds
        self._nodes.append(node)
        node.start()
        if node.ready:
            node.processes()
        return node

    def hears(self, line: str) -> None:
        """Wait until the service has told this, after what was waited for before."""
        eventually(lambda: line in self.heard, f"{line} is told")
        del self.heard[: self.heard.index(line) + 1]

    def _receive(self) -> None:
        while message := self._notify.recv(4096):
            self.heard += message.decode().split("\n")

    @property
    def port(self) -> int:
        port: int = self.sockets["proxy"].getsockname()[1]
        return port

    def close(self) -> None:
        for node in self._nodes:
            node.clean_up()
        self._notify.shutdown(socket.SHUT_RD)
        self._thread.join(10)
        for sock in (*self.sockets.values(), self._notify):
            sock.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


def serve(node: Upgradable, url: str) -> None:
    route = {"name": "all", "pathPattern": "/**", "backends": [{"url": url}]}
    Api(node).call("POST", "/gateway/routes", route)


def get(port: int) -> int:
    with Client(port) as client:
        return client.get("/get").status


def test_its_sockets_and_its_words(manager: Manager, victim: Victim) -> None:
    node = manager.start(WATCHDOG_USEC="400000")
    assert node.ready, node.log.read_text()
    manager.hears("READY=1")
    assert node.proxy_port == manager.port
    (inode,) = listening_inodes(manager.port)
    assert all(inode in socket_inodes(pid) for pid in node.workers()), "all workers accept on the one"
    serve(node, victim.url)
    assert get(manager.port) == 200
    manager.hears("WATCHDOG=1")
    node.process.send_signal(signal.SIGHUP)
    manager.hears("RELOADING=1")
    manager.hears("READY=1")
    # An upgrade: another main process, whose watchdog is its own.
    with Load(manager.port, {"get": 4, "once": 4}) as load:
        assert node.upgrade()[0] == 0
        manager.hears(f"MAINPID={node.in_charge}")
        load.run_on()
    assert load.failed() == []
    assert listening_inodes(manager.port) == {inode}
    assert node.process.wait(30) == 0
    manager.hears("WATCHDOG=1")
    os.kill(node.in_charge, signal.SIGTERM)
    manager.hears("STOPPING=1")
    eventually(lambda: not any(map(alive, node.pids)), "all have ended")
    # Whoever connects now waits for the next start.
    with Client(manager.port) as client:
        client.send(b"GET /get HTTP/1.1\r\nHost: test.example\r\n\r\n")
        manager.start()
        assert client.read().status == 200


def test_after_a_crash_workers_serve_until_the_next_start(manager: Manager, victim: Victim) -> None:
    node = manager.start()
    serve(node, victim.url)
    orphans = node.workers()
    with Load(manager.port, {"get": 4, "once": 4}) as load:
        node.process.kill()
        node.process.wait()
        load.run_on()
        manager.start()
        eventually(lambda: not any(map(alive, orphans)), "the orphans have drained")
        load.run_on()
    assert load.failed() == []


def test_the_old_process_dies_in_an_upgrade(manager: Manager, victim: Victim, tmp_path: Path) -> None:
    """The manager starts the next one, so the new one leaves the node to it; its workers serve meanwhile."""
    copy = Copy(tmp_path)
    node = manager.start(PYTHONPATH=str(copy.path))
    serve(node, victim.url)
    stage = "control/handover/predecessor.py", '        await self._tell({"serving": True})'
    with Load(manager.port, {"get": 4, "once": 4}) as load:
        with copy.halted(*stage) as halt, node.begin_upgrade() as asking:
            new = halt.wait()
            node.pids |= {new, *(each for child in children(new) for each in (child, *children(child)))}
            node.process.kill()
            node.process.wait()
            halt.go_on()
            asking.communicate(timeout=30)
            eventually(lambda: not alive(new), "the new one ends")
            load.run_on()
        after = manager.start(PYTHONPATH=str(copy.path))
        assert after.ready, after.log.read_text()[-2000:]
        eventually(lambda: not any(map(alive, node.pids)), "all others have drained")
        load.run_on()
    assert load.failed() == []


def test_a_socket_that_it_does_not_know(manager: Manager) -> None:
    node = manager.start(names="web:admin")
    assert node.process.wait(30) == 1
    assert "FileDescriptorName= has to be one of proxy, proxy-tls, admin" in node.log.read_text()


def test_no_memory_is_writable_and_executable(manager: Manager, victim: Victim) -> None:
    """So that MemoryDenyWriteExecute= of the unit can hold."""
    node = manager.start()
    serve(node, victim.url)
    assert get(manager.port) == 200
    for pid in node.processes():
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert not re.search(r"^\S+ .wx", maps, re.MULTILINE), pid


def test_the_units_are_right(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/hotswap-proxy/bin/hotswap-proxy", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    paths = [str(path) for path in tmp_path.iterdir()]
    analyze = shutil.which("systemd-analyze")
    assert analyze, "scripts/setup installs it"
    done = subprocess.run([analyze, "verify", *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    service = (UNITS / "hotswap-proxy.service").read_text()
    assert {"KillMode=process", "NotifyAccess=all", "Type=notify"} <= set(service.splitlines())
