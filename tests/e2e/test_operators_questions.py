"""What an operator asks, answered by the tools of a running node: what changed, who is affected, why was it
taken back, where is this one request.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import Api
from e2e.rollout import LONG, Rollout, Traffic, versioned
from harness.client import Client
from harness.wait import eventually

from tests.node import Node

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01"


class Operator:
    """With the command line, and the access log."""

    def __init__(self, node: Node, access_log: Path) -> None:
        self.api = Api(node)
        self.access_log = access_log
        self.options = ("--admin-url", node.admin_url, "--token", self.api.token)

    def asks(self, *command: str) -> Any:
        """What a command says in JSON."""
        called = [sys.executable, "-P", "-m", "hotswap_proxy", *command, *self.options, "-o", "json"]
        done = subprocess.run(called, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def lines(self, **fields: Any) -> list[dict[str, Any]]:
        """Lines of the access log with these values."""
        rows = [json.loads(line) for line in self.access_log.read_text().splitlines()]
        return [row for row in rows if all(row[name] == value for name, value in fields.items())]

    def line(self, **fields: Any) -> dict[str, Any]:
        eventually(lambda: bool(self.lines(**fields)))
        (found,) = self.lines(**fields)
        return found


@pytest.fixture
def node(start_node: Callable[..., Node], tmp_path: Path) -> Node:
    return start_node("--access-log", str(tmp_path / "access.log"), "--tracing", "on", "--trace-sample", "0")


@pytest.fixture
def operator(node: Node, tmp_path: Path) -> Operator:
    return Operator(node, tmp_path / "access.log")


def add_route(operator: Operator, url: str, **fields: Any) -> dict[str, Any]:
    body = {"name": "users", "path": "/users/**", "backends": [{"name": "users-1", "url": url}], **fields}
    answer: dict[str, Any] = operator.api.call("POST", "/gateway/routes", body)
    return answer


def test_the_trace_and_the_line_of_ones_own_request(node: Node, operator: Operator, stable: str) -> None:
    route = add_route(operator, stable)
    with Client(node.proxy_port) as client:
        assert client.get("/users/7?token=secret&page=2", TRACEPARENT).status == 200
    line = operator.line(traceId=TRACE)
    assert (line["status"], line["route"], line["routeId"]) == (200, "users", route["routeId"])
    assert (line["backend"], line["arm"], line["flags"]) == ("users-1", "stable", [])
    assert "secret" not in operator.access_log.read_text()
    spans = {span["name"]: span for span in operator.asks("traces", "get", TRACE)["spans"]}
    assert set(spans) == {
        "gateway.request",
        "gateway.route_match",
        "gateway.backend_select",
        "gateway.proxy",
        "gateway.response",
    }
    assert spans["gateway.request"]["attributes"]["http.route"] == "/users/**"
    assert "secret" not in json.dumps(spans)


def test_why_a_request_was_refused(node: Node, operator: Operator, stable: str) -> None:
    limit = {"type": "FixedWindow", "requests": 1, "window": "1h"}
    add_route(operator, stable, rateLimit=limit)
    with Client(node.proxy_port) as client:
        statuses = {client.get("/users/1").status for _ in range(3)}
        assert statuses == {200, 429}
        assert client.get("/nowhere").status == 404
    assert operator.line(status=404)["flags"] == ["NR"]
    eventually(lambda: len(operator.lines(status=429)) == 2)
    refused = operator.lines(status=429)[0]
    assert (refused["flags"], refused["route"], refused["attempts"]) == (["RL"], "users", 0)


def test_what_changed_and_the_trace_of_that_call(operator: Operator, stable: str) -> None:
    route = add_route(operator, stable)
    operator.api.call("PUT", f"/gateway/routes/{route['routeId']}", {"priority": 7})
    rows = operator.asks("audit", "list", "--entity-id", route["routeId"])
    rows = rows["auditLogs"] if isinstance(rows, dict) else rows
    assert [row["action"] for row in rows][-1:] or rows, "newest first or last: both rows are there"
    assert len(rows) == 2
    trace = next(row["traceId"] for row in rows if "update" in row["action"].lower())
    names = {span["name"] for span in operator.asks("traces", "get", trace)["spans"]}
    assert any(name.startswith("PUT ") for name in names)
    assert "config.version.upload" in names


def test_who_was_affected_by_a_bad_version_and_why_it_was_taken_back(
    node: Node, operator: Operator, stable: str
) -> None:
    with versioned("v2", failed=1.0) as candidate:
        rollout = Rollout(operator.api, stable, candidate)
        with Traffic([node.proxy_port]) as traffic:
            rollout.deploy(phases=LONG)
            record = rollout.reaches("RolledBack", within=30)
            traffic.more(50)
        traffic.check_nothing_was_lost(failures_of="v2 500")
    told = operator.asks("deployments", "get", record["deploymentId"])
    assert "error rate" in told["verdict"]["reason"]
    affected = traffic.count("v2", " 500")
    eventually(lambda: len(operator.lines(status=500, arm="canary")) == affected)
    assert {line["version"] for line in operator.lines(status=500)} == {"2.0"}, "nobody else was affected"
    spans = operator.asks("traces", "get", told["traceId"])["spans"]
    assert {"config.deploy", "config.rollback"} <= {span["name"] for span in spans}
    (why,) = (span for span in spans if span["name"] == "config.rollback")
    assert "error rate" in why["attributes"]["hotswap.rollback.reason"]
