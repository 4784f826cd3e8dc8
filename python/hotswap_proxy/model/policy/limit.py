"""Rate limit: how many requests a client, key or user may make in a window."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hotswap_proxy.model.base import Duration, Model


class RateLimit(Model):
    type: Literal["FixedWindow", "SlidingWindow", "TokenBucket"] = "FixedWindow"
    requests: int = Field(100, ge=1, le=1_000_000)
    window: Duration = "1m"
    key_by: Literal["ClientIP", "ApiKey", "UserId"] = "ClientIP"
