"""Which changes take two people: those of routes that are served in Production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hotswap_proxy.errors import Conflict, Detail
from hotswap_proxy.settings import Settings

PRODUCTION = "Production"


def environment_of(route: Mapping[str, Any], settings: Settings) -> str:
    """Where a route is served: its own environment, or that of the node when it has none."""
    return str(route.get("environment") or settings.environment)


def needs_approval(settings: Settings, *versions: Mapping[str, Any]) -> bool:
    """Whether going from one of these versions of a route to another is a change of Production."""
    return any(environment_of(version, settings) == PRODUCTION for version in versions)


def refusal(names: Sequence[str]) -> Conflict:
    """The answer for a call that would change these routes at once."""
    message = (
        "routes in Production are changed by a deployment that another administrator approves: "
        "stage versions, or PUT each route; a node's own --config file may change them at once"
    )
    details = [Detail(f"routes.{name}", "approval", "is in Production and would change") for name in names]
    return Conflict(message, details)
