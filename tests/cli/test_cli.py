"""The command line against a running node."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotswap_proxy.cli import history
from tests.console import Cli
from tests.node import PASSWORD, Node
from tests.processes import ask, connect

ROUTE = {
    "name": "users",
    "pathPattern": "/users/**",
    "backends": [{"name": "u1", "url": "http://127.0.0.1:9"}],
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    running = Node(tmp_path_factory.mktemp("node")).start()
    try:
        assert running.ready, running.log.read_text()
        yield running
    finally:
        running.clean_up()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, node: Node) -> Path:
    directory = tmp_path_factory.mktemp("home")
    told = Cli(node.admin_url, directory)("login", HOTSWAP_PASSWORD=PASSWORD)
    assert "admin (Admin) is logged in until" in told
    return directory


@pytest.fixture
def cli(node: Node, home: Path) -> Iterator[Cli]:
    cli = Cli(node.admin_url, home)
    yield cli
    cli("apply", "--prune", "--file", "-", text='{"routes": []}')  # nothing is left for the next test


def file(directory: Path, document: Any, name: str = "gateway.yaml") -> str:
    path = directory / name
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return str(path)


def test_the_stored_token_is_its_owners_alone(cli: Cli, home: Path, node: Node) -> None:
    assert stat.S_IMODE(cli.tokens.stat().st_mode) == 0o600
    assert PASSWORD not in cli.tokens.read_text()
    other = Cli(node.admin_url, home.parent / "nobody")
    assert "log in with `hotswap-proxy login`" in other("routes", "list", code=1)
    token = json.loads(cli.tokens.read_text())[node.admin_url]
    other("routes", "list", HOTSWAP_TOKEN=token)
    other("routes", "list", "--token", token)


def test_a_wrong_password_is_refused(node: Node, tmp_path: Path) -> None:
    cli = Cli(node.admin_url, tmp_path)
    assert "UNAUTHORIZED" in cli("login", text="not this one\n", code=1)
    assert not cli.tokens.exists()


def test_logout_forgets_the_token(node: Node, tmp_path: Path) -> None:
    cli = Cli(node.admin_url, tmp_path)
    cli("login", text=f"{PASSWORD}\n")
    cli("logout")
    cli("routes", "list", code=1)


def test_the_life_of_a_route(cli: Cli) -> None:
    made = cli.json("routes", "create", "--data", json.dumps(ROUTE))
    assert made["name"] == "users"
    assert [route["routeId"] for route in cli.json("routes", "list")] == [made["routeId"]]
    assert cli.json("routes", "get", "users")["routeId"] == made["routeId"]
    assert cli.json("routes", "get", made["routeId"])["statistics"]["totalRequests"] == 0
    planned = cli.json("routes", "update", "users", "--data", '{"priority": 7}', "--dry-run")
    assert planned["changed"] == 1
    assert cli.json("routes", "get", "users")["priority"] == 0
    assert cli.json("routes", "update", "users", "--data", '{"priority": 7}')["priority"] == 7
    assert cli("routes", "disable", "users") == "disabled users\n"
    assert cli.json("routes", "list", "--enabled") == []
    assert len(cli.json("routes", "list", "--disabled")) == 1
    cli("routes", "enable", "users")
    assert len(cli.json("routes", "list", "--enabled")) == 1
    assert cli("routes", "delete", "users", "--yes") == "deleted users\n"
    assert "there is no route 'users'" in cli("routes", "get", "users", code=1)


def test_a_route_by_file_is_live_at_once(cli: Cli, node: Node, tmp_path: Path) -> None:
    cli("routes", "create", "--file", file(tmp_path, ROUTE))
    with connect(node.proxy_port) as client:
        assert b"HTTP/1.1 502" in ask(client, "/users/1")  # nobody listens behind it, but it is a route
    cli("routes", "disable", "users")
    with connect(node.proxy_port) as client:
        assert b"HTTP/1.1 404" in ask(client, "/users/1")


def test_backends_and_their_routes(cli: Cli) -> None:
    cli("backends", "create", "--data", '{"name": "b1", "url": "http://127.0.0.1:9"}')
    cli("routes", "create", "--data", json.dumps({**ROUTE, "backends": [{"name": "b1"}]}))
    table = cli("backends", "list")
    assert table.splitlines()[0].split()[:3] == ["backendId", "name", "url"]
    assert "http://127.0.0.1:9" in table
    assert "used by" in cli("backends", "delete", "b1", "-y", code=2)


def test_mistakes_name_the_field_and_end_with_two(cli: Cli, tmp_path: Path) -> None:
    wrong = {**ROUTE, "pathPattern": "users", "colour": "red"}
    told = cli("routes", "create", "--data", json.dumps(wrong), code=2)
    assert "pathPattern: " in told
    assert "colour: unknown field" in told
    assert "give the document by --file or by --data" in cli("routes", "create", code=2)
    assert "--data:" in cli("routes", "create", "--data", "{", code=2)
    assert "no.such.file" in cli("routes", "create", "--file", str(tmp_path / "no.such.file"), code=2)
    cli("routes", "create", "--data", json.dumps(ROUTE))
    twin = {**ROUTE, "name": "twin"}
    assert "users" in cli("routes", "create", "--data", json.dumps(twin), code=2)


def test_validate_needs_no_gateway(tmp_path: Path) -> None:
    cli = Cli("http://127.0.0.1:1", tmp_path)
    good = {
        "version": "1",
        "routes": [{**ROUTE, "backends": [{"name": "x", "url": "http://not.known.invalid:80"}]}],
    }
    assert "valid; 1 routes, 0 backends" in cli("validate", "-f", file(tmp_path, good))
    twins = {"version": "1", "routes": [ROUTE, {**ROUTE, "name": "twin"}]}
    told = cli("validate", "-f", file(tmp_path, twins), code=2)
    assert "routes[1]" in told or "routes[0]" in told
    unknown = {"version": "1", "routes": [{**ROUTE, "backends": [{"name": "ghost"}]}]}
    assert "routes[0].backends[0].name" in cli("validate", "-f", file(tmp_path, unknown), code=2)
    assert "line 3" in cli("validate", "-f", file(tmp_path, "version: '1'\nroutes: [\n"), code=2)
    plain = {"version": "1", "routes": [{**ROUTE, "backends": [{"name": "x", "url": "http://10.0.0.1:80"}]}]}
    assert "https" in cli("validate", "-f", file(tmp_path, plain), "--environment", "Production", code=2)


def test_validate_reads_standard_input(cli: Cli) -> None:
    route = {"name": "a", "path": "/a", "backends": [{"url": "http://127.0.0.1:1"}]}
    assert "valid; 1 routes, 0 backends" in cli("validate", "-f", "-", text=json.dumps({"routes": [route]}))
    assert "standard input: line 2" in cli("validate", "-f", "-", text="routes: [\n", code=2)


def test_validate_and_apply_read_a_file_alike(cli: Cli, tmp_path: Path) -> None:
    text = """
routes:
  - name: 2024-01-31
    path: /dated
    backends: [{name: a, url: "http://127.0.0.1:1"}]
    strategy: HeaderBased
    strategyConfig: {headerName: X-Day, routingRules: {1: a, yes: a}, defaultBackend: a}
"""
    name = file(tmp_path, text)
    assert "valid" in cli("validate", "-f", name)
    cli("apply", "--prune", "-f", name)
    stored = cli.json("routes", "list")[0]
    assert stored["name"] == "2024-01-31"
    assert stored["strategyConfig"]["routingRules"] == {"1": "a", "yes": "a"}
    cli("apply", "--prune", "-f", "-", text="routes: []")


def test_diff_apply_export(cli: Cli, tmp_path: Path) -> None:
    document = {"version": "1", "backends": [{"name": "b1", "url": "http://127.0.0.1:9"}]}
    document["routes"] = [{**ROUTE, "backends": [{"name": "b1"}]}]
    name = file(tmp_path, document)
    told = cli("diff", "-f", name, code=3)
    assert "+ route users" in told
    assert "+ backend b1" in told
    assert cli.json("routes", "list") == []  # diff changes nothing
    assert "2 added" in cli("apply", "-f", name)
    assert "2 unchanged" in cli("diff", "-f", name)
    document["routes"][0]["priority"] = 3  # type: ignore[index]
    assert "priority: 0 -> 3" in cli("diff", "-f", file(tmp_path, document), code=3)
    exported = tmp_path / "exported.yaml"
    cli("export", "-f", str(exported))
    assert cli.json("diff", "-f", str(exported))["changes"] == []
    assert json.loads(cli("export", "-o", "json"))["routes"][0]["name"] == "users"
    none = file(tmp_path, {"version": "1", "routes": []}, "none.yaml")
    assert cli.json("diff", "-f", none)["changes"] == []
    assert "2 unchanged" not in cli("diff", "-f", none, "--prune", code=3)
    assert "2 removed" in cli("apply", "-f", none, "--prune")


def test_apply_is_all_or_nothing(cli: Cli, tmp_path: Path) -> None:
    cli("apply", "-f", file(tmp_path, {"version": "1", "routes": [ROUTE]}))
    broken = {"version": "1", "routes": [{**ROUTE, "priority": 9}, {**ROUTE, "name": "twin", "priority": 9}]}
    assert "CONFLICT" in cli("apply", "-f", file(tmp_path, broken), code=2)
    assert cli.json("routes", "get", "users")["priority"] == 0


def test_users(cli: Cli, node: Node, tmp_path: Path) -> None:
    cli("users", "create", "vera", "--role", "Viewer", text="first password\n")
    assert "vera" in cli("users", "list")
    vera = Cli(node.admin_url, tmp_path)
    vera("login", "-u", "vera", text="first password\n")
    vera("routes", "list")
    assert "FORBIDDEN" in vera("routes", "create", "--data", json.dumps(ROUTE), code=1)
    cli("users", "passwd", "vera", text="second password\n")
    vera("routes", "list", code=1)  # the old token is no longer good
    vera("login", "-u", "vera", text="second password\n")
    cli("users", "delete", "vera", "--yes")
    assert "vera" not in cli("users", "list")
    assert "no user" in cli("users", "delete", "vera", "--yes", code=1)


def test_what_the_node_tells(cli: Cli) -> None:
    (told,) = cli.json("nodes")
    assert told["status"] == "Healthy"
    assert len(told["workers"]) == 2
    assert cli.json("health")["ready"] is True
    cli("routes", "create", "--data", json.dumps(ROUTE))
    (entry,) = cli.json("audit", "--entity-type", "route", "--limit", "1")
    assert (entry["action"], entry["username"]) == ("route.create", "admin")
    assert "route.create" in cli("audit")


def test_what_strangers_wrote_gives_the_terminal_no_orders(cli: Cli) -> None:
    """Whoever reaches the admin API writes into the audit log, by a log-in that fails."""
    name = "eve\n2030-01-01T00:00:00Z  admin  user.delete\x1b[31m\x1b]0;title\x07\x9b31m \u202eb [red]"
    cli("login", "--username", name, code=1, HOTSWAP_PASSWORD="x" * 12)
    (entry,) = cli.json("audit", "--limit", "1")
    assert entry["username"] == name  # a program gets it as it was
    for output in ("table", "json"):
        told = cli("audit", "--limit", "1", "-o", output)
        assert "user.delete\\" in told and "[red]" in told
        assert told.replace("\n", "").isprintable()
    assert len(cli("audit", "--limit", "1").splitlines()) == 2  # the heading and one row
    assert cli("routes", "get", "no\x1b[31m\x9bsuch", code=1).strip().isprintable()


def test_the_history_of_a_route(cli: Cli) -> None:
    cli("routes", "create", "--data", json.dumps(ROUTE))
    told = cli.json("routes", "history", "users", "--window", "15m")
    assert (told["timeWindow"], told["step"]) == ("15m", "1m")
    assert told["points"][-1]["requests"] == 0
    first, *_, last = cli("routes", "history", "users").splitlines()
    assert first.startswith("requests   ▁")
    assert last.split()[2:] == ["0", "0"]
    assert "timeWindow: '25h' is not a number of whole minutes" in cli(
        "routes", "history", "users", "--window", "25h", code=2
    )
    assert cli.json("anomalies", "list", "--route", "users", "--active") == []
    assert "startedAt" in cli("anomalies", "list")
    assert history.sparkline([0, 1, 7]) == "▁▂█  most 7"
    assert len(history.sparkline([1] * 1441).partition(" ")[0]) == 58


def test_the_audit_log_is_verified(cli: Cli, node: Node) -> None:
    assert cli.json("audit", "list", "--limit", "1")[0]["hash"]
    found = cli.json("audit", "verify")
    assert found["valid"] and found["checked"] == found["head"]["count"] > 0
    assert f"valid: {found['checked']} rows" in cli("audit", "verify")
    cli("audit", "verify", "--expect", found["head"]["hash"])
    missing = cli.out("audit", "verify", "--expect", "ab" * 32, "-o", "json", code=1)
    assert json.loads(missing)["valid"] is False
    with contextlib.closing(
        sqlite3.connect(node.directory / "data" / "hotswap.db", isolation_level=None)
    ) as store:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            store.execute("UPDATE audit_logs SET username = 'eve' WHERE audit_id = 2")
        for trigger in ("update", "delete", "replace"):
            store.execute(f"DROP TRIGGER audit_logs_no_{trigger}")
        store.execute("UPDATE audit_logs SET username = username || '!' WHERE audit_id = 2")
        assert "BROKEN at row 2" in cli.out("audit", "verify", code=1)
        store.execute("UPDATE audit_logs SET username = rtrim(username, '!') WHERE audit_id = 2")
    cli("audit", "verify")


def test_api_keys(cli: Cli) -> None:
    made = cli.json("api-keys", "create", "ci", "--role", "Viewer", "--days", "30")
    assert made["key"].startswith("hsk_") and made["role"] == "Viewer" and made["expiresAt"]
    assert "ci" in cli("api-keys", "list", HOTSWAP_TOKEN=made["key"])
    error = cli("routes", "create", "-d", json.dumps(ROUTE), code=1, HOTSWAP_TOKEN=made["key"])
    assert "FORBIDDEN" in error
    assert "hsk_" not in cli("api-keys", "list")
    cli("api-keys", "delete", "ci", "--yes")
    assert cli.json("api-keys", "list") == []
    assert "no API key" in cli("api-keys", "delete", "ci", "--yes", code=1)
    assert "UNAUTHORIZED" in cli("routes", "list", code=1, HOTSWAP_TOKEN=made["key"])


def test_a_page_over_the_limit_waits_for_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.backend import Backend, ok

    waits: list[float] = []
    monkeypatch.setattr("hotswap_proxy.cli.client.time.sleep", waits.append)
    refused = ok(b"{}", b"Retry-After: 7", status=b"429 Too Many Requests")
    answers = [refused, refused, ok(b'{"users": []}')]
    gateway = Backend(lambda _: answers.pop(0) if answers else refused)
    try:
        cli = Cli(gateway.url, tmp_path)
        assert cli.json("users", "list") == [] and waits == [7.0, 7.0]
        cli("users", "list", code=1)
        assert len(waits) == 5, "not for ever"
    finally:
        gateway.close()


def test_a_gateway_that_does_not_answer(tmp_path: Path) -> None:
    cli = Cli("http://127.0.0.1:1", tmp_path)
    assert "cannot reach http://127.0.0.1:1" in cli("routes", "list", code=1)
    assert "--admin-url" in cli("routes", "list", "--admin-url", "ftp:/x", code=2)


def test_commands_without_a_gateway(tmp_path: Path) -> None:
    cli = Cli("", tmp_path)
    schema = json.loads(cli("schema"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert cli("version").strip().count(".") == 2
    assert "migrated" in cli("migrate", "--data-dir", str(tmp_path / "data"))
    assert "up to date" in cli("migrate", "--data-dir", str(tmp_path / "data"))
    assert "No such command" in cli("rout", code=2)
    assert "--workers" in cli("run", "--help")


@pytest.mark.parametrize("command", [("version",), ("routes", "list", "--admin-url", "http://127.0.0.1:1")])
def test_as_a_module_and_with_exit_codes_for_the_shell(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hotswap_proxy", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (0 if command == ("version",) else 1)
    assert "Traceback" not in done.stderr


def test_the_token_goes_to_no_proxy_of_the_environment(cli: Cli) -> None:
    assert cli("routes", "list", HTTP_PROXY="http://127.0.0.1:9", ALL_PROXY="http://127.0.0.1:9")
