"""The objects of the configuration and their rules: the one source of validation for API, file and CLI.

Validation takes a ``UrlRules`` as context: ``Route.model_validate(document, context=rules)``.
"""

from .backend import Backend, BackendReference, ConnectionPool, InlineBackend, Timeouts
from .base import Duration, Environment, Model, Version, duration_ms
from .health import HealthCheck
from .route import STRATEGIES, Route, Strategy, StrategyConfig
from .urls import Target, UrlRules, parse_url

__all__ = [
    "STRATEGIES",
    "Backend",
    "BackendReference",
    "ConnectionPool",
    "Duration",
    "Environment",
    "HealthCheck",
    "InlineBackend",
    "Model",
    "Route",
    "Strategy",
    "StrategyConfig",
    "Target",
    "Timeouts",
    "UrlRules",
    "Version",
    "duration_ms",
    "parse_url",
]
