"""Which changes take two people: those of routes that are served in Production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from hotswap_proxy.errors import Conflict, Detail
from hotswap_proxy.fleet import nodes
from hotswap_proxy.settings import Settings

PRODUCTION = "Production"


def default_environment(connection: Connection, settings: Settings) -> str:
    """That of routes which have none. All nodes of the store serve those: they are in Production as soon as
    one of the nodes is, or a node of Development would be the way around approval. Nodes that are away count
    until they are forgotten.
    """
    if any(node.environment == PRODUCTION for node in nodes.read(connection)):
        return PRODUCTION
    return settings.environment


def environment_of(route: Mapping[str, Any], default: str) -> str:
    """Where a route is served: its own environment, or the default one."""
    return str(route.get("environment") or default)


def needs_approval(default: str, *versions: Mapping[str, Any]) -> bool:
    """Whether going from one of these versions of a route to another is a change of Production."""
    return any(environment_of(version, default) == PRODUCTION for version in versions)


def refusal(names: Sequence[str]) -> Conflict:
    """The answer for a call that would change these routes at once."""
    message = (
        "routes in Production are changed by a deployment that another administrator approves: "
        "stage versions, or PUT each route; a node's own --config file may change them at once"
    )
    details = [Detail(f"routes.{name}", "approval", "is in Production and would change") for name in names]
    return Conflict(message, details)
