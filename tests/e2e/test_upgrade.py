"""A node's program is replaced under load, and nobody who uses it notices."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from chaos.load import Load
from e2e.test_tls import options as tls_options
from e2e.test_tls import tls_port
from e2e.upgrading import CLIENTS, Start, add_route, serve
from harness.certs import client_context
from harness.client import Client
from harness.victim import Victim

from tests.node import READY
from tests.processes import alive, eventually


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


def test_nobody_to_ask(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "hotswap_proxy", "upgrade", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no node of this data directory can be asked" in done.stderr
