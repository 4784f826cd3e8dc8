"""Circuit breaker: when a backend that fails is left alone, and how it is tried again."""

from __future__ import annotations

from pydantic import Field

from hotswap_proxy.model.base import Duration, Model


class CircuitBreaker(Model):
    """Counts for each backend, in all workers of a node together."""

    failure_threshold: int = Field(5, ge=1, le=1000, description="failures in a row that open it")
    timeout: Duration = Field("30s", description="how long it stays open")
    half_open_requests: int = Field(
        3, ge=1, le=1000, description="trial requests after that; all of them must succeed"
    )
