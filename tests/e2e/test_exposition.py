"""Everything that a node can tell Prometheus, at once: a fleet, a canary, TLS, health checks, access log.

Prometheus' own linter reads it; the pages and the rules name what is in it, and nothing else.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from e2e.conftest import Api
from e2e.rollout import LONG, Rollout, versioned
from e2e.test_tls import options
from harness.backend import Backend, ok
from harness.postgres import PostgresServer
from harness.prometheus import promtool
from harness.redisserver import RedisServer
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from hotswap_proxy.observe import exposition
from tests.node import Node
from tests.processes import eventually

TOP = Path(__file__).resolve().parent.parent.parent
# Names of the specification that the linter would have otherwise: not to be changed any more.
EXCEPTIONS = {
    'gateway_backends_count non-histogram and non-summary metrics should not have "_count" suffix',
    'gateway_routes_count non-histogram and non-summary metrics should not have "_count" suffix',
}


def scrape(node: Node, **headers: str) -> tuple[str, str]:
    """Body and content type."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{node.admin_url}/metrics", headers=fields)
    with urllib.request.urlopen(request, timeout=30) as answer:
        body = answer.read()
        if answer.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        return body.decode(), answer.headers["content-type"]


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture(scope="module")
def everything(
    the_postgres: PostgresServer, the_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A node with all that has metrics of its own, and some traffic."""
    directory = tmp_path_factory.mktemp("everything")
    the_postgres.restore()
    the_redis.restore()
    backend = Backend(lambda request: ok() if "bad" not in request.target else ok(status=b"503 No"))
    node = Node(
        directory,
        *options(directory, "localhost"),
        *("--access-log", str(directory / "access.log"), "--tracing", "on"),
        HOTSWAP_ADMIN_USERNAME="admin",
        HOTSWAP_DATABASE_URL=the_postgres.new_database(),
        HOTSWAP_REDIS_URL=the_redis.url,
    )
    try:
        api = Api(node.start())
        check = {"type": "Http", "interval": "200ms"}
        retry = {"maxAttempts": 2, "initialDelay": "1ms"}
        for name, more in (
            ("checked", {"backends": [{"name": "b", "url": backend.url, "healthCheck": check}]}),
            ("retried", {"retryPolicy": retry, "backends": [{"url": backend.url}]}),
            (
                "limited",
                {"rateLimit": {"type": "FixedWindow", "requests": 2}, "backends": [{"url": backend.url}]},
            ),
        ):
            api.call("POST", "/gateway/routes", {"name": name, "pathPattern": f"/{name}/**", **more})
        with versioned("v1") as stable, versioned("v2") as candidate:
            rollout = Rollout(api, stable, candidate)
            rollout.deploy(phases=LONG, thresholds={"minimumRequests": 1000})
            rollout.reaches("InProgress")
            context = unverified()
            for path in ("/users/1", "/checked/1", "/retried/bad", "/limited/1", "/nowhere"):
                for _ in range(20):
                    url = f"https://127.0.0.1:{node.proxy_port}{path}"
                    try:
                        urllib.request.urlopen(url, context=context, timeout=30).read()
                    except urllib.error.HTTPError as error:
                        error.read()
            eventually(lambda: "gateway_deployment_error_ratio{" in scrape(node)[0], "a verdict is shown")
            yield node
    finally:
        node.clean_up()
        backend.close()


HISTOGRAM = tuple(f"_seconds_{part}" for part in ("bucket", "sum", "count"))


def test_the_linter_finds_nothing_but_the_specification(everything: Node) -> None:
    done = promtool("check", "metrics", given=scrape(everything)[0].encode())
    assert set(done.stdout.splitlines()) == EXCEPTIONS


def test_the_linter_would_find_something(everything: Node) -> None:
    text = scrape(everything)[0].replace("gateway_active_connections", "gateway_active_total")
    assert "gateway_active_total" in promtool("check", "metrics", given=text.encode()).stdout


def test_both_formats_say_the_same(everything: Node) -> None:
    text, text_type = scrape(everything)
    opened, openmetrics_type = scrape(
        everything, accept="application/openmetrics-text;version=1.0.0", accept_encoding="gzip"
    )
    assert (text_type, openmetrics_type) == (exposition.TEXT, exposition.OPENMETRICS)
    classic = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    modern = [sample for family in openmetrics_families(opened) for sample in family.samples]
    keys = [(sample.name, tuple(sample.labels.items())) for sample in classic]
    assert keys == [(sample.name, tuple(sample.labels.items())) for sample in modern], "in the same order"
    assert len(set(keys)) == len(keys), "no series twice"


def test_the_page_lists_every_metric_with_its_labels(everything: Node) -> None:
    page = (TOP / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (counter|gauge|histogram)[^|]*\|([^|]*)\|", page, re.MULTILINE)
    listed = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(listed) == len(rows), "one row each"
    found: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(scrape(everything)[0]):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = family.type, labels
    assert listed.keys() == found.keys()
    for name, (kind, labels) in found.items():
        assert kind == listed[name][0], name
        assert labels <= listed[name][1], name
        if labels:
            assert labels == listed[name][1], name


def named(expressions: str) -> set[str]:
    """Metrics in PromQL; without what recording rules make."""
    found = set(
        re.findall(r"(?<![\w:])((?:gateway|deployments|configs|instances)_[a-z0-9_]+)(?![\w:])", expressions)
    )
    return {re.sub(r"_(bucket|sum|count)$", "", name) if name.endswith(HISTOGRAM) else name for name in found}


def test_every_metric_in_the_rules_exists(everything: Node) -> None:
    groups = yaml.safe_load((TOP / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    expressions = json.dumps([rule["expr"] for group in groups for rule in group["rules"]])
    there = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(scrape(everything)[0])
    }
    assert named(expressions) - there == set()
    assert len(named(expressions)) > 25


def test_what_is_counted_of_a_rollout(everything: Node) -> None:
    api = Api(everything)
    assert api.metric("deployments_in_progress") == 1
    assert api.metric("gateway_deployment_requests_total") == 20
    assert api.metric("gateway_deployment_weight") == pytest.approx(1)
    text = scrape(everything)[0]
    stable = value(text, "gateway_deployment_error_ratio", arm="stable")
    line = value(text, "gateway_deployment_error_ratio_threshold")
    assert (stable, line) == (0, 0.05)
    slow = value(text, "gateway_deployment_p99_seconds", arm="stable")
    assert value(text, "gateway_deployment_p99_threshold_seconds") == pytest.approx(1.5 * slow, abs=1e-5)
    assert value(text, "gateway_deployment_verdict", verdict="Hold") == 1
    assert value(text, "gateway_deployment_required_requests") > 100
    assert value(text, "gateway_deployment_phase") == 1 and value(text, "gateway_deployment_phases") == 3
    assert value(text, "gateway_deployment_info", name="users", canary_version="2.0") == 1
    assert value(text, "gateway_deployment_status", status="InProgress") == 1


def value(text: str, metric: str, /, **labels: str) -> float:
    """Of the one sample with these labels, among others."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in text.splitlines() if line.startswith((f"{metric}{{", f"{metric} "))]
    found = [line for line in lines if all(label in line for label in wanted)]
    assert len(found) == 1, lines
    return float(found[0].rpartition(" ")[2])


def test_nothing_that_clients_send_makes_more_lines(everything: Node) -> None:
    before = len(scrape(everything)[0].splitlines())
    assert before
    port = everything.proxy_port
    context = unverified()
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as sock:
        for number in range(300):
            sock.sendall(
                f"ODD{number} /checked/{number}?x={number} HTTP/1.1\r\nHost: h{number}\r\n\r\n".encode()
            )
            assert sock.recv(65536).startswith(b"HTTP/1.1 ")
    text = scrape(everything)[0]
    assert 'method="OTHER"' in text and "ODD" not in text and "h299" not in text
    assert len(text.splitlines()) <= before + 20
