"""A whole node as an operator runs it: processes, ready line, signals; and a backend to put behind it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.processes import alive, eventually

READY = re.compile(
    r"hotswap-proxy \S+ ready: proxy https?://(?P<proxy>[^\s,]+)(?:, https://\S+)?, "
    r"admin http://(?P<admin>\S+), generation (?P<generation>\d+), "
    r"(?P<routes>\d+) routes, (?P<workers>\d+) workers"
)
PASSWORD = "a password for tests"


class Node:
    """One ``hotswap-proxy run``. ``start`` returns when it is ready, or has ended."""

    pass_fds: tuple[int, ...] = ()

    def __init__(
        self,
        directory: Path,
        *options: str,
        data_dir: str = "data",
        cwd: Path | None = None,
        umask: int = -1,
        **environ: str,
    ) -> None:
        self.directory, self.cwd, self.umask = directory, cwd, umask
        self.command = [
            *(
                sys.executable,
                "-P",
                "-m",
                "hotswap_proxy",
                "run",
                "--proxy",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
            ),
            *("--workers", "2", "--data-dir", str(directory / data_dir), *options),
        ]
        self.environ = {"HOTSWAP_ADMIN_PASSWORD": PASSWORD, **os.environ, **environ}
        self.lines: list[str] = []
        self.log = directory / "log"
        self.process: subprocess.Popen[str]
        self.ready: dict[str, str] = {}

    def start(self) -> Node:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environ,
                cwd=self.cwd,
                umask=self.umask,
                pass_fds=self.pass_fds,
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if found := READY.match(line):
                self.ready = found.groupdict()
                break
        return self

    @property
    def proxy_port(self) -> int:
        return int(self.ready["proxy"].rpartition(":")[2])

    @property
    def admin_url(self) -> str:
        return f"http://{self.ready['admin']}"

    def events(self) -> list[dict[str, Any]]:
        """Log lines so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def logged(self, event: str) -> dict[str, Any]:
        """Wait for a log line whose event contains ``event``."""

        def find() -> dict[str, Any] | None:
            return next((line for line in reversed(self.events()) if event in line["event"]), None)

        return eventually(find, f"{event!r} in the log") or {}

    def spawner(self) -> int:
        pid, *_ = children(self.process.pid)  # a process that applies a file may be beside it
        return pid

    def workers(self) -> list[int]:
        """Process ids of the workers that are children of the spawner."""
        return [pid for pid in children(self.spawner()) if alive(pid)]

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.admin_url}/api/v1/gateway/health", timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            found = json.load(error)
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the control process and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def clean_up(self, more: tuple[int, ...] = ()) -> None:
        """Leave no process behind, whatever a test has done to them."""
        family = {self.process.pid, *more}
        with contextlib.suppress(ValueError, OSError):
            family |= {self.spawner(), *self.workers()}
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def children(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Handler(BaseHTTPRequestHandler):
    """Answers with the path; ``/slow`` waits until the test lets it go."""

    protocol_version = "HTTP/1.1"
    released = threading.Event()
    arrived = threading.Event()

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            self.arrived.set()
            self.released.wait(30)
        body = f"backend {self.path}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


@contextlib.contextmanager
def backend() -> Iterator[int]:
    """Port of a backend."""
    Handler.released.clear()
    Handler.arrived.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        Handler.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def write_config(path: Path, backend_port: int, routes: int = 1, text: str = "") -> Path:
    """A declarative file with one backend and some routes; the first takes every path."""
    patterns = ["/**", *(f"/r{index}/**" for index in range(1, routes))]
    document = {
        "version": "1",
        "backends": [{"name": "b", "url": f"http://127.0.0.1:{backend_port}"}],
        "routes": [
            {"name": f"route-{index}", "pathPattern": pattern, "backends": [{"name": "b"}]}
            for index, pattern in enumerate(patterns)
        ],
    }
    draft = path.with_suffix(".draft")
    draft.write_text(text or json.dumps(document))
    draft.replace(path)
    # Coarse clocks: two writes within one tick must still differ.
    os.utime(path, ns=(time.time_ns(), time.time_ns()))
    return path
