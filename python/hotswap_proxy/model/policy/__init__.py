"""What a route may ask for beyond forwarding: one module for each policy, named as in the route."""

from __future__ import annotations

from .auth import Auth
from .breaker import CircuitBreaker
from .limit import RateLimit
from .retry import RetryPolicy
from .validation import Validation

__all__ = ["Auth", "CircuitBreaker", "RateLimit", "RetryPolicy", "Validation"]
