"""A route between two versions: what a request pays for it, and what each step of the rollout costs."""

from __future__ import annotations

import statistics
import time
import urllib.error

from . import machine
from .gateway import Gateway, explain
from .load import StrictClient
from .scenarios import CONNECTIONS, Numbers, Plan

ROUTE = "bench-5000"  # the one that the requests of the scenarios go to
STEPS = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
EVERY = 0.5
NEVER = {"errorRateIncrease": 100, "latencyIncrease": 10_000}  # the machine's noise is not to end it


class Deploying(Gateway):
    """The same while the measured route is held at 10 % for a version on the other backend."""

    @property
    def label(self) -> str:
        return f"{super().label}, canary 10 %"

    def start(self) -> None:
        super().start()
        begin(self, self.login(), "ABTest")


def begin(gateway: Gateway, token: str, strategy: str) -> str:
    """Deploy a version of the route that goes to backend b; the deployment's id."""
    route = next(
        found
        for found in gateway.admin("GET", f"/gateway/routes?name={ROUTE}", None, token)["routes"]
        if found["name"] == ROUTE
    )["routeId"]
    version = {"version": "candidate", "backends": [{"name": "b"}]}
    gateway.admin("POST", f"/gateway/routes/{route}/versions", version, token)
    body = {"routeId": route, "configVersion": "candidate", "strategy": strategy, "thresholds": NEVER}
    if strategy == "ABTest":
        body["canaryPercentage"] = 10
    made = gateway.admin("POST", "/gateway/deployments", body, token)
    return str(made["deploymentId"])


def steps(gateway: Gateway, plan: Plan, rate: float) -> Numbers:
    """The share is moved by hand, step by step, and in the end everything is rolled back."""
    gateway.start()
    try:
        token = gateway.login()
        path = f"/gateway/deployments/{begin(gateway, token, 'Canary')}"
        seconds = plan.warm_up + 3.0 + (len(STEPS) + 1) * EVERY
        calls: list[float] = []
        moments: list[float] = []

        def call(command: str, body: dict[str, object]) -> None:
            sent = time.monotonic()
            gateway.admin("POST", f"{path}/{command}", body, token)
            moments.append(sent)
            calls.append((time.monotonic() - sent) * 1000)
            time.sleep(max(0.0, sent + EVERY - time.monotonic()))

        with StrictClient(gateway.port, CONNECTIONS, seconds, rate, gateway.routes) as client:
            begun = time.monotonic() + plan.warm_up
            time.sleep(plan.warm_up + 2.0)
            for share in STEPS[1:]:
                call("promote", {"targetPercentage": share})
            call("rollback", {"reason": "the benchmark is over"})
        result = client.result
        plan.say(f"  rollout {gateway.label:<32} {result.outcomes()} call {statistics.median(calls):.1f} ms")
        return {
            "changes": len(moments),
            "requests": result.requests,
            "failed": result.failed,
            "closed": result.closed,
            "effective_ms": statistics.median(calls),
            "effective_worst_ms": max(calls),
            "steady": result.quantile(0.99, lambda s: begun < s.start < moments[0]),
            "during": result.quantile(0.99, lambda s: s.start >= moments[0]),
        }
    except urllib.error.HTTPError as error:
        raise machine.BenchError(f"admin API: {explain(error)}") from error
    finally:
        gateway.stop()
