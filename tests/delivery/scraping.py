"""A real Prometheus that scrapes nodes each second."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import yaml
from harness.server import Server, program


class Prometheus(Server):
    name = "prometheus"

    def __init__(self, *targets: str) -> None:
        """``targets``: HOST:PORT of admin addresses."""
        super().__init__()
        self._file = self.directory / "prometheus.yml"
        job = {"job_name": "hotswap-proxy", "static_configs": [{"targets": list(targets)}]}
        config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}
        self._file.write_text(yaml.safe_dump(config))
        self.start()

    def command(self) -> list[str]:
        return [
            program("prometheus"),
            f"--config.file={self._file}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression answers now, without those that are no number (0 / 0)."""
        body = urllib.parse.urlencode({"query": expr}).encode()
        url = f"http://127.0.0.1:{self.port}/api/v1/query"
        try:
            with urllib.request.urlopen(url, body, timeout=10) as answer:
                data = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expr}: {error.read().decode()}") from error
        found = (
            data["result"] if data["resultType"] == "vector" else [{"metric": {}, "value": data["result"]}]
        )
        return [series for series in found if series["value"][1] != "NaN"]
