"""Spans of time as the API shows them. Rates are 0–1, latencies milliseconds."""

from __future__ import annotations

from typing import Any

from hotswap_proxy.history.windows import Sum, Window, series, total
from hotswap_proxy.model.base import duration_ms
from hotswap_proxy.observe import histogram as hist


def totals(window: Window) -> dict[str, Any]:
    """What ``GET /gateway/metrics`` has of a window, over what the node has counted since its start."""
    whole = total(window.arms().values())
    return {
        "totalRequests": whole.requests,
        "failedRequests": whole.failed,
        "errorRate": whole.error_rate or 0.0,
        "requestsPerSecond": window.per_second(),
        "latency": hist.milliseconds(whole.latency),
        "window": window.answer(),
    }


def statistics(window: Window) -> dict[str, Any]:
    """``statistics`` of a route."""
    arms = window.arms()
    whole = total(arms.values())
    latency = hist.milliseconds(whole.latency)
    return {
        "totalRequests": whole.requests,
        "failedRequests": whole.failed,
        "averageLatencyMs": latency["average"],
        "p50LatencyMs": latency["p50"],
        "p95LatencyMs": latency["p95"],
        "p99LatencyMs": latency["p99"],
        "errorRate": whole.error_rate,
        "requestsPerSecond": window.per_second(),
        "arms": {arm: counts.answer() for arm, counts in sorted(arms.items())},
        "window": window.answer(),
    }


def arms(window: Window) -> dict[str, Any]:
    """``window`` of a deployment: all its requests as clients saw them, retries included."""
    found = window.arms()
    return window.answer() | {arm: found.get(arm, Sum()).answer() for arm in ("stable", "canary")}


def history(route_id: str, step: str, window: Window) -> dict[str, Any]:
    """Points for a graph; ``step`` as it was asked for, unless it had to be a longer one."""
    shown = step if duration_ms(step) == window.step * 60_000 else f"{window.step}m"
    return {"routeId": route_id, **window.answer(), "step": shown, "points": series(window)}
