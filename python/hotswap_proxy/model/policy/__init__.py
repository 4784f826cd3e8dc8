"""What a route may ask for beyond forwarding: one module for each policy, named as in the route."""

from __future__ import annotations

from .breaker import CircuitBreaker
from .limit import RateLimit
from .retry import RetryPolicy
from .validation import Validation

__all__ = ["CircuitBreaker", "RateLimit", "RetryPolicy", "Validation"]
