"""A Prometheus server for tests, and its tool; its data is its own, and nobody else reaches it."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.server import Server, program


class Sample(NamedTuple):
    labels: dict[str, str]
    value: float


class PrometheusServer(Server):
    """Scrapes ``targets`` (``host:port``) as the job ``hotswap-proxy``."""

    name = "prometheus"

    def __init__(
        self,
        targets: Sequence[str],
        *,
        interval: str = "500ms",
        rules: Sequence[Path] = (),
        scrape: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        job = {"job_name": "hotswap-proxy", "static_configs": [{"targets": list(targets)}], **(scrape or {})}
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "1s"},
            "rule_files": [str(file) for file in rules],
            "scrape_configs": [job],
        }
        self.config = self.directory / "prometheus.yml"
        self.config.write_text(json.dumps(config))  # JSON is YAML
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            program("prometheus"),
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--query.lookback-delta=1m",
        ]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """``data`` of an answer of its HTTP API."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[Sample]:
        """An instant query, now."""
        found = self.get("query", query=expression)
        if found["resultType"] == "scalar":
            return [Sample({}, float(found["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in found["result"]]

    def until(
        self, expression: str, holds: Callable[[list[Sample]], bool], within: float = 60.0
    ) -> list[Sample]:
        """Ask until the answer is as it should be."""
        deadline = time.monotonic() + within
        while not holds(found := self.query(expression)):
            assert time.monotonic() < deadline, f"{expression} still gives {found}"
            time.sleep(0.1)
        return found

    def targets(self) -> list[dict[str, Any]]:
        """How its last scrapes went: ``health``, ``lastError`` …"""
        found: list[dict[str, Any]] = self.get("targets", state="active")["activeTargets"]
        return found


def promtool(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run it; for what it says and whether it is content."""
    command = [program("promtool"), *arguments]
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode())
