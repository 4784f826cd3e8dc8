"""Retry policy: which requests may be tried again, when, and how often."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hotswap_proxy.model.base import Duration, Model

Status = Annotated[int, Field(ge=500, le=599)]


class RetryPolicy(Model):
    """For idempotent requests only, and never after a byte of an answer has gone to the client."""

    max_attempts: int = Field(3, ge=1, le=10, description="the first one counts")
    initial_delay: Duration = "100ms"
    max_delay: Duration = "2s"
    backoff_multiplier: float = Field(2.0, ge=1, le=10)
    retryable_status_codes: list[Status] = Field(default_factory=lambda: [502, 503, 504], max_length=20)
