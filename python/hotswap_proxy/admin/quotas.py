"""How many calls a minute one user may make, by what kind of call it is. Of this node: the nodes of a fleet
count each for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from hotswap_proxy.settings import Settings

from .limits import AttemptLimit

Kind = Literal["reads", "route_writes", "deployments"]

GATEWAY = "/api/v1/gateway/"
IN_PRODUCTION: dict[Kind, int] = {"reads": 60, "route_writes": 10, "deployments": 5}
_WORDS: dict[Kind, str] = {"reads": "reads", "route_writes": "route writes", "deployments": "new deployments"}
# POST, but nothing is written.
_READS = (f"{GATEWAY}config/validate", f"{GATEWAY}deployments/simulate")
_ROUTE_WRITES = (f"{GATEWAY}routes", f"{GATEWAY}backends", f"{GATEWAY}config/apply")


def kind_of(method: str, path: str) -> Kind | None:
    """What a call counts as; ``path`` is the endpoint's. Orders to a deployment under way and to a circuit
    breaker count as nothing: nobody is to wait with a rollback.
    """
    if method == "GET" or path in _READS:
        return "reads"
    if path == f"{GATEWAY}deployments":
        return "deployments"
    if path.endswith("/circuit-breaker"):
        return None
    return "route_writes" if path.startswith(_ROUTE_WRITES) else None


class Quotas:
    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        given: dict[Kind, int | None] = {
            "reads": settings.api_limit_reads,
            "route_writes": settings.api_limit_route_writes,
            "deployments": settings.api_limit_deployments,
        }
        self._limits: dict[Kind, AttemptLimit] = {}
        for kind, number in given.items():
            if number is None:
                number = IN_PRODUCTION[kind] if settings.environment == "Production" else 0
            if number:
                what = f"more than {number} {_WORDS[kind]} in a minute"
                self._limits[kind] = AttemptLimit(number, clock=clock, what=what)

    def count(self, user_id: str, method: str, path: str) -> None:
        """Count a call; RateLimited: it is one too many. A user's API keys count as the user."""
        kind = kind_of(method, path)
        if kind in self._limits:
            self._limits[kind].count(user_id)
