"""What the tests of retries, failover and breakers share."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

from harness.backend import Backend, Received, Script, ok
from harness.worker import Plane, backend, route

UNAVAILABLE = ok(b"no", status=b"503 Service Unavailable")


def retry(attempts: int = 3, delay: int = 0, **changes: Any) -> dict[str, Any]:
    policy = {
        "maxAttempts": attempts,
        "initialDelayMs": delay,
        "maxDelayMs": max(delay, 2000),
        "backoffMultiplier": 2.0,
        "retryableStatusCodes": [502, 503, 504],
    }
    return {"retryPolicy": policy | changes}


def breaker(threshold: int = 5, timeout: int = 60_000, trials: int = 1) -> dict[str, Any]:
    return {
        "circuitBreaker": {"failureThreshold": threshold, "timeoutMs": timeout, "halfOpenRequests": trials}
    }


def publish(plane: Plane, *urls: str, policy: dict[str, Any] | None = None, **changes: Any) -> None:
    members = [backend(url, f"b{number}") for number, url in enumerate(urls)]
    plane.publish(route("/**", *members, policy=policy, **changes))


def events(plane: Plane) -> dict[str, int]:
    """What happened to attempts."""
    found = plane.node.lane_stats()[0]["events"]
    return {name: count for name, count in found.items() if count}


def circuit(plane: Plane, url: str) -> str:
    return next(row["circuit"] for row in plane.node.backend_stats() if row["address"] == url)


def recovered(plane: Plane) -> int:
    return sum(row["recovered"] for row in plane.node.series_stats())


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """The URL of a backend that is not there: its port is kept, so that nobody else gets it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


def first(answers: list[Any], then: bytes = ok()) -> Script:
    """The given answers, each once, then always the same."""
    left = list(answers)
    return lambda _request: left.pop(0) if left else then


def ids(server: Backend) -> list[str | None]:
    return [request.header("x-request-id") for request in server.requests]


def said(request: Received) -> tuple[str, bytes]:
    return request.method, request.body


def error_code(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])
