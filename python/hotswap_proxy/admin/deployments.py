"""Deployments as the API shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from hotswap_proxy.deploy.measurement import ArmCounts, Latency, Measurement
from hotswap_proxy.deploy.record import Deployment
from hotswap_proxy.model.policy.auth import MASK
from hotswap_proxy.observe.tracing import current
from hotswap_proxy.store.deployments import NodeMeasurement
from hotswap_proxy.store.times import rfc3339

# What the engine keeps for itself; the salt would tell a client how to get into an arm.
INTERNAL = {"salt", "baseline", "window_baseline", "window_started_at", "windows", "before", "measured"}
_QUANTILES = (("p50Latency", 0.50), ("p95Latency", 0.95), ("p99Latency", 0.99))


def list_item(deployment: Deployment) -> dict[str, Any]:
    """The answer without its history, which may be long."""
    answer = deployment_answer(deployment)
    del answer["events"]
    return answer


def deployment_answer(deployment: Deployment) -> dict[str, Any]:
    """The record without what is the engine's own; what is not set is null, and so is always there."""
    answer = deployment.model_dump(by_alias=True, exclude=INTERNAL)
    for test in answer["smokeTests"] or ():
        if test["headers"]:  # they may be credentials
            test["headers"] = dict.fromkeys(test["headers"], MASK)
    answer["traceId"] = current.trace_of(deployment.deployment_id)
    return answer


def metrics_answer(deployment: Deployment, nodes: Sequence[NodeMeasurement]) -> dict[str, Any]:
    """What both arms have counted: in the present phase, which is what is judged, and since the beginning.
    ``nodes``: what each run of each node has measured.
    """
    if deployment.measured is not None:  # it has ended, and the record keeps the total
        total = Measurement.of(deployment.measured)
    else:
        total = Measurement.total(each.counts for each in nodes)
    phase = total - Measurement.of(deployment.baseline) if deployment.baseline else total
    return {
        "deploymentId": deployment.deployment_id,
        "status": deployment.status,
        "trafficPercentage": deployment.traffic_percentage,
        "measuredPercentage": _share_measured(phase),
        "stable": _arm(phase.stable),
        "canary": _arm(phase.canary),
        "total": {"stable": _arm(total.stable), "canary": _arm(total.canary)},
        "comparison": _comparison(deployment),
        "nodes": _node_rows(nodes),
    }


def _share_measured(counts: Measurement) -> float | None:
    """Percent of the judged requests that the canary arm got."""
    both = counts.stable.requests + counts.canary.requests
    return round(100 * counts.canary.requests / both, 2) if both else None


def _comparison(deployment: Deployment) -> dict[str, Any]:
    verdict = deployment.verdict
    if verdict is None:
        return {
            "errorRateDelta": None,
            "p99LatencyDelta": None,
            "verdict": None,
            "reason": "nothing was judged yet",
            "shouldRollback": False,
            "requestsNeeded": None,
        }
    return {
        "errorRateDelta": verdict.error_rate_delta,
        "p99LatencyDelta": verdict.p99_latency_delta,
        "verdict": verdict.kind,
        "reason": verdict.reason,
        "shouldRollback": verdict.kind == "Fail",
        "requestsNeeded": verdict.requests_needed,
    }


def _arm(counts: ArmCounts) -> dict[str, Any]:
    """Rates are 0–1, latencies milliseconds; null where nothing was counted."""
    return {
        "requestCount": counts.requests,
        "failed": counts.failed,
        "errorRate": counts.error_rate,
        "unavailable": counts.unavailable,
        "excluded": dict(counts.excluded),
        **{name: quantile_ms(counts.latency, q) for name, q in _QUANTILES},
    }


def _node_rows(nodes: Iterable[NodeMeasurement]) -> list[dict[str, Any]]:
    """One for each node, its runs added up."""
    rows: dict[str, tuple[float, Measurement, Counter[str]]] = {}
    for each in nodes:
        at, total, active = rows.get(each.node_id, (0.0, Measurement(), Counter()))
        rows[each.node_id] = (max(at, each.measured_at), total + each.counts, active + Counter(each.active))
    return [
        {
            "nodeId": node_id,
            "measuredAt": rfc3339(datetime.fromtimestamp(at, UTC)),
            "stable": _arm(total.stable) | {"active": active["stable"]},
            "canary": _arm(total.canary) | {"active": active["canary"]},
        }
        for node_id, (at, total, active) in sorted(rows.items())
    ]


def quantile_ms(latency: Latency, q: float) -> float | None:
    """What a share ``q`` of the requests did not exceed, in milliseconds; None without requests."""
    total = sum(latency.values())
    running = 0
    for bound, count in sorted(latency.items()):
        running += count
        if running >= q * total:
            return bound / 1000
    return None
