"""What a route may ask for beyond forwarding: one module for each policy, named as in the route."""

from __future__ import annotations

from .auth import Auth
from .breaker import CircuitBreaker
from .cors import Cors
from .limit import RateLimit
from .middleware import Middleware
from .retry import RetryPolicy
from .transform import Transformations
from .validation import Validation

__all__ = [
    "Auth",
    "CircuitBreaker",
    "Cors",
    "Middleware",
    "RateLimit",
    "RetryPolicy",
    "Transformations",
    "Validation",
]
