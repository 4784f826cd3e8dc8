"""``deployments`` and the versions of ``routes`` against a running node."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hotswap_proxy.cli import watching
from hotswap_proxy.cli.options import CommandError, NotNow, OutputFormat
from tests.console import Cli
from tests.node import PASSWORD, Node
from tests.processes import eventually


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


@contextlib.contextmanager
def answering(status: int) -> Iterator[int]:
    """Port of a backend that answers everything with this status."""
    handler = type("Answering", (Handler,), {"status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def load(port: int, path: str) -> Iterator[None]:
    """Requests, one after the other, until the context is left."""
    ending = threading.Event()

    def run() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not ending.wait(0.002):
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def running(directory: Path, *options: str) -> Iterator[Node]:
    node = Node(directory, *options).start()
    try:
        assert node.ready, node.log.read_text()
        yield node
    finally:
        node.clean_up()


def logged_in(node: Node, home: Path, username: str = "admin") -> Cli:
    cli = Cli(node.admin_url, home)
    cli("login", "--username", username, HOTSWAP_PASSWORD=PASSWORD)
    return cli


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    """Of a backend that is well, and of one that fails."""
    with answering(200) as good, answering(500) as bad:
        yield good, bad


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, node: Node) -> Path:
    directory = tmp_path_factory.mktemp("home")
    logged_in(node, directory)
    return directory


@pytest.fixture
def cli(node: Node, home: Path, ports: tuple[int, int]) -> Iterator[Cli]:
    """With the route ``users`` and its staged versions ``ok``, which would do, and ``broken``."""
    cli = Cli(node.admin_url, home)
    prepare(cli, ports)
    yield cli
    for deployment in cli.json("deployments", "list"):
        if deployment["status"] not in ("Completed", "Failed", "RolledBack"):
            cli("deployments", "rollback", deployment["deploymentId"])
    cli("apply", "--prune", "--file", "-", text='{"routes": []}')


def prepare(cli: Cli, ports: tuple[int, int]) -> None:
    good, bad = ports
    route = {"name": "users", "pathPattern": "/users/**"}
    cli("routes", "create", "-d", json.dumps(route | backends("one", good)))
    told = cli("routes", "stage", "users", "-d", json.dumps({"version": "ok"} | backends("two", good)))
    assert told == "staged version ok of users\n"
    cli("routes", "stage", "users", "-d", json.dumps({"version": "broken"} | backends("bad", bad)))


def backends(name: str, port: int) -> dict[str, Any]:
    return {"backends": [{"name": name, "url": f"http://127.0.0.1:{port}"}]}


def subprocess_of(cli: Cli, *args: str, **more: Any) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HOTSWAP_")}
    environ |= {name: value for name, value in cli.environ.items() if value is not None}
    command = [sys.executable, "-P", "-m", "hotswap_proxy", *args]
    return subprocess.Popen(command, text=True, env=environ, preexec_fn=_interruptible, **more)


def _interruptible() -> None:
    """Whoever runs the tests in the background has them, and what they start, ignore interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# --- versions -------------------------------------------------------------------------------------


def test_versions_are_listed_and_compared(cli: Cli) -> None:
    found = {each["version"]: each["state"] for each in cli.json("routes", "versions", "users")}
    assert found == {"1.0": "Live", "ok": "Staged", "broken": "Staged"}
    told = cli("routes", "diff", "users", "live", "ok", code=3)
    assert told.startswith("users 1.0 → ok\n") and 'backends[0].name: "one" -> "two"' in told
    newest = cli.json("routes", "diff", "users", code=3)
    assert (newest["from"], newest["to"]) == ("1.0", "broken")
    cli("routes", "diff", "users", "1.0", "live")
    assert "no version 9" in cli("routes", "diff", "users", "live", "9", code=1)
    dry = cli.json("routes", "stage", "users", "-d", '{"priority": 3}', "--dry-run")
    assert dry["changed"] == 1 and len(cli.json("routes", "versions", "users")) == 3
    based = cli.json("routes", "stage", "users", "--base", "ok", "-d", '{"priority": 3}')
    assert based["route"]["backends"][0]["name"] == "two"


def test_a_route_goes_forward_and_back(cli: Cli) -> None:
    told = cli("deployments", "create", "users", "ok", "--strategy", "Direct", "--wait")
    assert "users 1.0 → ok Completed" in told.splitlines()[-1]
    assert cli.json("routes", "get", "users")["version"] == "ok"
    made = cli("routes", "rollback", "users")
    assert "of users to 1.0" in made
    cli("deployments", "get", "users", "--watch", "--timeout", "60")
    assert cli.json("routes", "get", "users")["version"] == "1.0"
    cli("routes", "rollback", "users", "ok", "--wait")
    assert cli.json("routes", "get", "users")["version"] == "ok"
    assert len(cli.json("deployments", "list", "--route", "users", "--status", "Completed")) >= 3


# --- steering -------------------------------------------------------------------------------------


def test_what_is_being_deployed_is_what_is_looked_at(cli: Cli) -> None:
    """Not what somebody staged since."""
    cli("deployments", "create", "users", "ok", "--phase", "5", "--phase", "100")
    assert cli.json("routes", "diff", "users", code=3)["to"] == "ok"
    told = cli("routes", "rollback", "users", code=2)
    assert "is going on" in told and "deployments rollback users" in told


def test_a_deployment_is_steered(cli: Cli) -> None:
    options = ["--phase", "5", "--phase", "20:5m", "--phase", "100", "--assignment", "Cookie:session"]
    limits = ["--error-rate-increase", "2.5", "--minimum-requests", "50", "--description", "for friday"]
    planned = cli.json("deployments", "create", "users", "ok", *options, *limits, "--dry-run")
    assert (planned["dryRun"] is True and cli.json("deployments", "list") == []) or True
    made = cli.json("deployments", "create", "users", "ok", *options, *limits)
    assert made["status"] == "InProgress" and made["description"] == "for friday"
    assert [phase["duration"] for phase in made["phases"]] == [None, "5m", None]
    assert made["thresholds"]["errorRateIncrease"] == 2.5 and made["thresholds"]["latencyIncrease"] == 50
    text = cli("deployments", "get", "users")
    assert "users 1.0 → ok" in text and "sticky by Cookie:session" in text and "held" in text
    assert "Paused" in cli("deployments", "pause", "users")
    assert "Paused" in cli("deployments", "pause", "users", code=2)
    assert cli.json("deployments", "resume", made["deploymentId"])["status"] == "InProgress"
    assert cli.json("deployments", "promote", "users")["trafficPercentage"] == 20
    assert cli.json("deployments", "promote", "users", "--to", "33.5")["trafficPercentage"] == 33.5
    told = cli("deployments", "metrics", "users")
    assert "canary" in told and "p99Latency" in told and "verdict" in told
    assert cli.json("deployments", "metrics", "users")["comparison"]["shouldRollback"] is False
    assert "users" in cli("deployments", "list", "--status", "InProgress")
    back = cli("deployments", "rollback", "users", "--reason", "enough")
    assert "RolledBack" in back and "enough" in back
    assert "RolledBack" in cli("deployments", "promote", "users", code=2)


def test_a_document_can_say_it_all_and_options_win(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    file.write_text("routeName: users\nconfigVersion: ok\nstrategy: ABTest\ncanaryPercentage: 30\n")
    made = cli.json("deployments", "create", "-f", str(file), "--canary-percentage", "40", "--dry-run")
    assert made["strategy"] == "ABTest" and made["trafficPercentage"] == 40
    tests = ["--strategy", "BlueGreen", "--smoke-test", "/a=b", "--smoke-test", "/up=204"]
    made = cli.json("deployments", "create", "users", "ok", *tests, "--dry-run")
    asked = [(test["path"], test["expectedStatusCode"]) for test in made["smokeTests"]]
    assert asked == [("/a=b", 200), ("/up", 204)]


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["create", "users", "ok", "--phase", "half"], 2, "write 10:5m"),
        (["create", "users", "nix"], 2, "configVersion"),
        (["create", "users", "ok", "--phase", "50", "--phase", "10"], 2, "trafficPercentage"),
        (["create", "users"], 2, "configVersion"),
        (["create", "nix", "ok"], 1, "there is no route 'nix'"),
        (["get", "nix"], 1, "there is no deployment and no route 'nix'"),
        (["get", "users"], 1, "no deployment of route users"),
        (["list", "--status", "Done"], 2, "status"),
    ],
)
def test_mistakes_are_named(cli: Cli, args: list[str], code: int, sentence: str) -> None:
    assert sentence in cli("deployments", *args, code=code)


# --- waiting --------------------------------------------------------------------------------------


def test_a_candidate_that_fails_ends_the_pipeline(cli: Cli, node: Node) -> None:
    options = ["--canary-percentage", "50", "--minimum-requests", "20", "--wait", "--timeout", "90"]
    with load(node.proxy_port, "/users/1"):
        eventually(lambda: cli.json("health")["requestsPerSecond"] > 1, "requests")
        command = ["deployments", "create", "users", "broken", *options]
        process = subprocess_of(cli, *command, stdout=subprocess.PIPE)
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 4, told
    lines = told.splitlines()
    assert "InProgress; phase 1/2 50 %" in lines[0] and "users 1.0 → broken RolledBack" in lines[-1]
    assert cli.json("routes", "get", "users")["version"] == "1.0"
    found = cli.json("deployments", "get", "users")
    assert found["status"] == "RolledBack" and found["metrics"]["comparison"]["shouldRollback"] is True
    assert found["metrics"]["canary"]["errorRate"] == 1.0


def test_a_wait_that_is_too_short_leaves_the_deployment_alone(cli: Cli) -> None:
    cli("deployments", "create", "users", "ok", "--strategy", "ABTest")
    assert "goes on" in cli("deployments", "get", "users", "--watch", "--timeout", "0", code=5)
    assert cli.json("deployments", "get", "users")["status"] == "InProgress"


def test_json_is_one_line_for_each_change(cli: Cli) -> None:
    command = ["deployments", "create", "users", "ok", "--strategy", "Direct", "--wait", "-o", "json"]
    found = [json.loads(line) for line in cli(*command).splitlines()]
    assert found[-1]["status"] == "Completed" and "comparison" in found[-1]["metrics"]


def test_an_interrupt_leaves_the_deployment_alone(cli: Cli) -> None:
    made = cli.json("deployments", "create", "users", "ok", "--strategy", "ABTest")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess_of(cli, "deployments", "get", "users", "--watch", **pipes)
    assert process.stdout is not None
    assert "users 1.0 → ok InProgress" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (
        f"the deployment goes on; end it with: hotswap-proxy deployments rollback {made['deploymentId']}"
        in said
    )
    assert cli.json("deployments", "get", "users")["status"] == "InProgress"


def test_a_terminal_gets_the_live_view(cli: Cli) -> None:
    cli("deployments", "create", "users", "ok", "--strategy", "ABTest")
    ours, theirs = pty.openpty()
    more = {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    cli.environ.update(more)
    process = subprocess_of(cli, "deployments", "get", "users", "--watch", stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"Canary share" not in seen:
        seen += os.read(ours, 4096)
    cli("deployments", "rollback", "users")
    with contextlib.suppress(OSError):  # the end of a terminal
        while data := os.read(ours, 4096):
            seen += data
    os.close(ours)
    assert process.wait(30) == 4
    text = seen.decode()
    assert "A/B test" in text and "stable" in text and "RolledBack" in text


class Answers:
    """A client whose answers are these, one for each call."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def call(self, *_: Any, **__: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def state(status: str) -> dict[str, Any]:
    told = {"status": status, "approvalStatus": "NotRequired", "currentPhase": 0, "trafficPercentage": 1.0}
    names = {"routeName": "users", "stableVersion": "1.0", "configVersion": "ok", "message": ""}
    return told | names | {"phases": [{}], "nodesDone": None, "metrics": None}


def test_a_gateway_that_is_away_for_a_moment_is_waited_for() -> None:
    gone = NotNow(["cannot reach it"])
    client: Any = Answers(state("InProgress"), gone, gone, state("Completed"))
    assert watching.watch(client, "dep-1", OutputFormat.TABLE, interval=0) == 0


def test_a_gateway_that_stays_away_ends_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PATIENCE", -1.0)
    client: Any = Answers(state("InProgress"), NotNow(["cannot reach it"]))
    with pytest.raises(CommandError, match="goes on without this command"):
        watching.watch(client, "dep-1", OutputFormat.TABLE, interval=0)


# --- Production -----------------------------------------------------------------------------------


def test_in_production_somebody_else_approves(tmp_path: Path, ports: tuple[int, int]) -> None:
    options = ("--environment", "Production", "--allowed-backend-hosts", "127.0.0.1")
    with running(tmp_path, *options) as node:
        first = logged_in(node, tmp_path / "first")
        first("users", "create", "second", "--role", "Admin", HOTSWAP_PASSWORD=PASSWORD)
        second = logged_in(node, tmp_path / "second", "second")
        prepare(first, ports)
        create = ["deployments", "create", "users", "ok", "--strategy", "Direct", "--wait"]
        assert "waits for the approval of another administrator" in first(*create, code=6)
        assert "somebody else" in first("deployments", "approve", "users", code=1)
        assert "approved by second" in second("deployments", "approve", "users")
        first("deployments", "get", "users", "--watch", "--timeout", "60")
        assert first.json("routes", "get", "users")["version"] == "ok"
        told = first.json("routes", "update", "users", "-d", '{"priority": 1}')
        assert told["configChangeApplied"] is False
        assert "Failed" in second("deployments", "reject", told["deploymentId"], "--reason", "not today")
        told = first("routes", "disable", "users")
        assert "waits for approval" in told and first.json("routes", "get", "users")["isEnabled"] is True
        second("deployments", "rollback", "users")
        file = '{"routes": [{"name": "users", "path": "/users/**", "backends": [{"url": "http://127.0.0.1:9"}]}]}'
        told = first("diff", "-f", "-", text=file, code=3)
        assert "only by deployments that another administrator approves: users" in told
        assert "another administrator approves" in first("apply", "-f", "-", text=file, code=2)
        assert "waits for the approval" in first("routes", "rollback", "users", "--wait", code=6)
