"""What tests of rollouts share: backends of versions, traffic, and a deployment seen through the API."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.conftest import Api

from tests.processes import eventually

HERE = Path(__file__).parent
ROUTE = {"name": "users", "pathPattern": "/users/**"}
# Phases: too long for a test to see the end of, and as short as can be judged.
LONG = [
    {"trafficPercentage": 10, "duration": "5m"},
    {"trafficPercentage": 50, "duration": "5m"},
    {"trafficPercentage": 100, "duration": "5m"},
]
SHORT = [{"trafficPercentage": share, "duration": "2s"} for share in (10, 50, 100)]
FINISHED = {"Completed", "Failed", "RolledBack"}
# For candidates that are good: a busy machine gives two processes unequal turns, which is not their fault.
LENIENT = {"minimumRequests": 20, "latencyIncrease": 1000}


@contextmanager
def versioned(version: str, failed: float = 0.0, delay: float = 0.0, port: int = 0) -> Iterator[str]:
    """URL of a backend that answers as this version."""
    command = [sys.executable, str(HERE / "versioned.py"), str(port), version, str(failed), str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


class Traffic:
    """A load in the background; ``answers`` and ``closed`` are what came so far, after the end all."""

    def __init__(self, ports: list[int], rate: float = 300, clients: int = 24) -> None:
        command = [sys.executable, str(HERE / "traffic.py"), str(rate), str(clients), *map(str, ports)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.told: dict[str, Any] = {"answers": {}, "closed": 0, "errors": []}
        self.thread = threading.Thread(target=self._read)

    def __enter__(self) -> Traffic:
        self.thread.start()
        self.more(50)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.thread.join(30)
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told = json.loads(line)

    @property
    def total(self) -> int:
        return sum(self.told["answers"].values())

    def more(self, answers: int, within: float = 60) -> dict[str, int]:
        """Wait for so many more answers; what they were."""
        before = dict(self.told["answers"])
        at = self.total
        eventually(lambda: self.total >= at + answers, f"{answers} more answers", within)
        return {key: count - before.get(key, 0) for key, count in self.told["answers"].items()}

    def count(self, start: str = "", end: str = "") -> int:
        """Answers of a version (``"v2 "``) or with a status (``" 200"``)."""
        found = self.told["answers"].items()
        return sum(count for key, count in found if key.startswith(start) and key.endswith(end))

    def check_nothing_was_lost(self, *, failures_of: str = "none") -> None:
        """No connection was closed, and only this version's own answers were errors."""
        assert (self.told["closed"], self.told["errors"]) == (0, [])
        odd = {
            key: count
            for key, count in self.told["answers"].items()
            if not key.endswith(" 200") and not key.startswith(failures_of)
        }
        assert odd == {}


class Rollout:
    """A route with version 1.0 live and 2.0 staged, and deployments of it."""

    def __init__(self, api: Api, stable: str, candidate: str, **fields: Any) -> None:
        self.api = api
        made = api.call("POST", "/gateway/routes", ROUTE | fields | {"backends": [_backend(stable)]})
        self.route_id = made["routeId"]
        self.stage("2.0", candidate)

    def stage(self, version: str, url: str) -> None:
        body = {"version": version, "backends": [_backend(url)]}
        self.api.call("POST", f"/gateway/routes/{self.route_id}/versions", body)

    def deploy(self, **fields: Any) -> str:
        """Begin; its id."""
        body = {"routeId": self.route_id, "configVersion": "2.0", "strategy": "Canary"} | fields
        made = self.api.call("POST", "/gateway/deployments", body)
        self.deployment_id: str = made["deploymentId"]
        return self.deployment_id

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.call("GET", f"/gateway/deployments/{self.deployment_id}")
        return found

    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.call("GET", f"/gateway/deployments/{self.deployment_id}/metrics")
        return found

    def command(self, name: str, **body: Any) -> dict[str, Any]:
        path = f"/gateway/deployments/{self.deployment_id}/{name}"
        found: dict[str, Any] = self.api.call("POST", path, body)
        return found

    def reaches(self, *statuses: str, within: float = 60) -> dict[str, Any]:
        """Wait for one of these statuses (or fail at the end of another); the deployment."""

        def ended() -> dict[str, Any] | None:
            found = self.get()
            assert found["status"] in statuses or found["status"] not in FINISHED, found
            return found if found["status"] in statuses else None

        return eventually(ended, f"one of {statuses}", within) or {}

    def live(self) -> dict[str, Any]:
        """The route as it is served."""
        found: dict[str, Any] = self.api.call("GET", f"/gateway/routes/{self.route_id}")
        return found


def _backend(url: str) -> dict[str, str]:
    return {"name": "users", "url": url}


def check_returned(rollout: Rollout, traffic: Traffic) -> None:
    live = rollout.live()
    assert (live["version"], [b["url"] for b in live["backends"]]) == ("1.0", [rollout_url(rollout)])
    before = traffic.count("v2")
    traffic.more(300)
    assert traffic.count("v2") == before, "all traffic is on the version before"


def rollout_url(rollout: Rollout) -> str:
    found = rollout.api.call("GET", f"/gateway/routes/{rollout.route_id}/versions/1.0")
    url: str = found["route"]["backends"][0]["url"]
    return url
