"""Which changes take two people: those of routes that are served in Production."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from hotswap_proxy.errors import Conflict, Detail
from hotswap_proxy.fleet import nodes
from hotswap_proxy.settings import Settings

PRODUCTION = "Production"


def environment_of(route: Mapping[str, Any], settings: Settings) -> str:
    """What a deployment of the route is named after and follows: its own environment, or that of the node."""
    return str(route.get("environment") or settings.environment)


def environments(connection: Connection, settings: Settings) -> frozenset[str]:
    """Where a route without an environment is served: by this node, and by all that share its store. Those
    that are away count, for they will be back; one that was ended in order does not.
    """
    return frozenset({settings.environment, *(node.environment for node in nodes.read(connection))})


def needs_approval(served_in: Collection[str], *versions: Mapping[str, Any]) -> bool:
    """Whether going from one of these versions of a route to another is a change of Production.
    ``served_in``: see ``environments``.
    """
    return any(
        PRODUCTION in ((version["environment"],) if version.get("environment") else served_in)
        for version in versions
    )


def refusal(names: Sequence[str]) -> Conflict:
    """The answer for a call that would change these routes at once."""
    message = (
        "routes in Production are changed by a deployment that another administrator approves: "
        "stage versions, or PUT each route; a node's own --config file may change them at once"
    )
    details = [Detail(f"routes.{name}", "approval", "is in Production and would change") for name in names]
    return Conflict(message, details)
