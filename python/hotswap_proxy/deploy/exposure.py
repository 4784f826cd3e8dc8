"""What a deployment's record means for one node: whether its route has two arms there, and who gets which."""

from __future__ import annotations

from .record import Deployment

WHOLE = 10_000  # all of the traffic, in hundredths of a percent


def has_arms(deployment: Deployment) -> bool:
    """Whether both versions are served side by side now. Direct has no arms: it replaces the live version."""
    return deployment.is_under_way and deployment.strategy != "Direct"


def share_of(deployment: Deployment, node_id: str) -> int:
    """The canary arm's share of the requests that this node gets, in hundredths of a percent."""
    if not has_arms(deployment):
        return 0
    if deployment.strategy == "Rolling":
        return WHOLE if node_id in (deployment.nodes_done or ()) else 0
    return round(deployment.traffic_percentage * 100)


def differs(before: Deployment, after: Deployment) -> bool:
    """Whether nodes have to serve something else after than before."""
    return _exposure(before) != _exposure(after)


def _exposure(deployment: Deployment) -> tuple[object, ...] | None:
    if not deployment.is_under_way:
        return None
    nodes = tuple(deployment.nodes_done or ()) if deployment.strategy == "Rolling" else ()
    share = 0.0 if deployment.strategy == "Rolling" else deployment.traffic_percentage
    return (has_arms(deployment), share, nodes)
