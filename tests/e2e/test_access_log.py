"""The line of a request: it says what its client and its backend saw, and why it ended as it did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.accesslog import line_of, read
from e2e.conftest import Api
from harness.backend import Backend, ok
from harness.client import Client, Response

from hotswap_proxy import _core
from tests.node import Node
from tests.processes import eventually

NOBODY = "http://127.0.0.1:1"  # refuses connections
DOCS = Path(__file__).parents[2] / "docs"
KEY = "route-key-0123456789abcdef"


class Logged:
    """A node with an access log, and one connection to it."""

    def __init__(self, node: Node, log: Path) -> None:
        self.node, self.log = node, log
        self.client = Client(node.proxy_port)
        self._asked = 0

    def ask(self, path: str, *headers: str, **more: Any) -> tuple[Response, dict[str, Any]]:
        """A request, its answer and its line."""
        self._asked += 1
        request_id = f"q-{self._asked}"
        answer = self.client.get(path, f"X-Request-ID: {request_id}", *headers, **more)
        assert answer.header("X-Request-ID") == request_id
        return answer, line_of(self.log, request_id)


@pytest.fixture
def begin(start_node: Callable[..., Node], tmp_path: Path) -> Iterator[Callable[..., Logged]]:
    """Starts a node with these routes."""
    opened: list[Logged] = []

    def make(*options: str, routes: list[dict[str, Any]]) -> Logged:
        config = tmp_path / "gateway.json"
        config.write_text(json.dumps({"version": "1", "routes": routes}))
        log = tmp_path / "access.log"
        opened.append(Logged(start_node("--config", str(config), "--access-log", str(log), *options), log))
        return opened[-1]

    yield make
    for logged in opened:
        logged.client.sock.close()


def route(name: str, *urls: str, **more: Any) -> dict[str, Any]:
    backends = [{"name": f"{name}-{index}", "url": url} for index, url in enumerate(urls)]
    return {"name": name, "pathPattern": f"/{name}/**", "backends": backends, **more}


def test_what_is_refused_and_why(begin: Callable[..., Logged], backends: list[Backend]) -> None:
    url = backends[0].url
    limit = {"type": "FixedWindow", "requests": 1, "window": "1h", "keyBy": "ClientIP"}
    logged = begin(
        routes=[
            route("open", url, methods=["GET"]),
            route("keyed", url, auth={"type": "apiKey", "apiKeys": [{"name": "k", "key": KEY}]}),
            route("limited", url, rateLimit=limit),
            route("checked", url, validation={"requiredHeaders": ["X-Needed"]}),
            route("dead", NOBODY),
        ]
    )
    answer, line = logged.ask("/open/a?x=1", "User-Agent: test/1")
    assert (answer.status, line["status"], line["flags"]) == (200, 200, [])
    assert (line["method"], line["path"], line["query"]) == ("GET", "/open/a", "x=1")
    assert (line["scheme"], line["host"], line["protocol"]) == ("http", "test.example", "HTTP/1.1")
    assert (line["route"], line["arm"], line["backend"], line["attempts"]) == ("open", "stable", "open-0", 1)
    assert line["address"] == url.removeprefix("http://")
    assert (line["client"], line["userAgent"], line["bytesOut"]) == ("127.0.0.1", "test/1", len(answer.body))
    assert backends[0].requests[0].header("X-Request-ID") == line["requestId"]
    assert line["durationMs"] >= line["upstreamMs"] > 0

    expected = [
        ("/nowhere", (), 404, "NR", None, 0),
        ("/keyed/x", (), 401, "UAEX", "keyed", 0),
        ("/keyed/x", ("X-API-Key: wrong",), 401, "UAEX", "keyed", 0),
        ("/checked/x", (), 400, "VAL", "checked", 0),
        ("/limited/x", (), 200, None, "limited", 1),
        ("/limited/x", (), 429, "RL", "limited", 0),
        ("/dead/x", (), 502, "UF", "dead", 1),
    ]
    for path, headers, status, flag, name, attempts in expected:
        answer, line = logged.ask(path, *headers)
        found = (answer.status, line["status"], line["flags"], line["route"], line["attempts"])
        assert found == (status, status, [flag] if flag else [], name, attempts), path
        assert line["bytesOut"] == len(answer.body)
    answer, line = logged.ask("/open/a", method="DELETE")
    assert (answer.status, line["flags"], line["method"]) == (405, ["MNA"], "DELETE")
    fields = set(json.loads((DOCS / "logs.md").read_text().partition("```json\n")[2].partition("```")[0]))
    assert {*line, "failedAttempts"} == fields, "the documented ones"
    known = {name for name, _ in _core.response_flags()}
    assert {flag for line in read(logged.log) for flag in line["flags"]} <= known
    assert "wrong" not in logged.log.read_text() + logged.node.log.read_text()


def test_attempts_are_told_apart(begin: Callable[..., Logged]) -> None:
    failing = Backend(lambda _request: ok(b"no", status=b"503 Service Unavailable"))
    closing = Backend(lambda _request: None)
    well = Backend(lambda _request: ok(b"fine"))
    retry = {"maxAttempts": 3, "initialDelay": "1ms"}
    logged = begin(
        "--retry-budget", "100", "--outlier-ejection", "off",
        routes=[
            route("retried", failing.url, well.url, retryPolicy=retry, strategy="Direct"),
            route("over", NOBODY, well.url, strategy="Direct"),
            route("failing", failing.url),
            route("closing", closing.url),
            route("spent", closing.url, failing.url, retryPolicy=retry, strategy="Direct"),
        ],
    )  # fmt: skip
    answer, line = logged.ask("/retried/x")
    assert (answer.status, line["status"], line["attempts"], line["backend"]) == (200, 200, 2, "retried-1")
    assert "RTY" in line["flags"]
    (failed,) = line["failedAttempts"]
    assert (failed["backend"], failed["status"]) == ("retried-0", 503)
    assert failed["address"] == failing.url.removeprefix("http://")
    seen = {one.header("X-Request-ID") for one in (*failing.requests, *well.requests)}
    assert seen == {line["requestId"]}

    answer, line = logged.ask("/over/x")
    assert (answer.status, line["attempts"], line["backend"]) == (200, 2, "over-1")
    assert "RFO" in line["flags"] and line["failedAttempts"][0]["flag"] == "UF"

    answer, line = logged.ask("/failing/x")
    assert (answer.status, line["status"], line["flags"], line["backend"]) == (503, 503, [], "failing-0")

    answer, line = logged.ask("/closing/x")
    assert (answer.status, line["flags"], line["backend"]) == (502, ["UC"], "closing-0")

    answer, line = logged.ask("/spent/x")
    assert answer.status == line["status"] and line["attempts"] > 1
    assert {"RTY", "URX"} <= set(line["flags"])


def test_slow_backends_and_clients_that_leave(begin: Callable[..., Logged]) -> None:
    slow = Backend(lambda _request: iter(lambda: b"", b""))  # takes the request, answers nothing
    logged = begin(routes=[route("slow", slow.url, timeoutSeconds=1), route("left", slow.url)])
    answer, line = logged.ask("/slow/x")
    assert (answer.status, line["status"], line["flags"]) == (504, 504, ["UT"])
    assert line["durationMs"] >= 900
    with Client(logged.node.proxy_port) as leaver:
        leaver.send(b"GET /left/x HTTP/1.1\r\nHost: test.example\r\nX-Request-ID: gone\r\n\r\n")
        slow.wait(lambda: len(slow.requests) == 2)
        leaver.reset()
    line = line_of(logged.log, "gone")
    assert (line["flags"], line["route"], line["backend"]) == (["DC"], "left", "left-0")


def test_the_arm_of_a_deployment(begin: Callable[..., Logged], backends: list[Backend]) -> None:
    logged = begin(routes=[])
    api = Api(logged.node)
    made = api.call("POST", "/gateway/routes", route("ab", backends[0].url))
    path = f"/gateway/routes/{made['routeId']}/versions"
    api.call("POST", path, {"version": "2.0", "backends": [{"name": "new", "url": backends[1].url}]})
    body = {"routeId": made["routeId"], "configVersion": "2.0", "strategy": "ABTest", "canaryPercentage": 50}
    api.call("POST", "/gateway/deployments", body)
    arms = {b"a": ("stable", "ab-0", "1.0"), b"b": ("canary", "new", "2.0")}
    for _ in range(20):
        answer, line = logged.ask("/ab/x")
        assert (line["arm"], line["backend"], line["version"]) == arms[answer.body]
        assert line["routeId"] == made["routeId"]
    assert {line["arm"] for line in read(logged.log)} == {"stable", "canary"}


def test_secrets_in_queries_are_hidden(begin: Callable[..., Logged], backends: list[Backend]) -> None:
    logged = begin("--access-log-redact", "ticket,SID", routes=[route("q", backends[0].url)])
    secret = "hunter2"
    names = [*_core.REDACTED_PARAMETERS, "Ticket", "sid", "t%69cket"]
    query = "&".join(f"{name}={secret}" for name in names)
    _, line = logged.ask(f"/q/x?{query}&seen=1", f"Authorization: Bearer {secret}", f"Cookie: c={secret}")
    assert line["query"] == "&".join(f"{name}=***" for name in names) + "&seen=1"
    assert backends[0].requests[0].target.endswith(f"?{query}&seen=1"), "the backend gets all of it"
    assert secret not in logged.log.read_text() + logged.node.log.read_text()


def test_what_is_uneventful_is_sampled(begin: Callable[..., Logged], backends: list[Backend]) -> None:
    logged = begin("--access-log-sample", "0.2", routes=[route("s", backends[0].url)])
    with Client(logged.node.proxy_port) as client:
        for number in range(300):
            assert client.get(f"/s/{number}").status == 200
            assert client.get(f"/missing/{number}").status == 404
    logged.ask("/missing/last")
    logged.node.end()
    lines = read(logged.log)
    assert len([line for line in lines if line["status"] == 404]) == 301, "each that is refused"
    assert 25 <= len([line for line in lines if line["status"] == 200]) <= 105  # 60; six deviations are 42


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/i/%0a%7b%22status%22:200%7d", []),
        ("/i/%1b[31m%9b%00", []),
        ("/i/x", ['User-Agent: "}\t{"status": 200}\\']),
        ("/i/x", ["User-Agent: \u009b31m red \u202e"]),
        ("/i/\"x\"", []),
    ],
)  # fmt: skip
def test_a_line_cannot_be_forged(
    begin: Callable[..., Logged], backends: list[Backend], path: str, headers: list[str]
) -> None:
    logged = begin(routes=[route("i", backends[0].url)])
    request = "\r\n".join([f"GET {path} HTTP/1.1", "Host: test.example", *headers, "", ""]).encode()
    logged.client.send(request)
    answer = logged.client.read()
    (line,) = eventually(lambda: read(logged.log), "the line")
    assert line["status"] == answer.status
    assert_harmless(logged.log.read_bytes())


def test_bytes_that_are_no_text(begin: Callable[..., Logged], backends: list[Backend]) -> None:
    logged = begin(routes=[route("i", backends[0].url)])
    requests = (
        b"GET /i/x HTTP/1.1\r\nHost: x.example\r\nUser-Agent: \xff\xfe \xc2\x9b2J \xed\xa0\x80 end\r\n\r\n",
        b"GET /i/\xff\xc2\x9b HTTP/1.1\r\nHost: test.example\r\n\r\n",
        b"GET /i/x HTTP/1.1\r\nHost: a\x1b[2Jb\r\n\r\n",
        b"GET /i/x HTTP/1.1\r\nHost: test.example\r\nUser-Agent: a\rb\r\n\r\n",
        b"G\x1bT /i/x HTTP/1.1\r\nHost: test.example\r\n\r\n",
    )
    for number, request in enumerate(requests, 1):
        with Client(logged.node.proxy_port) as client:
            client.send(request)
            answer = client.read()
        eventually(lambda number=number: len(read(logged.log)) == number, "the line")
        assert read(logged.log)[-1]["status"] == answer.status
    assert_harmless(logged.log.read_bytes())
    assert "�" in read(logged.log)[0]["userAgent"] and read(logged.log)[0]["userAgent"].endswith(" end")


def assert_harmless(data: bytes) -> None:
    """No control character, of ASCII or of Unicode, gets to whoever looks at the file."""
    text = data.decode()
    bad = {char for char in text if char != "\n" and (ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0)}
    assert not bad
    assert all(isinstance(json.loads(line), dict) for line in text.splitlines())


def test_a_log_that_cannot_be_written_is_refused_at_the_start(
    start_node: Callable[..., Node], tmp_path: Path
) -> None:
    node = start_node("--access-log", str(tmp_path / "none" / "access.log"))
    assert node.process.wait(30) == 1
    log = tmp_path / "none" / "access.log"
    reason = f"cannot write the access log {log}: the directory {log.parent} does not exist"
    assert node.log.read_text().splitlines()[-1] == f"hotswap-proxy: --access-log: {reason}"


def test_on_standard_output(start_node: Callable[..., Node]) -> None:
    node = start_node("--access-log", "-")
    with Client(node.proxy_port) as client:
        client.get("/x", "X-Request-ID: one")
    assert node.process.stdout is not None
    line = json.loads(node.process.stdout.readline())
    assert (line["requestId"], line["status"], line["flags"]) == ("one", 404, ["NR"])
    assert Api(node).metric("gateway_access_log_lines_total") == 1
    assert node.end() == 0


def test_without_an_access_log_nothing_is_kept(start_node: Callable[..., Node]) -> None:
    node = start_node()
    with pytest.raises(AssertionError, match="no metric"):
        Api(node).metric("gateway_journal_dropped_total")
    maps = Path(f"/proc/{node.workers()[0]}/maps").read_text()
    assert "journal" not in maps
