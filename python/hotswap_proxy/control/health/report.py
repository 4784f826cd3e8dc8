"""The health of a backend as the API shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hotswap_proxy.store.times import rfc3339

from .registry import Target


def report(target: Target) -> dict[str, Any]:
    """``healthCheck`` of ``GET /gateway/backends/{id}/health``."""
    last, streak = target.last, target.health.streak
    return {
        "healthStatus": target.status.name.capitalize(),
        "since": _time(target.since),
        "consecutiveSuccesses": max(streak, 0),
        "consecutiveFailures": max(-streak, 0),
        "totalProbes": target.probes,
        "failedProbes": target.failures,
        "lastProbe": last
        and {
            "at": _time(last.at),
            "result": "Success" if last.success else "Failure",
            "reason": last.reason,
            "latencyMs": round(last.latency * 1000, 3),
        },
    }


def _time(moment: float) -> str:
    return rfc3339(datetime.fromtimestamp(moment, UTC))
