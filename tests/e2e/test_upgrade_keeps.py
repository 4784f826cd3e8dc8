"""What an upgrade hands on: what is known of backends, the configuration file, a deployment that goes on, the
history, the access log, traces.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from chaos.load import Load
from e2e.conftest import Api
from e2e.rollout import LENIENT, SHORT, Rollout, Traffic, versioned
from e2e.upgrading import CLIENTS, ROUTE, Start, add_route, serve
from harness.victim import Victim

from tests.node import write_config
from tests.processes import alive, eventually


def test_what_is_known_of_backends_survives(start: Start, victim: Victim) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dead = f"http://127.0.0.1:{gone.getsockname()[1]}"
    check = {"type": "Tcp", "interval": "2s", "unhealthyThreshold": 3, "healthyThreshold": 2}
    node = start()
    api = Api(node)
    made = {
        url: api.call("POST", "/gateway/backends", {"name": name, "url": url, "healthCheck": check})
        for name, url in (("live", victim.url), ("dead", dead))
    }
    held = made[victim.url]["backendId"]
    route = ROUTE | {"backends": [{"name": name} for name in ("live", "dead")]}
    api.call("POST", "/gateway/routes", route)

    def health(url: str) -> str:
        found: dict[str, Any] = api.call("GET", f"/gateway/backends/{made[url]['backendId']}/health")
        return str(found["healthStatus"])

    eventually(lambda: health(dead) == "Unhealthy" and health(victim.url) == "Healthy", "the checks have run")
    api.call("PUT", f"/gateway/backends/{held}/circuit-breaker", {"state": "Closed"})
    assert node.upgrade()[0] == 0
    assert health(dead) == "Unhealthy" and health(victim.url) == "Healthy"
    assert api.call("GET", f"/gateway/backends/{held}/health")["circuitBreaker"]["mode"] == "Closed"


def test_the_configuration_file_goes_with_the_node(start: Start, victim: Victim, tmp_path: Path) -> None:
    file = write_config(tmp_path / "gateway.json", victim.port)
    node = start("--config", str(file))
    api = Api(node)

    def names() -> set[str]:
        return {route["name"] for route in api.call("GET", "/gateway/routes")["routes"]}

    add_route(api, "/by-hand", victim.url)
    write_config(file, victim.port, text="{}")
    node.logged("configuration file refused")
    code, said = node.upgrade()
    assert code == 1 and "is refused; its mistakes are on standard error" in said
    write_config(file, victim.port)
    node.logged("configuration file applied")
    add_route(api, "/by-hand", victim.url)
    code, said = node.upgrade()
    assert code == 0, said
    assert names() == {"route-0", "/by-hand"}, "it was not applied again"
    write_config(file, victim.port, routes=3)
    eventually(lambda: names() == {"route-0", "route-1", "route-2"}, "the new process looks at it")


def counted(rollout: Rollout) -> int:
    return sum(int(arm["requestCount"]) for arm in rollout.metrics()["total"].values())


def test_a_canary_goes_on(start: Start, stable: str) -> None:
    node = start()
    with versioned("v2", delay=0.004) as candidate:
        rollout = Rollout(Api(node), stable, candidate)
        with Traffic([node.proxy_port]) as traffic:
            rollout.deploy(phases=SHORT, thresholds=LENIENT)
            eventually(lambda: counted(rollout) > 100, "requests are counted")
            before = counted(rollout)
            code, said = node.upgrade()
            assert code == 0, said
            assert counted(rollout) >= before, "what the old process has counted is judged too"
            rollout.reaches("Completed")
            traffic.more(100)
        traffic.check_nothing_was_lost()


def test_what_is_told_of_requests_is_complete(start: Start, victim: Victim, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    options = ("--access-log", str(log), "--tracing", "on", "--trace-sample", "1")
    node = start(*options)
    route = {"routeId": "rt-1"}
    api = serve(node, victim.url, **route)
    first = node.in_charge
    with Load(node.proxy_port, CLIENTS) as load:
        load.run_on(500)
        code, said = node.upgrade()
        assert code == 0, said
        load.run_on(500)
    assert load.failed() == []
    eventually(lambda: not alive(first), "the old process has ended")
    answers = load.answers.total()

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines()]  # none is torn

    # Both have written to it, each to its end; what a client gave up at the end may be there beside.
    eventually(lambda: len([row for row in lines() if row["status"] == 200]) >= answers, "a line for each")
    found = lines()
    assert len({row["requestId"] for row in found}) == len(found), "no request twice"
    assert len(found) <= answers + sum(CLIENTS.values())
    # Counted by both, in one minute or in two.
    shown = api.call("GET", "/gateway/routes/rt-1?timeWindow=5m")
    assert shown["statistics"]["totalRequests"] == len(found)
    # The new process has the traces of its own requests, and goes on to make them.
    last = max(found, key=lambda row: str(row["time"]))
    spans = eventually(lambda: api.call("GET", f"/gateway/traces/{last['traceId']}")["spans"], "its trace")
    assert "gateway.request" in {span["name"] for span in spans}
    assert api.metric("gateway_journal_dropped_total") == 0
    # A later process opens the log anew for itself.
    log.rename(tmp_path / "rotated.log")
    node.tell_who_is_in_charge("USR1")
    eventually(log.exists, "the log is opened anew")
