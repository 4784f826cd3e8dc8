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
    return {name: policy for name, policy in compiled.items() if policy is not None} or None


def _auth(policy: Document) -> Document | None:
    if policy["type"] == "none":
        return None
    same = {key: value for key, value in policy.items() if key not in _AUTH_TRANSLATED}
    if policy["type"] == "apiKey":
        return {"apiKey": same | {"roles": policy.get("roles", [])}}
    audience = policy.get("audience", [])
    return {
        "jwt": same
        | {
            "roles": policy.get("roles", []),
            "jwksRefreshMs": duration_ms(policy["jwksRefresh"]),
            "clockSkewS": -(-duration_ms(policy["clockSkew"]) // 1000),
            "audience": audience if isinstance(audience, list) else [audience],
            "requiredClaims": [
                {"name": name, "values": [_claim(value) for value in _listed(values)]}
                for name, values in policy.get("requiredClaims", {}).items()
            ],
        }
    }


_AUTH_TRANSLATED = frozenset({"type", "jwksRefresh", "clockSkew", "audience", "requiredClaims"})


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _claim(value: Any) -> str:
    """A string as it is, numbers and booleans as JSON writes them."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


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


def _cors(policy: Document) -> Document:
    compiled = {name: value for name, value in policy.items() if name != "maxAge"}
    if "maxAge" in policy:
        compiled["maxAgeS"] = duration_ms(policy["maxAge"]) // 1000
    return compiled


def _as_it_is(policy: Document) -> Document:
    return policy


def _validation(policy: Document) -> Document:
    compiled = dict(policy)
    if "jsonSchema" in policy:
        compiled["jsonSchema"] = orjson.dumps(policy["jsonSchema"]).decode()
    return compiled


def _middleware(names: list[str]) -> list[str]:
    return names


_POLICIES: dict[str, Callable[[Any], Any]] = {
    "auth": _auth,
    "circuitBreaker": _circuit_breaker,
    "cors": _cors,
    "middleware": _middleware,
    "rateLimit": _rate_limit,
    "retryPolicy": _retry_policy,
    "transformations": _as_it_is,
    "validation": _validation,
}
