"""Single changes through the admin API with 10,000 routes, under load. The peers have no such thing."""

from __future__ import annotations

import http.client
import statistics
import time
import urllib.error

from . import machine
from .gateway import Gateway, explain
from .load import StrictClient
from .scenarios import CONNECTIONS, Numbers, Plan

CHANGES = 20
EVERY = 0.25
PROBE = "/bench-probe/item"


def api_changes(gateway: Gateway, plan: Plan, rate: float) -> Numbers:
    """One route goes to and fro between two backends; effective: from accepted PUT to first new answer."""
    gateway.start()
    try:
        token = gateway.login()
        route = gateway.admin("POST", "/gateway/routes", _route("a"), token)["routeId"]
        seconds = plan.warm_up + 3.0 + CHANGES * EVERY
        effective: list[float] = []
        call: list[float] = []
        moments: list[float] = []
        with StrictClient(gateway.port, CONNECTIONS, seconds, rate, gateway.routes) as client:
            begin = time.monotonic() + plan.warm_up
            time.sleep(plan.warm_up + 2.0)
            for turn in range(CHANGES):
                label = "ba"[turn % 2]
                sent = time.monotonic()
                gateway.admin("PUT", f"/gateway/routes/{route}", {"backends": [{"name": label}]}, token)
                accepted = time.monotonic()
                moments.append(sent)
                call.append((accepted - sent) * 1000)
                effective.append((first_answer_of(gateway.port, label) - accepted) * 1000)
                time.sleep(max(0.0, sent + EVERY - time.monotonic()))
        result = client.result
        ledger = gateway.admin("GET", "/gateway/health")
        plan.say(f"  API     {gateway.label:<32} {result.outcomes()} call {statistics.median(call):.1f} ms")
        return {
            "changes": CHANGES,
            "requests": result.requests,
            "failed": result.failed,
            "closed": result.closed,
            "call_ms": statistics.median(call),
            "effective_ms": statistics.median(effective),
            "effective_worst_ms": max(effective),
            "steady": result.quantile(0.99, lambda s: begin < s.start < moments[0]),
            "during": result.quantile(0.99, lambda s: s.start >= moments[0]),
            "routes": float(ledger.get("routesConfigured", 0)),
        }
    except urllib.error.HTTPError as error:
        raise machine.BenchError(f"admin API: {explain(error)}") from error
    finally:
        gateway.stop()


def _route(label: str) -> dict[str, object]:
    return {"name": "bench-probe", "pathPattern": "/bench-probe/**", "backends": [{"name": label}]}


def first_answer_of(port: int, label: str, timeout: float = 5.0) -> float:
    """Ask on one connection until the answer comes from ``label``; the moment that request was sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            asked = time.monotonic()
            connection.request("GET", PROBE)
            answer = connection.getresponse()
            answer.read()
            if answer.getheader("X-Backend") == label:
                return asked
        raise machine.BenchError(f"no answer from backend {label} within {timeout:.0f} s of the change")
    finally:
        connection.close()
