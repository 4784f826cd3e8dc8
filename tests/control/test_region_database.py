"""The database of regions of a node: loaded, replaced while it runs, broken, missing."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.mmdb import database, place

from tests.node import Node, backend
from tests.processes import eventually


@pytest.fixture
def backends() -> Iterator[int]:
    with backend() as port:
        yield port


def put(path: Path, data: bytes) -> None:
    """In place, as ``cp`` does it: the file is empty for a moment, and keeps its inode."""
    path.write_bytes(data)
    os.utime(path, ns=(time.time_ns(), time.time_ns()))


def write_config(path: Path, port: int) -> Path:
    """A route that rewrites to the name of the backend which its region has."""
    backends = [{"name": name, "url": f"http://127.0.0.1:{port}"} for name in ("here", "default")]
    rules = {"headerName": ":country", "routingRules": {"DE": "here"}, "defaultBackend": "default"}
    # One address has one pool: which backend it was is told by the header.
    route = {
        "name": "regional",
        "pathPattern": "/**",
        "backends": backends,
        "strategy": "HeaderBased",
        "strategyConfig": rules,
        "transformations": {"response": {"addHeaders": {"X-Backend": "${backendName}"}}},
    }
    path.write_text(json.dumps({"version": "1", "routes": [route]}))
    return path


def chosen(node: Node) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", node.proxy_port, timeout=10)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.getheader("X-Backend")
    finally:
        connection.close()


def test_a_database_is_used_and_replaced_while_the_node_runs(tmp_path: Path, backends: int) -> None:
    file = tmp_path / "places.mmdb"
    put(file, database({"127.0.0.0/8": place("DE", "EU")}))
    config = write_config(tmp_path / "gateway.json", backends)
    node = Node(tmp_path, "--config", str(config), "--geoip", str(file))
    try:
        node.start()
        assert node.logged("database of regions loaded")["file"] == str(file)
        assert {chosen(node) for _ in range(4)} == {"here"}
        put(file, database({"127.0.0.0/8": place("FR", "EU")}))
        eventually(lambda: {chosen(node) for _ in range(6)} == {"default"}, "the new database in all workers")
        put(file, b"broken")
        node.logged("the database of regions cannot be used")
        health = node.health()
        assert (health["status"], health["geoipError"]) == ("Degraded", True)
        assert {chosen(node) for _ in range(4)} == {"default"}, "the one before stays in use"
        put(file, database({"127.0.0.0/8": place("DE", "EU")}))
        eventually(lambda: {chosen(node) for _ in range(6)} == {"here"}, "the repaired database")
        assert node.health()["status"] == "Healthy"
        # A worker that comes later has it from its first request on.
        for pid in node.workers():
            os.kill(pid, 9)
        eventually(lambda: node.health()["workers"] == 2 and node.health()["ready"], "new workers")
        assert {chosen(node) for _ in range(4)} == {"here"}
        assert node.end() == 0
    finally:
        node.clean_up()


def test_without_a_database_all_go_to_the_default_and_it_is_said_once(tmp_path: Path, backends: int) -> None:
    config = write_config(tmp_path / "gateway.json", backends)
    file = tmp_path / "later.mmdb"
    node = Node(tmp_path, "--config", str(config), "--geoip", str(file))
    try:
        node.start()
        node.logged("without a database")
        assert chosen(node) == "default"
        assert node.health()["geoipError"] is True
        put(file, database({"127.0.0.0/8": place("DE", "EU")}))
        eventually(lambda: {chosen(node) for _ in range(6)} == {"here"}, "a database that came later")
        assert node.health()["geoipError"] is False
        assert sum("without a database" in line["event"] for line in node.events()) == 1
        assert node.end() == 0
    finally:
        node.clean_up()
