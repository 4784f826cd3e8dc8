"""A route with a deployment under way, as the compiler takes it: both versions, and who gets which."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError
from sqlalchemy import Connection, and_, select

from hotswap_proxy.deploy.exposure import has_arms
from hotswap_proxy.deploy.record import UNDER_WAY, Deployment
from hotswap_proxy.store.routes import CHUNK
from hotswap_proxy.store.tables import deployments, route_versions

log = logging.getLogger(__name__)


class Running(NamedTuple):
    """A deployment that splits a route. ``candidate`` is the document of the version being deployed."""

    deployment: Deployment
    candidate: dict[str, Any]


def read_running(connection: Connection, route_ids: Collection[str] | None = None) -> dict[str, Running]:
    """The deployments under way, by route; of these routes, or of all."""
    query = (
        select(deployments.c.document)
        .where(deployments.c.target_kind == "route", deployments.c.status.in_(UNDER_WAY))
        .order_by(deployments.c.deployment_id)
    )
    found: dict[str, Running] = {}
    for text in connection.execute(query).scalars().all():  # a few at any time
        try:
            deployment = Deployment.model_validate_json(text)
        except ValidationError:
            log.exception("a deployment's record cannot be read; its route goes on with its live version")
            continue
        if not has_arms(deployment) or (route_ids is not None and deployment.route_id not in route_ids):
            continue
        version = and_(
            route_versions.c.route_id == deployment.route_id,
            route_versions.c.version == deployment.config_version,
        )
        document = connection.execute(select(route_versions.c.document).where(version)).scalar()
        if document is not None:
            found[deployment.route_id] = Running(deployment, orjson.loads(document))
    return found


def routes_of(connection: Connection, deployment_ids: Iterable[str]) -> set[str]:
    """The routes of these deployments, whatever became of them."""
    wanted = list(deployment_ids)
    found: set[str] = set()
    for start in range(0, len(wanted), CHUNK):
        query = select(deployments.c.target_id).where(
            deployments.c.target_kind == "route",
            deployments.c.deployment_id.in_(wanted[start : start + CHUNK]),
        )
        found.update(connection.execute(query).scalars())
    return found


def compile_assignment(assignment: str) -> dict[str, str]:
    """``Header:X-User`` → {"type": "Header", "name": "X-User"}"""
    kind, _, name = assignment.partition(":")
    return {"type": kind, "name": name} if name else {"type": kind}
