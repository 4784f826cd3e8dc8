"""What a route may ask for beyond forwarding: one module for each policy, named as in the route."""

from __future__ import annotations

from .breaker import CircuitBreaker
from .limit import RateLimit
from .retry import RetryPolicy

__all__ = ["CircuitBreaker", "RateLimit", "RetryPolicy"]
