"""A real Prometheus scrapes real gateways, and the documented queries give what has happened."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import Api
from e2e.rollout import Rollout, versioned
from harness.backend import Backend, Received, ok
from harness.prometheus import PrometheusServer, Sample
from harness.server import free_port

from tests.node import Node
from tests.processes import eventually

TOP = Path(__file__).resolve().parent.parent.parent
RULES = TOP / "deploy" / "prometheus" / "alerts.yml"
SLOW = 0.3  # seconds that one request in ten takes


def send(node: Node, path: str, times: int = 1) -> list[int]:
    """Statuses."""
    found = []
    for _ in range(times):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{node.proxy_port}{path}", timeout=30) as answer:
                answer.read()
                found.append(answer.status)
        except urllib.error.HTTPError as error:
            found.append(error.code)
        except OSError:
            found.append(0)
    return found


def script(request: Received) -> Any:
    if "bad" in request.target:
        return ok(status=b"500 No")
    if "slow" in request.target:
        return slowly()
    if "refused" in request.target:
        return ok(status=b"503 No")
    return None if "hangs" in request.target else ok()


def slowly() -> Iterator[bytes]:
    time.sleep(SLOW)
    yield ok()


@dataclass
class Scene:
    """Two gateways of one job, and what has happened on the first."""

    prometheus: PrometheusServer
    node: Node
    other: Node
    routes: dict[str, str]  # name → id
    rollout: Rollout
    down: str
    open: str


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directories = [tmp_path_factory.mktemp(name) for name in ("node", "other")]
    nodes = [
        Node(directory, "--node-id", directory.name, HOTSWAP_ADMIN_USERNAME="admin").start()
        for directory in directories
    ]
    node, other = nodes
    hang = threading.Event()
    backend, flaky = Backend(script), Backend(script)
    stuck = Backend(lambda _: wait_for(hang))
    down = f"http://127.0.0.1:{free_port()}"
    prometheus = PrometheusServer([one.ready["admin"] for one in nodes], rules=[RULES])
    try:
        api = Api(node)
        routes = {}
        check = {"type": "Tcp", "interval": "200ms", "unhealthyThreshold": 1}
        breaker = {"failureThreshold": 2, "timeout": "5m"}
        quick = {"maxAttempts": 2, "initialDelay": "1ms"}
        for name, backends, more in (
            ("users", [{"name": "u", "url": backend.url}], {}),
            ("checked", [{"name": "c", "url": down, "healthCheck": check}], {}),
            ("broken", [{"name": "f", "url": flaky.url}], {"circuitBreaker": breaker, "retryPolicy": quick}),
            ("stuck", [{"name": "s", "url": stuck.url}], {}),
        ):
            route = {"name": name, "pathPattern": f"/{name}/**", "backends": backends, **more}
            routes[name] = api.call("POST", "/gateway/routes", route)["routeId"]
        with versioned("v1") as stable, versioned("v2", failed=0.2) as candidate:
            rollout = Rollout(api, stable, candidate, name="canary", pathPattern="/canary/**")
            rollout.deploy(
                phases=[{"trafficPercentage": 50, "duration": "1h"}, {"trafficPercentage": 100}],
                thresholds={"minimumRequests": 100_000, "errorRateIncrease": 5},
            )
            rollout.reaches("InProgress")
            # The first request begins a series; Prometheus must have seen it before the increase.
            send(node, "/users/1"), send(node, "/canary/1", 2)
            seen = f'gateway_requests_failed_total{{route="{routes["users"]}"}}'
            prometheus.until(seen, lambda found: len(found) == 1)
            begin_stuck(node)
            killed = node.workers()
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: api.metric("gateway_workers_replaced_total") == 2, "there are new workers")
            assert send(node, "/users/1", 70) == [200] * 70
            assert send(node, "/users/slow", 9) == [200] * 9
            assert send(node, "/users/bad", 20) == [500] * 20
            assert send(node, "/broken/refused", 4)[0] == 503
            send(node, "/canary/1", 200)
            scene = Scene(prometheus, node, other, routes, rollout, down, flaky.url)
            all_seen = f'sum(gateway_request_duration_seconds_count{{route="{routes["users"]}"}}) == 100'
            prometheus.until(all_seen, lambda found: bool(found))
            prometheus.until("gateway_requests_lost_total > 0", lambda found: bool(found))
            prometheus.until(
                'sum(gateway_deployment_judged_requests{arm="canary"}) > 80', lambda found: bool(found)
            )
            yield scene
    finally:
        hang.set()
        for one in nodes:
            one.clean_up()
        for server in (backend, flaky, stuck):
            server.close()
        prometheus.close()


def wait_for(event: threading.Event) -> Iterator[bytes]:
    event.wait(120)
    yield ok()


def begin_stuck(node: Node) -> None:
    """A request that is in flight until its worker dies."""
    threading.Thread(target=send, args=(node, "/stuck/1"), daemon=True).start()
    api = Api(node)
    eventually(lambda: api.metric("gateway_generation_inflight") == 1, "it is in flight")


def questions() -> dict[str, str]:
    """Of the page: question → PromQL."""
    page = (TOP / "docs" / "metrics.md").read_text()
    table = page.partition("## Questions")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+\?) \| `(.+)` \|$", table, re.MULTILINE)
    return {question: expression.replace("\\|", "|") for question, expression in rows}


def one(found: list[Sample], **labels: str) -> float:
    """Of the only sample with these labels."""
    values = [sample.value for sample in found if labels.items() <= sample.labels.items()]
    assert len(values) == 1, (labels, found)
    return values[0]


def near(value: float, wanted: float) -> bool:
    return value == pytest.approx(wanted, rel=0.1)


Check = Callable[[Scene, list[Sample]], bool]
ANSWERS: dict[str, Check] = {
    "How many requests a second, by route?": lambda s, f: one(f, route=s.routes["users"]) > 0,
    "The same, with the names of routes?": lambda s, f: one(f, route=s.routes["users"], name="users") > 0,
    # 20 of 100 of users, 4 of 5 or so of broken, some of canary
    "Which part of all requests fails?": lambda s, f: 0.05 < one(f) < 0.3,
    "Which part of each route's requests fails?": lambda s, f: near(one(f, route=s.routes["users"]), 20 / 99),
    "What are the answers?": lambda s, f: one(f, code="200") > one(f, code="500"),
    # 9 of 99 take SLOW: the p99 is in its bucket.
    "p99 of each route, seconds?": lambda s, f: 0.26 < one(f, route=s.routes["users"]) < 0.54,
    "p99 of both versions of a route in a deployment?": lambda s, f: (
        {(x.labels["route"], x.labels["arm"]) for x in f}
        == {(s.rollout.route_id, "stable"), (s.rollout.route_id, "canary")}
    ),
    "How much is the gateway's own part (p99)?": lambda s, f: 0 < one(f) < 0.04,
    # One in five fails, and the line is at 5 %.
    "How far is the canary's error ratio from the line (> 0: over it)?": lambda s, f: (
        0.1 < one(f, deployment=s.rollout.deployment_id) < 0.2
    ),
    "How far is its p99 from the line?": lambda s, f: -1 < one(f, deployment=s.rollout.deployment_id) < 1,
    "Which share has the canary really got?": lambda s, f: near(
        one(f, deployment=s.rollout.deployment_id), 0.5
    ),
    "How many requests does the verdict need still?": lambda s, f: (
        90_000 < one(f, deployment=s.rollout.deployment_id) < 100_000
    ),
    "Which deployments are going on?": lambda s, f: [x.labels["status"] for x in f] == ["InProgress"],
    "Which backends are down?": lambda s, f: [x.labels["backend"] for x in f] == [s.down],
    "Which circuits are open?": lambda s, f: [x.labels["backend"] for x in f] == [s.open],
    "Which part of the requests was retried?": lambda s, f: 0 <= one(f) < 0.1,
    "How many revisions is each node behind?": lambda s, f: (
        one(f, instance=s.node.ready["admin"]) == 0 and one(f, instance=s.other.ready["admin"]) >= 5
    ),
    "Was a request lost?": lambda s, f: near(one(f), 1) or 1 <= one(f) < 5,
    "How busy is the busiest worker (1: a whole core)?": lambda s, f: (
        0 < one(f, instance=s.node.ready["admin"]) < 1.2
    ),
    "Which part of the file descriptors is used?": lambda s, f: (
        0 < one(f, instance=s.node.ready["admin"]) < 0.5
    ),
    "How many requests are in flight?": lambda s, f: one(f, instance=s.node.ready["admin"]) == 0,
}


def test_each_question_of_the_page_has_an_answer_here() -> None:
    assert list(questions()) == list(ANSWERS)


@pytest.mark.parametrize("question", ANSWERS)
def test_a_documented_query_answers(scene: Scene, question: str) -> None:
    found: list[list[Sample]] = []

    def answers(samples: list[Sample]) -> bool:
        found.append(samples)
        try:
            return ANSWERS[question](scene, samples)
        except AssertionError:
            return False

    # Numbers of the store are a few seconds old.
    scene.prometheus.until(questions()[question], answers, within=20)
    assert found


def test_both_targets_are_scraped_without_an_error(scene: Scene) -> None:
    assert [(one["health"], one["lastError"]) for one in scene.prometheus.targets()] == [("up", "")] * 2
    dropped = "sum(scrape_samples_scraped - scrape_samples_post_metric_relabeling)"
    assert one(scene.prometheus.query(dropped)) == 0
    told = scene.prometheus.log.read_text()
    assert "duplicate" not in told.lower() and "out-of-order" not in told.lower()


def test_rules_are_evaluated_and_alerts_fire(scene: Scene) -> None:
    """Those without a waiting time at once; the others are pending."""
    scene.prometheus.until(
        'ALERTS{alertname="GatewayRequestsLost", alertstate="firing"}', lambda found: len(found) == 1, 60
    )
    wanted = {"GatewayBackendDown", "GatewayCircuitOpen", "GatewayNodeBehind"}
    scene.prometheus.until(
        "count by (alertname) (ALERTS)",
        lambda found: wanted <= {sample.labels["alertname"] for sample in found},
    )
    groups = scene.prometheus.get("rules")["groups"]
    unwell = [
        (rule["name"], rule["lastError"])
        for group in groups
        for rule in group["rules"]
        if rule.get("lastError")
    ]
    assert unwell == []
    assert one(scene.prometheus.query('route:gateway_route_info:name{name="users"}')) == 1


def test_a_scrape_with_an_api_key(start_node: Callable[..., Node], tmp_path: Path) -> None:
    """As the page has it, with `--metrics-access token`."""
    node = start_node("--metrics-access", "token")
    made = Api(node).call("POST", "/authentication/api-keys", {"name": "prometheus", "role": "Viewer"})
    file = tmp_path / "key"
    file.write_text(made["key"])
    server = PrometheusServer(
        [node.ready["admin"]], scrape={"authorization": {"credentials_file": str(file)}}
    )
    try:
        server.until("up", lambda found: [sample.value for sample in found] == [1])
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{node.admin_url}/metrics", timeout=10)
        assert error.value.code == 401
    finally:
        server.close()
