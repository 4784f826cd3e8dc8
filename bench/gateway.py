"""The adapter of this gateway: one worker on the proxy's core, the control process with everything else."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import ssl
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import machine
from .certificate import Certificate
from .proxies import Backends, Proxy

USER, PASSWORD = "bench", secrets.token_urlsafe(16)


def available() -> str | None:
    """None when the gateway can be measured, otherwise why not."""
    if find_spec("hotswap_proxy") is None or find_spec("hotswap_proxy._core") is None:
        return "the package is not installed with its native modules"
    profile = getattr(import_module("hotswap_proxy._core"), "BUILD_PROFILE", "unknown")
    if profile != "release":
        raise machine.BenchError(f"refusing to measure a {profile} build; run `make setup`")
    if not executable().exists():
        return "the hotswap-proxy command is not installed"
    return None


def executable() -> Path:
    return Path(sysconfig.get_path("scripts")) / "hotswap-proxy"


class Gateway(Proxy):
    name = "hotswap-proxy"
    # What each backend and each route has beside the least.
    backend_extra: Mapping[str, Any] = {}
    route_extra: Mapping[str, Any] = {}

    def __init__(
        self,
        backends: Backends,
        directory: Path,
        routes: int,
        http: str = "native",
        tls: Certificate | None = None,
    ) -> None:
        super().__init__(backends, directory, routes, tls)
        self.http = http
        self.admin_port = machine.free_port()

    @property
    def label(self) -> str:
        return super().label if self.http == "native" else f"{super().label}, {self.http}"

    def configure(self, label: str) -> None:
        patterns = ["/**"] if self.routes == 1 else [f"/r{i}/**" for i in range(self.routes)]
        document = {
            "version": "1",
            "backends": [
                {"name": name, "url": f"http://127.0.0.1:{self.backends.port(name)}", **self.backend_extra}
                for name in "ab"
            ],
            "routes": [
                {
                    "name": f"bench-{index}",
                    "pathPattern": pattern,
                    "backends": [{"name": label}],
                    **self.route_extra,
                }
                for index, pattern in enumerate(patterns)
            ],
        }
        # Replaced in one step: the gateway watches the file and must never read half of it.
        draft = self.directory / "gateway.json.new"
        draft.write_text(json.dumps(document))
        draft.replace(self.directory / "gateway.json")

    def command(self) -> list[str]:
        tls = []
        if self.tls is not None:
            tls = [
                "--tls-cert",
                str(self.tls.chain),
                "--tls-key",
                str(self.tls.key),
                "--tls-min-version",
                "1.3",
            ]
        return [
            str(executable()), "run", *tls, "--workers", "1", "--http", self.http,
            "--config", str(self.directory / "gateway.json"),
            "--proxy", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}",
            "--data-dir", str(self.directory / "data"),
            "--max-connections-per-client", "0",  # all load comes from one address
            *self.options(),
        ]  # fmt: skip

    def options(self) -> list[str]:
        """What else this gateway runs with."""
        return []

    def start(self) -> None:
        self.log.unlink(missing_ok=True)
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        self.configure("a")
        env = {**os.environ, "HOTSWAP_ADMIN_USERNAME": USER, "HOTSWAP_ADMIN_PASSWORD": PASSWORD}
        self.process = machine.start(self.command(), machine.OTHER_CORE, self.log, env)
        self.wait_until_ready(60.0)
        machine.pin(self.charged(), machine.PROXY_CORE)

    def wait_until_ready(self, timeout: float) -> None:
        """Ready is health 200 and an answer of the backend: the port alone may only be queueing."""
        machine.wait_for(self.admin_port, self.main, self.log, timeout)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                self.admin("GET", "/gateway/health")
                scheme, context = ("https", self.trust()) if self.tls else ("http", None)
                url = f"{scheme}://127.0.0.1:{self.port}/r0/item"
                urllib.request.urlopen(url, timeout=5, context=context).read()
                return
            except OSError:
                time.sleep(0.05)
        raise machine.BenchError(f"the gateway is not ready after {timeout:.0f} s:\n{machine.tail(self.log)}")

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=None if self.tls is None else str(self.tls.chain))
        context.check_hostname = False
        return context

    def charged(self) -> list[int]:
        """Workers: children of the spawner, which is a child of the control process; they have none."""
        return [
            worker
            for spawner in machine.children(self.main.pid)
            for worker in machine.children(spawner)
            if not machine.children(worker)
        ]

    def uncharged(self) -> list[int]:
        return sorted(set(self.all()) - set(self.charged()))

    def reload(self) -> None:
        self.main.send_signal(signal.SIGHUP)

    def admin(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """One call of the admin API; an error answer is raised as OSError (urllib's HTTPError)."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.admin_port}/api/v1{path}"
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def login(self) -> str:
        answer = self.admin("POST", "/authentication/login", {"username": USER, "password": PASSWORD})
        return str(answer["token"])


class Guarded(Gateway):
    """The same with everything on that guards backends; no limit is reached, nothing fails."""

    backend_extra: Mapping[str, Any] = {
        "healthCheck": {"type": "Http", "endpoint": "/item", "interval": "1s"}
    }
    route_extra: Mapping[str, Any] = {
        "circuitBreaker": {},
        "retryPolicy": {},
        "rateLimit": {"type": "TokenBucket", "requests": 1_000_000, "window": "1s"},
    }

    @property
    def label(self) -> str:
        return f"{super().label}, guarded"


def explain(error: urllib.error.HTTPError) -> str:
    return f"{error.code} {error.read().decode(errors='replace')[:500]}"
