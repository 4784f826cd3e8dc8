"""Traces of a whole node: from a client and an operator to a collector, the API and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.backend import Backend
from harness.client import Client
from harness.collector import Collector, Span, taken

from tests.e2e.conftest import Api
from tests.node import Node
from tests.processes import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
Start = Callable[..., Node]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()
    assert made.problems == []


def traced(start_node: Start, collector: Collector, *options: str, **environ: str) -> tuple[Node, Api]:
    node = start_node("--otlp-endpoint", collector.url, "--trace-sample", "1", *options, **environ)
    return node, Api(node)


def add_route(api: Api, backend: Backend, name: str = "items") -> dict[str, Any]:
    backends = [{"name": f"{name}-1", "url": backend.url}]
    document = {"name": name, "pathPattern": f"/{name}/**", "backends": backends}
    return dict(api.call("POST", "/gateway/routes", document))


def get(node: Node, path: str, *lines: str) -> int:
    client = Client(node.proxy_port)
    try:
        return client.get(path, *lines).status
    finally:
        client.sock.close()


def command(node: Node, api: Api, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hotswap_proxy", *words],
        env={**os.environ, "HOTSWAP_ADMIN_URL": node.admin_url, "HOTSWAP_TOKEN": api.token},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_a_request_is_found_at_the_collector_by_the_api_and_the_command_line(
    start_node: Start, collector: Collector, backends: list[Backend]
) -> None:
    node, api = traced(
        start_node,
        collector,
        *("--service-name", "edge", "--node-id", "n1"),
        OTEL_RESOURCE_ATTRIBUTES="team=a%20b,service.name=ignored",
        OTEL_EXPORTER_OTLP_HEADERS="x-token=s3cret",
    )
    route = add_route(api, backends[0])
    assert get(node, "/items/1?token=hidden", f"traceparent: {PARENT}") == 200
    spans = collector.trace(TRACE, 5)
    (root,) = (span for span in spans if span.name == "gateway.request")
    assert root.resource["service.name"] == "edge" and root.resource["team"] == "a b"
    assert root.resource["service.instance.id"] == "n1"
    assert root.attributes["hotswap.route.id"] == route["routeId"]
    assert root.attributes["url.query"] == "token=***"
    assert collector.headers[-1]["x-token"] == "s3cret"
    seen = backends[0].requests[0].header("traceparent")
    (proxy,) = (span for span in spans if span.name == "gateway.proxy")
    assert seen == f"00-{TRACE}-{proxy.span_id}-01"

    listed = api.call("GET", f"/gateway/traces?routeId={route['routeId']}&status=2xx")["traces"]
    assert [one["traceId"] for one in listed] == [TRACE]
    assert api.call("GET", "/gateway/traces?status=5xx&minDurationMs=1")["traces"] == []
    kept = api.call("GET", f"/gateway/traces/{TRACE}")["spans"]
    assert {span["spanId"] for span in kept} == {span.span_id for span in spans}
    with pytest.raises(urllib.error.HTTPError) as error:
        api.call("GET", f"/gateway/traces/{'1' * 32}")
    assert error.value.code == 404

    assert TRACE in command(node, api, "traces", "list")
    shown = command(node, api, "traces", "get", TRACE)
    lines = shown.splitlines()
    assert lines[0] == f"trace {TRACE}" and lines[1].startswith("gateway.request")
    assert lines[-1].startswith("└─ gateway.response") and "items-1" in shown
    assert len(json.loads(command(node, api, "traces", "get", TRACE, "-o", "json"))["spans"]) == 5
    assert "s3cret" not in node.log.read_text()
    eventually(lambda: api.metric("gateway_spans_exported_total") >= 5, "spans counted")
    assert api.metric("gateway_spans_dropped_total") == 0


def test_from_the_audit_log_to_the_trace_of_a_change(
    start_node: Start, collector: Collector, backends: list[Backend]
) -> None:
    _node, api = traced(start_node, collector)
    request = urllib.request.Request(
        f"{api.url}/gateway/routes",
        json.dumps(
            {"name": "r", "pathPattern": "/**", "backends": [{"name": "b", "url": backends[0].url}]}
        ).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {api.token}", "traceparent": PARENT},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        route = json.load(answer)
    (entry,) = api.call("GET", f"/audit-logs?entityId={route['routeId']}")["auditLogs"]
    assert entry["traceId"] == TRACE
    call, work = by_start(collector.trace(TRACE, 2))
    assert (call.name, call.kind, call.parent_id) == ("POST /api/v1/gateway/routes", 2, "b7ad6b7169203331")
    assert call.attributes["http.response.status_code"] == 201
    assert (work.name, work.parent_id) == ("config.create", call.span_id)
    kept = api.call("GET", f"/gateway/traces/{entry['traceId']}")["spans"]
    assert [span["name"] for span in kept] == [call.name, work.name]

    with pytest.raises(urllib.error.HTTPError) as error:
        api.call("POST", "/gateway/routes", {"name": "other"})
    told = json.load(error.value)["error"]
    failed = by_start(collector.trace(told["traceId"], 2))
    assert failed[1].status == 2 and failed[1].attributes["error.type"] == "VALIDATION_ERROR"
    assert failed[0].status == 0  # a caller's mistake is no error of the server


def by_start(spans: list[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: (span.start, -span.end))


def test_a_deployment_is_a_trace_of_its_own(
    start_node: Start, collector: Collector, backends: list[Backend]
) -> None:
    _node, api = traced(start_node, collector)
    route = add_route(api, backends[0])
    given = {"name": "items-2", "url": backends[1].url}
    path = f"/gateway/routes/{route['routeId']}/versions"
    staged = api.call("POST", path, {"backends": [given]})
    order = {
        "routeId": route["routeId"],
        "configVersion": staged["version"],
        "strategy": "Canary",
        "phases": [
            {"name": "first", "trafficPercentage": 10, "duration": "1h"},
            {"name": "all", "trafficPercentage": 100, "duration": "1h"},
        ],
    }
    made = api.call("POST", "/gateway/deployments", order)
    api.call("POST", f"/gateway/deployments/{made['deploymentId']}/rollback", {"reason": "a test"})

    def ended() -> list[Span]:
        return collector.named("config.deploy")

    (whole,) = collector.wait(ended)
    assert whole.attributes["hotswap.deployment.id"] == made["deploymentId"]
    assert whole.attributes["hotswap.deployment.status"] == "RolledBack" and whole.status == 2
    assert whole.events[0] == "create" and "roll_back" in whole.events
    (back,) = (span for span in collector.named("config.rollback") if span.trace_id == whole.trace_id)
    assert back.parent_id == whole.span_id

    def linked() -> set[str]:
        return {span.name for span in collector.spans if whole.trace_id in span.links}

    collector.wait(lambda: linked() == {"config.deploy.create", "config.rollback"})
    assert collector.named("config.version.upload")


def test_what_was_traced_last_is_delivered_at_the_end(
    start_node: Start, collector: Collector, backends: list[Backend]
) -> None:
    node, api = traced(start_node, collector)
    add_route(api, backends[0])
    assert get(node, "/items/1", f"traceparent: {PARENT}") == 200
    assert node.end(signal.SIGTERM) == 0
    assert len(collector.trace(TRACE, 5)) == 5


def test_a_worker_that_was_replaced_traces_on(
    start_node: Start, collector: Collector, backends: list[Backend]
) -> None:
    node, api = traced(start_node, collector, "--workers", "1")
    add_route(api, backends[0])
    (first,) = node.workers()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: node.workers() not in ([], [first]), "another worker")
    assert get(node, "/items/1", f"traceparent: {PARENT}") == 200
    assert len(collector.trace(TRACE, 5)) == 5


def test_a_collector_that_hangs_does_not_hold_up_requests_or_the_end(
    start_node: Start, backends: list[Backend]
) -> None:
    hanging = Collector(lambda number: None if number < 1000 else taken(number))
    try:
        node, api = traced(start_node, hanging)
        add_route(api, backends[0])
        hanging.wait(lambda: hanging.asked > 0)
        for number in range(20):
            assert get(node, f"/items/{number}") == 200
        assert node.end() == 0
        assert node.logged("the last traces were not exported")["spans"] >= 1
    finally:
        hanging.close()


def test_without_a_collector_traces_are_only_kept(start_node: Start, backends: list[Backend]) -> None:
    node = start_node("--tracing", "on", "--trace-sample", "1")
    api = Api(node)
    add_route(api, backends[0])
    assert get(node, "/items/1") == 200
    found = eventually(lambda: api.call("GET", "/gateway/traces")["traces"], "a trace") or []
    assert found[0]["path"] == "/items/1"


def test_with_tracing_off_there_are_no_traces(node: Node) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        Api(node).call("GET", "/gateway/traces")
    assert error.value.code == 409


def test_who_does_not_trace_does_not_pay_for_its_libraries() -> None:
    code = "import hotswap_proxy.control.main, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "hotswap_proxy" in loaded
    assert not loaded & {"opentelemetry", "google", "httpx"}
