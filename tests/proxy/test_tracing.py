"""Traces of requests, from what clients and backends see to the spans that a collector would get."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness.backend import Backend, Received, ok
from harness.client import Client
from harness.collector import Span, decoded
from harness.server import free_port
from harness.wait import eventually
from harness.worker import Plane, backend, route
from proxy.attempts import publish, retry

from hotswap_proxy import _core
from hotswap_proxy.middleware import CallNext, Request, Response

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-00"
INTERNAL, SERVER, CLIENT = 1, 2, 3
ERROR = 2

Connect = Callable[..., Client]
MakeBackend = Callable[..., Backend]


class Tracing:
    """A plane that traces, and the spans of its requests."""

    def __init__(
        self, make_plane: Callable[..., Plane], ratio: float, forced: int = 1000, **more: Any
    ) -> None:
        self.journal = _core.Journal(2, ring_bytes=1 << 20)
        self.journal.export_spans(True)
        core = {"tracing": True, "traceSample": ratio, "traceForcedLimit": forced}
        self.plane = make_plane(core=core, journal=self.journal, **more)
        self.records = 0
        self._found = b""

    def drain(self) -> list[Span]:
        told = self.journal.drain(-1)
        self.records += told["records"]
        self._found += told["spans"]
        body, count = _core.OtlpRequest([("service.name", "test")], "1")(self._found)
        spans = decoded(body)
        assert len(spans) == count
        return spans

    def trees(self, count: int) -> list[list[Span]]:
        """The spans of so many requests, each its own first."""
        eventually(lambda: sum(span.kind == SERVER for span in self.drain()) >= count)
        found: list[list[Span]] = []
        for span in self.drain():
            if span.kind == SERVER:
                found.append([])
            found[-1].append(span)
        assert len(found) == count
        return found

    def tree(self) -> dict[str, Span]:
        """The spans of one request that was sent once, by name."""
        (spans,) = self.trees(1)
        assert len({span.name for span in spans}) == len(spans)
        return {span.name: span for span in spans}


@pytest.fixture
def traced(make_plane: Callable[..., Plane]) -> Callable[..., Tracing]:
    return lambda ratio=1.0, forced=1000: Tracing(make_plane, ratio, forced)


def parsed(traceparent: str | None) -> tuple[str, str, str]:
    """Trace id, span id and flags of one value."""
    assert traceparent is not None
    version, trace_id, span_id, flags = traceparent.split("-")
    assert version == "00" and len(trace_id) == 32 and len(span_id) == 16
    return trace_id, span_id, flags


def check_times(spans: list[Span]) -> None:
    root = spans[0]
    for span in spans:
        assert root.start <= span.start <= span.end <= root.end, span


def test_a_request_is_a_tree_and_the_backend_is_told_where_it_is(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect
) -> None:
    tracing, origin = traced(), make_backend()
    tracing.plane.publish(route("/items/{id}", backend(origin.url, name="store"), routeId="r1", name="items"))
    answer = connect(tracing.plane).get("/items/7?a=1&token=hidden", "User-Agent: x", "X-Request-ID: abc-1")
    assert answer.status == 200 and answer.header("traceparent") is None
    (spans,) = tracing.trees(1)
    assert [span.name for span in spans] == [
        "gateway.request",
        "gateway.route_match",
        "gateway.backend_select",
        "gateway.proxy",
        "gateway.response",
    ]
    root, _match, _select, proxy, _response = spans
    check_times(spans)
    assert root.parent_id == "" and root.kind == SERVER and root.status == 0
    assert all(span.parent_id == root.span_id and span.trace_id == root.trace_id for span in spans[1:])
    assert len({span.span_id for span in spans}) == len(spans)
    assert parsed(origin.requests[0].header("traceparent")) == (root.trace_id, proxy.span_id, "01")
    assert root.attributes | {"server.port": 0} == {
        "http.request.method": "GET",
        "url.path": "/items/7",
        "url.query": "a=1&token=***",
        "url.scheme": "http",
        "server.address": root.attributes["server.address"],
        "server.port": 0,
        "client.address": "127.0.0.1",
        "http.response.status_code": 200,
        "http.route": "/items/{id}",
        "http.request.body.size": 0,
        "http.response.body.size": len(answer.body),
        "user_agent.original": "x",
        "network.protocol.version": "1.1",
        "hotswap.route.id": "r1",
        "hotswap.route.name": "items",
        "hotswap.route.version": "1.0",
        "hotswap.route.arm": "stable",
        "hotswap.generation": 1,
        "hotswap.request.id": "abc-1",
    }
    assert proxy.kind == CLIENT and proxy.events == ["request.sent", "response.head"]
    assert proxy.attributes == {
        "hotswap.backend.name": "store",
        "server.address": "127.0.0.1",
        "server.port": origin.port,
        "http.response.status_code": 200,
    }


def test_with_tracing_off_the_clients_fields_pass_as_they_are(
    plane: Plane, make_backend: MakeBackend, connect: Connect
) -> None:
    origin = make_backend()
    plane.publish(route("/**", backend(origin.url)))
    lines = ["TraceParent: what ever", "tracestate: a=1", "tracestate: b=2", SAMPLED]
    connect().get("/", *lines)
    sent = [f"{name}: {value}" for name, value in origin.requests[0].headers if "trace" in name.lower()]
    assert sent == lines


def test_a_sampled_parent_is_followed_whatever_the_ratio(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect
) -> None:
    tracing, origin = traced(ratio=0.0), make_backend()
    tracing.plane.publish(route("/**", backend(origin.url)))
    connect(tracing.plane).get("/", SAMPLED, "tracestate: vendor=1", "tracestate: other=2")
    tree = tracing.tree()
    root, proxy = tree["gateway.request"], tree["gateway.proxy"]
    assert (root.trace_id, root.parent_id, root.trace_state) == (TRACE, PARENT, "vendor=1,other=2")
    assert root.flags == 0x301 and proxy.flags == 0x101
    assert parsed(origin.requests[0].header("traceparent")) == (TRACE, proxy.span_id, "01")
    assert origin.requests[0].header("tracestate") == "vendor=1, other=2"


def test_an_unsampled_parent_is_followed_and_its_header_passes(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect
) -> None:
    tracing, origin = traced(ratio=1.0), make_backend()
    tracing.plane.publish(route("/**", backend(origin.url)))
    client = connect(tracing.plane)
    client.get("/", UNSAMPLED, "tracestate: vendor=1")
    client.get("/last")  # the journal is read in order: when this one is there, that one would be
    (last,) = tracing.trees(1)
    assert last[0].attributes["url.path"] == "/last"
    assert origin.requests[0].header("traceparent") == UNSAMPLED.partition(": ")[2]
    assert origin.requests[0].header("tracestate") == "vendor=1"


def test_callers_force_no_more_traces_than_the_limit(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect
) -> None:
    tracing, origin = traced(ratio=0.0, forced=0), make_backend()
    tracing.plane.publish(route("/**", backend(origin.url)))
    connect(tracing.plane).get("/", SAMPLED)
    assert tracing.drain() == []
    assert origin.requests[0].header("traceparent") == SAMPLED.partition(": ")[2]


@pytest.mark.parametrize(
    "lines",
    [
        ["traceparent: nonsense"],
        [SAMPLED.upper().replace("TRACEPARENT", "traceparent")],
        [SAMPLED, SAMPLED],
        [SAMPLED + "-more"],
        [f"traceparent: 00-{'0' * 32}-{PARENT}-01"],
        [f"traceparent: ff-{TRACE}-{PARENT}-01"],
        ["traceparent:"],
        [],
    ],
)
def test_without_a_valid_parent_a_trace_begins(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect, lines: list[str]
) -> None:
    tracing, origin = traced(), make_backend()
    tracing.plane.publish(route("/**", backend(origin.url)))
    connect(tracing.plane).get("/", *lines, "tracestate: vendor=1")
    tree = tracing.tree()
    trace_id, span_id, flags = parsed(origin.requests[0].header("traceparent"))
    assert (trace_id, span_id, flags) == (
        tree["gateway.request"].trace_id,
        tree["gateway.proxy"].span_id,
        "01",
    )
    assert trace_id != TRACE and tree["gateway.request"].parent_id == ""
    assert origin.requests[0].header("tracestate") is None


@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0])
def test_the_ratio_is_decided_by_the_trace_id(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect, ratio: float
) -> None:
    tracing, origin = traced(ratio=ratio), make_backend()
    tracing.plane.publish(route("/**", backend(origin.url)))
    client = connect(tracing.plane)
    for _ in range(200):
        client.get("/")
    told = [parsed(request.header("traceparent")) for request in origin.requests]
    assert len({trace_id for trace_id, _, _ in told}) == 200
    bound = round((1 - ratio) * 2**56)
    chosen = [trace_id for trace_id, _, _ in told if int(trace_id, 16) % 2**56 >= bound]
    assert [trace_id for trace_id, _, flags in told if flags == "01"] == chosen
    assert {flags for _, _, flags in told} <= {"00", "01"}
    recorded = [spans[0].trace_id for spans in tracing.trees(len(chosen))]
    assert recorded == chosen
    assert tracing.records == len(chosen)  # nobody else's business goes through the ring


def test_each_attempt_has_a_span_that_its_backend_is_told(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect
) -> None:
    tracing = traced()
    failing = make_backend(lambda _request: ok(status=b"503 Away"))
    publish(tracing.plane, failing.url, policy=retry(attempts=3))
    assert connect(tracing.plane).get("/", SAMPLED).status == 503
    (spans,) = tracing.trees(1)
    check_times(spans)
    attempts = [span for span in spans if span.name == "gateway.proxy"]
    told = [parsed(request.header("traceparent")) for request in failing.requests]
    assert told == [(TRACE, span.span_id, "01") for span in attempts]
    assert len(attempts) == len({span.span_id for span in attempts}) == 3
    assert [span.attributes.get("http.request.resend_count") for span in attempts] == [None, 1, 2]
    assert {(span.status, span.attributes["error.type"]) for span in attempts} == {(ERROR, "503")}
    root = spans[0]
    assert (root.status, root.attributes["error.type"]) == (ERROR, "503")
    assert "RTY" in root.attributes["hotswap.flags"]


def test_a_move_to_another_backend_is_an_attempt(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect
) -> None:
    tracing, origin = traced(), make_backend()
    dead = f"http://127.0.0.1:{free_port()}"
    backends = [backend(dead, "b0", name="dead"), backend(origin.url, "b1", name="alive")]
    tracing.plane.publish(route("/**", *backends, strategy="Direct"))
    assert connect(tracing.plane).get("/").status == 200
    (spans,) = tracing.trees(1)
    first, second = (span for span in spans if span.name == "gateway.proxy")
    assert (first.attributes["hotswap.backend.name"], first.attributes["error.type"]) == ("dead", "UF")
    assert first.status == ERROR and second.status == 0
    assert second.attributes["http.request.resend_count"] == 1
    assert parsed(origin.requests[0].header("traceparent"))[1] == second.span_id
    assert spans[0].status == 0


@pytest.mark.parametrize(("path", "status", "kind"), [("/none", 404, None), ("/dead", 502, "UF")])
def test_what_the_gateway_answers_itself_is_traced(
    traced: Callable[..., Tracing], connect: Connect, path: str, status: int, kind: str | None
) -> None:
    tracing = traced()
    tracing.plane.publish(route("/dead", backend(f"http://127.0.0.1:{free_port()}")))
    assert connect(tracing.plane).get(path).status == status
    (spans,) = tracing.trees(1)
    root = spans[0]
    assert root.attributes["http.response.status_code"] == status
    assert root.attributes.get("error.type") == kind and (root.status == ERROR) == (kind is not None)
    assert ("http.route" in root.attributes) == (path == "/dead")
    check_times(spans)


def test_the_variable_is_the_traces_id(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect
) -> None:
    tracing, origin = traced(), make_backend()
    changes = {
        "request": {"addHeaders": {"X-Trace": "${traceId}"}},
        "response": {"addHeaders": {"X-Trace": "${traceId}"}},
    }
    tracing.plane.publish(route("/**", backend(origin.url), policy={"transformations": changes}))
    answer = connect(tracing.plane).get("/")
    root = tracing.tree()["gateway.request"]
    assert answer.header("X-Trace") == origin.requests[0].header("X-Trace") == root.trace_id


def test_a_route_may_keep_the_trace_to_itself(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect
) -> None:
    tracing, origin = traced(), make_backend()
    changes = {"request": {"removeHeaders": ["traceparent", "tracestate"]}}
    tracing.plane.publish(route("/**", backend(origin.url), policy={"transformations": changes}))
    connect(tracing.plane).get("/", SAMPLED, "tracestate: vendor=1")
    assert tracing.tree()["gateway.request"].trace_id == TRACE
    assert origin.requests[0].header("traceparent") is origin.requests[0].header("tracestate") is None


@pytest.mark.parametrize("lines", [[], [SAMPLED], [SAMPLED, SAMPLED], [UNSAMPLED]])
@pytest.mark.parametrize("rewritten", [False, True])
def test_a_middleware_is_told_where_it_is_and_its_backend_once(
    make_plane: Callable[..., Plane],
    make_backend: MakeBackend,
    connect: Connect,
    lines: list[str],
    rewritten: bool,
) -> None:
    """Whatever the middleware does to the field, the backend gets the trace's, and one."""
    seen: list[list[str]] = []
    own = f"00-{'ee' * 16}-{'ee' * 8}-01"

    async def look(request: Request, call_next: CallNext) -> Response:
        seen.append(request.headers.get_all("traceparent"))
        if rewritten:
            request.headers.add("traceparent", own)
        return await call_next(request)

    tracing, origin = Tracing(make_plane, 1.0, middleware={"look": look}), make_backend()
    tracing.plane.publish(route("/**", backend(origin.url), policy={"middleware": ["look"]}))
    assert connect(tracing.plane).get("/", *lines, "tracestate: vendor=1").status == 200
    told = [value for name, value in origin.requests[0].headers if name.lower() == "traceparent"]
    state = [value for name, value in origin.requests[0].headers if name.lower() == "tracestate"]
    if lines == [UNSAMPLED]:  # nothing is recorded here: it passes, and is the middleware's to change
        assert seen == [[UNSAMPLED.partition(": ")[2]]]
        assert told == seen[0] + [own] * rewritten and state == ["vendor=1"]
        return
    tree = tracing.tree()
    root, proxy = tree["gateway.request"], tree["gateway.proxy"]
    assert [[parsed(value) for value in values] for values in seen] == [[(root.trace_id, root.span_id, "01")]]
    assert [parsed(value) for value in told] == [(root.trace_id, proxy.span_id, "01")]
    assert (root.trace_id == TRACE) == (lines == [SAMPLED])
    assert state == (["vendor=1"] if lines == [SAMPLED] else [])


def test_kept_requests_are_listed_and_found(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect
) -> None:
    def script(request: Received) -> bytes:
        return ok(status=b"500 Oh") if request.target == "/bad" else ok()

    tracing, origin = traced(), make_backend(script)
    tracing.plane.publish(
        route("/good", backend(origin.url), routeId="g"), route("/bad", backend(origin.url), routeId="b")
    )
    client = connect(tracing.plane)
    for path in ("/good", "/bad", "/none"):
        client.get(path)
    trees = tracing.trees(3)

    def listed(*arguments: Any, **more: Any) -> list[str]:
        return [one["path"] for one in json.loads(tracing.journal.kept(*arguments, **more))]

    assert listed(10) == ["/none", "/bad", "/good"]
    assert listed(1) == ["/none"]
    assert listed(10, "g") == ["/good"]
    assert listed(10, None, (500, 599)) == ["/bad"]
    assert listed(10, min_duration_ms=60_000) == []
    spans = json.loads(tracing.journal.kept_trace(trees[0][0].trace_id))
    assert [span["spanId"] for span in spans] == [span.span_id for span in trees[0]]
    assert spans[0]["attributes"] == trees[0][0].attributes
    for nonsense in ("", "x" * 32, TRACE, "é"):
        assert json.loads(tracing.journal.kept_trace(nonsense)) == []


def test_what_is_kept_is_bounded(
    traced: Callable[..., Tracing], make_backend: MakeBackend, connect: Connect
) -> None:
    tracing, origin = traced(), make_backend()
    tracing.plane.publish(route("/**", backend(origin.url)))
    client = connect(tracing.plane)
    for number in range(300):
        client.get(f"/{number}")
    tracing.trees(300)
    kept = json.loads(tracing.journal.kept(1000))
    assert len(kept) == 256 and kept[0]["path"] == "/299"
