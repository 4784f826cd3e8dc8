"""What is told of requests that have an answer of a backend's, and how the lines are kept."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest
from harness.backend import ok
from harness.certs import bundle, client_context
from harness.client import Client
from harness.wait import eventually
from harness.worker import backend, route

from hotswap_proxy import _core
from tests.proxy.arms import versions
from tests.proxy.attempts import first, nobody, publish, retry

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
KEYS = [
    *(
        "time",
        "requestId",
        "client",
        "method",
        "scheme",
        "host",
        "path",
        "query",
        "protocol",
        "status",
        "flags",
    ),
    *("route", "routeId", "version", "arm", "generation", "backend", "address", "attempts"),
    *("bytesIn", "bytesOut", "durationMs", "upstreamMs", "overheadMs", "userAgent"),
]


@pytest.fixture
def plane(make_told_plane):
    """One whose requests are told of."""
    return make_told_plane()


def test_a_request_gives_one_line(plane, told, make_backend, connect):
    server = make_backend()
    generation = plane.publish(
        route("/items/{id}", backend(server.url, name="store"), routeId="r1", name="items", version="2.1")
    )
    before = datetime.now(UTC)
    path = "/items/7?a=1&token=hidden"
    answer = connect().get(path, 'User-Agent: x "y"', "X-Request-ID: abc-1", method="PUT", body=b"12345")
    assert answer.status == 200
    line = told.one()
    assert list(line) == KEYS
    assert abs(datetime.fromisoformat(line["time"]) - before) < timedelta(seconds=2)
    assert (line["method"], line["path"], line["query"]) == ("PUT", "/items/7", "a=1&token=***")
    assert (line["scheme"], line["host"], line["protocol"]) == ("http", "test.example", "HTTP/1.1")
    assert (line["client"], line["requestId"]) == ("127.0.0.1", "abc-1")
    assert (line["status"], line["flags"]) == (200, [])
    assert (line["route"], line["routeId"], line["version"], line["arm"]) == ("items", "r1", "2.1", "stable")
    assert line["generation"] == generation
    assert (line["backend"], line["address"], line["attempts"]) == ("store", f"127.0.0.1:{server.port}", 1)
    assert (line["bytesIn"], line["bytesOut"]) == (5, len(answer.body))
    assert line["userAgent"] == 'x "y"'
    assert 0 < line["upstreamMs"] <= line["durationMs"]
    assert line["overheadMs"] is None, "it waited for a new connection"


def test_the_gateways_own_time_is_told_where_nothing_was_waited_for(plane, told, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    client.get()
    client.get()
    second = told.next(2)[1]
    assert 0 < second["overheadMs"] <= second["durationMs"]


@pytest.mark.parametrize("body", [b"", b"x" * 100_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bytes_are_those_of_the_bodies(plane, told, make_backend, connect, body, chunked):
    plane.publish(route("/**", backend(make_backend(lambda request: ok(request.body)).url)))
    client = connect()
    if chunked:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"%x\r\n%b\r\n" % (len(body), body) if body else b"")
        client.send(b"0\r\n\r\n")
        assert client.read("POST").body == body
    else:
        assert client.get("/", method="POST", body=body).body == body
    line = told.one()
    assert (line["bytesIn"], line["bytesOut"]) == (len(body), len(body))


def test_answers_without_a_body(plane, told, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.read("HEAD").status == 200
    line = told.one()
    assert (line["method"], line["status"], line["bytesOut"]) == ("HEAD", 200, 0)


def test_http_1_0_and_a_request_without_host(plane, told, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    client.send(b"GET /old?t HTTP/1.0\r\n\r\n")
    assert b"hello" in client.read_to_end()
    line = told.one()
    assert (line["protocol"], line["host"], line["query"]) == ("HTTP/1.0", None, "t")


def test_over_tls(make_told_plane, told, make_backend, connect):
    plane = make_told_plane(bundle=bundle())
    plane.publish(route("/**", backend(make_backend().url)))
    with Client(plane.port, tls=client_context(), name="localhost") as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.read().status == 200
    assert told.one()["scheme"] == "https"


def test_pipelined_requests_are_told_of_in_order(plane, told, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(20)))
    for _ in range(20):
        assert client.read().status == 200
    lines = told.next(20)
    assert [line["path"] for line in lines] == [f"/{n}" for n in range(20)]
    assert len({line["requestId"] for line in lines}) == 20


def test_what_a_client_sends_stays_in_its_place(plane, told, make_backend, connect):
    """Bytes that are no UTF-8, quotes, and more than fits."""
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    agent = b'\xff\xfe"\\' + "ü".encode() + b"\t" + b"a" * 600
    target = b"/" + b"p" * 3000 + b"?key=secret&" + b"q" * 3000
    client.send(b"GET %b HTTP/1.1\r\nHost: x\r\nUser-Agent: %b\r\n\r\n" % (target, agent))
    assert client.read().status == 200
    line = told.one()
    assert line["userAgent"].startswith('\ufffd\ufffd"\\ü\ta')
    assert line["userAgent"].endswith("a…")
    assert line["path"] == "/" + "p" * 2047 + "…"
    assert line["query"].startswith("key=***&qqq")
    assert line["query"].endswith("q…")
    assert "secret" not in told.path.read_text()


def test_credentials_in_a_target_are_never_told(plane, told, connect):
    client = connect()
    client.send(b"GET http://user:hunter2@x/ HTTP/1.1\r\nHost: x\r\n\r\n")
    client.read()
    told.one()
    assert "hunter2" not in told.path.read_text()


def test_a_client_behind_a_proxy_that_is_trusted(make_told_plane, told, make_backend, connect):
    plane = make_told_plane({"trustedProxies": ["127.0.0.0/8"]})
    plane.publish(route("/**", backend(make_backend().url)))
    connect(plane).get("/", "X-Forwarded-For: 2001:db8::7")
    assert told.one()["client"] == "2001:db8::7"


def test_the_trace_that_a_request_is_of(plane, told, make_backend, connect):
    """Without tracing it passes as it is; a line tells of it all the same."""
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    parent = f"00-{'ab' * 16}-{'cd' * 8}-00"
    client.get("/", f"traceparent: {parent}")
    client.get("/", "traceparent: nonsense")
    first_line, second = told.next(2)
    assert first_line["traceId"] == "ab" * 16
    assert "spanId" not in first_line
    assert "traceId" not in second
    assert server.requests[0].header("traceparent") == parent


def test_the_arm_that_took_it(plane, told, make_backend, connect):
    server = make_backend()
    plane.publish(versions(server.url, server.url, share=10_000))
    connect().get()
    line = told.one()
    assert (line["arm"], line["version"], line["backend"]) == ("canary", "2.0", "new")
    plane.publish(versions(server.url, server.url, share=0))
    connect().get()
    line = told.one()
    assert (line["arm"], line["version"], line["backend"]) == ("stable", "1.0", "old")


# ---- retries ----


def test_a_retry_is_visible(plane, told, make_backend, connect):
    bad, good = make_backend(lambda _: ok(status=b"503 Service Unavailable")), make_backend()
    publish(plane, bad.url, good.url, policy=retry(), strategy="Direct")
    assert connect().get().status == 200
    line = told.one()
    assert (line["status"], line["flags"], line["attempts"], line["backend"]) == (200, ["RTY"], 2, "b1")
    (failed,) = line["failedAttempts"]
    assert (failed["backend"], failed["status"], failed["flag"]) == ("b0", 503, None)
    assert failed["address"] == f"127.0.0.1:{bad.port}"
    assert failed["durationMs"] > 0


def test_retries_that_come_to_an_end(plane, told, make_backend, connect):
    bad = make_backend(lambda _: ok(status=b"503 Service Unavailable"))
    publish(plane, bad.url, policy=retry(3))
    assert connect().get().status == 503
    line = told.one()
    assert (line["flags"], line["attempts"]) == (["URX", "RTY"], 3)
    assert [each["status"] for each in line["failedAttempts"]] == [503, 503]


def test_a_budget_that_is_used_up(make_told_plane, told, make_backend, connect):
    plane = make_told_plane({"retryBudget": 0})
    publish(plane, make_backend(lambda _: ok(status=b"503 No")).url, policy=retry(3))
    assert connect(plane).get().status == 503
    assert told.one()["flags"] == ["URB"]


def test_a_failover_is_visible(plane, told, make_backend, connect):
    good = make_backend()
    with nobody() as gone:
        publish(plane, gone, good.url, strategy="Direct")
        assert connect().get("/", method="POST", body=b"x").status == 200
    line = told.one()
    assert (line["flags"], line["attempts"], line["backend"]) == (["RFO"], 2, "b1")
    (failed,) = line["failedAttempts"]
    assert (failed["backend"], failed["flag"], failed["status"]) == ("b0", "UF", None)


def test_a_pooled_connection_that_was_closed(plane, told, make_raw, connect):
    """The backend closes it under the second request, which goes out again."""
    answered = threading.Event()

    def script(peer):
        peer.read_head()
        peer.send(ok())
        if peer.number == 0:
            peer.read_head()
            answered.set()

    plane.publish(route("/**", backend(make_raw(script).url)))
    client = connect()
    assert client.get().status == 200
    assert client.get().status == 200
    assert answered.is_set()
    first_line, second = told.next(2)
    assert first_line["flags"] == []
    assert (second["flags"], second["attempts"], second["status"]) == (["RSC"], 1, 200)


# ---- lines ----


def test_only_a_share_of_the_uneventful_is_told(make_told_plane, told, make_backend, connect):
    plane = make_told_plane({"accessLogSample": 0.0})
    publish(plane, make_backend(first([ok(status=b"500 Oops")])).url)
    client = connect(plane)
    for _ in range(20):
        client.get()
    line = told.one()
    assert (line["status"], line["flags"]) == (500, [])


def test_names_to_hide_are_added_to_the_usual(make_plane, make_backend, connect, tmp_path):
    journal_ = _core.Journal(2, redact=["Ticket"])
    plane_ = make_plane(core={"accessLog": True}, journal=journal_)
    plane_.publish(route("/**", backend(make_backend().url)))
    connect(plane_).get("/?ticket=1&password=2&page=3")
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    eventually(lambda: journal_.drain(fd)["lines"] == 1)
    os.close(fd)
    assert json.loads((tmp_path / "log").read_text())["query"] == "ticket=***&password=***&page=3"
    assert "password" in _core.REDACTED_PARAMETERS


def test_a_pipe_that_is_full_loses_whole_lines(plane, journal, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    client = connect()
    found, text = {"lines": 0, "linesLost": 0, "records": 0}, b""
    for _ in range(300):
        client.get("/" + "x" * 1500)
        for key, value in journal.drain(write_end).items():
            if key in found:
                found[key] += value
    assert found["linesLost"] > 0
    os.set_blocking(read_end, False)
    text += os.read(read_end, 1 << 20)
    client.get("/last")
    eventually(lambda: journal.drain(write_end)["lines"] == 1)
    text += os.read(read_end, 1 << 20)
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == found["lines"] + 1
    assert lines[-1]["path"] == "/last"
    os.close(read_end)
    error = journal.drain(write_end)["error"]
    assert error is None
    client.get("/nobody-reads")

    def broken() -> bool:
        told_ = journal.drain(write_end)
        return told_["linesLost"] == 1 and "Broken pipe" in str(told_["error"])

    eventually(broken)
    os.close(write_end)


def test_a_full_ring_is_counted(plane, journal, make_backend, connect):
    plane.publish(route("/**", backend(make_backend().url)))
    client = connect()
    for _ in range(60):
        assert client.get("/" + "x" * 2000).status == 200
    eventually(lambda: plane.totals()["completed"] == 60)
    found = journal.drain(-1)
    assert found["dropped"] > 0
    assert found["records"] + found["dropped"] == 60
    assert journal.drain(-1)["dropped"] == 0


def test_a_worker_without_a_journal_tells_nothing(make_plane, journal, make_backend, connect):
    plane_ = make_plane(core={"accessLog": True})
    plane_.publish(route("/**", backend(make_backend().url)))
    assert connect(plane_).get().status == 200
    assert journal.drain(-1)["records"] == 0


def test_what_is_no_journal_is_refused():
    with pytest.raises(ValueError, match="power of two"):
        _core.Journal(2, ring_bytes=100_000)
    with pytest.raises(OSError, match="nvalid"):
        _core.Journal(0)
    node = _core.Node(1)
    with pytest.raises(OSError, match="nvalid"):
        _core.Worker(node.state_fd, node.arena_fd, 0, b"{}", node.state_fd)


def test_every_flag_has_a_name_and_a_sentence():
    flags = _core.response_flags()
    assert len({name for name, _ in flags}) == len(flags)
    for name, sentence in flags:
        assert name.isupper(), name
        assert sentence.endswith("."), name
