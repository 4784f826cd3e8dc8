"""A route's policies as stored → as the core takes them (``policy`` of a route in the change set)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from hotswap_proxy.model import duration_ms

Document = dict[str, Any]


def compile_policy(route: Document) -> Document | None:
    """The policies of a route, each under its own name; None when it has none."""
    compiled = {name: translate(route[name]) for name, translate in _POLICIES.items() if name in route}
    return compiled or None


def _circuit_breaker(policy: Document) -> Document:
    return {
        "failureThreshold": policy["failureThreshold"],
        "timeoutMs": duration_ms(policy["timeout"]),
        "halfOpenRequests": policy["halfOpenRequests"],
    }


def _rate_limit(policy: Document) -> Document:
    return {
        "type": policy["type"],
        "requests": policy["requests"],
        "windowMs": duration_ms(policy["window"]),
        "keyBy": policy["keyBy"],
    }


def _retry_policy(policy: Document) -> Document:
    return {
        "maxAttempts": policy["maxAttempts"],
        "initialDelayMs": duration_ms(policy["initialDelay"]),
        "maxDelayMs": duration_ms(policy["maxDelay"]),
        "backoffMultiplier": policy["backoffMultiplier"],
        "retryableStatusCodes": policy["retryableStatusCodes"],
    }


def _validation(policy: Document) -> Document:
    compiled = dict(policy)
    if "jsonSchema" in policy:
        compiled["jsonSchema"] = orjson.dumps(policy["jsonSchema"]).decode()
    return compiled


_POLICIES: dict[str, Callable[[Document], Document]] = {
    "circuitBreaker": _circuit_breaker,
    "rateLimit": _rate_limit,
    "retryPolicy": _retry_policy,
    "validation": _validation,
}
