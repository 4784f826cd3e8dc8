"""A route as the target of a deployment: two versions side by side, or one in the place of the other."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from sqlalchemy import Connection

from hotswap_proxy.control.approval import default_environment, environment_of, needs_approval
from hotswap_proxy.control.changeset import route_write
from hotswap_proxy.deploy.facts import Member, Smoke
from hotswap_proxy.deploy.record import Deployment, TargetKind
from hotswap_proxy.errors import Conflict, Detail, NotFound, ValidationFailed
from hotswap_proxy.fleet import nodes as fleet_nodes
from hotswap_proxy.model.base import Environment
from hotswap_proxy.observe.tracing import current
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store, StoreChanges, backends, changes, deployments, routes, versions
from hotswap_proxy.store.audit import AuditEntry, Author
from hotswap_proxy.store.times import database_clock

from .base import CannotGoLive, Draft
from .smoke import SmokeTester

if TYPE_CHECKING:
    from hotswap_proxy.model.deployment import DeploymentCreate

# What decides which requests a route takes: both arms have to agree on it.
MATCHING = ("pathPattern", "hosts", "methods", "priority", "environment", "isEnabled")


class Rehearsal(Protocol):
    """What is needed of ``control.configuration.Configuration``."""

    async def rehearse(self, document: dict[str, Any]) -> None: ...


class RouteTarget:
    kind: TargetKind = "route"

    def __init__(
        self, store: Store, settings: Settings, configuration: Rehearsal, smoke: SmokeTester
    ) -> None:
        self._store = store
        self._settings = settings
        self._configuration = configuration
        self._smoke = smoke

    async def prepare(self, request: DeploymentCreate) -> Draft:
        live = await self._live(request)
        route_id, version = live["routeId"], request.config_version
        found = await self._store.read(versions.get, route_id, version)
        if found is None:
            raise _refused(
                "configVersion", "exists", f"there is no version {version} of route {live['name']}"
            )
        if found["version"] == live["version"]:
            raise Conflict(f"version {live['version']} of route {live['name']} is live already")
        candidate = found["route"]
        if request.strategy != "Direct":
            _check_matching(live, candidate)
        default = await self._store.read(default_environment, self._settings)
        environment = environment_of(live, default)
        if request.environment is not None and request.environment != environment:
            message = f"route {live['name']} is served in {environment}, not in {request.environment}"
            raise _refused("environment", "environment", message)
        await self._configuration.rehearse(copy.deepcopy(candidate))
        alive = [node.node_id for node in await self._store.read(_alive, live.get("environment"))]
        return Draft(
            route_id,
            live["name"],
            live["version"],
            cast(Environment, environment),
            needs_approval(default, live, candidate),
            alive or [self._settings.node_id],
        )

    async def _live(self, request: DeploymentCreate) -> dict[str, Any]:
        route_id = request.route_id
        if request.route_name is not None:
            route_id = await self._store.read(routes.id_of_name, request.route_name)
        found = await self._store.read(routes.get, route_id) if route_id is not None else None
        if found is None:
            raise NotFound(f"no route {request.route_id or request.route_name}")
        return found.document

    def problem(self, connection: Connection, deployment: Deployment) -> str | None:
        live = routes.get(connection, deployment.route_id)
        if live is None:
            return f"route {deployment.route_name} is gone"
        if versions.get(connection, deployment.route_id, deployment.config_version) is None:
            return f"version {deployment.config_version} of route {deployment.route_name} is gone"
        begun = deployment.strategy == "Direct" and deployment.is_under_way
        expected = deployment.config_version if begun else deployment.stable_version
        if live.document["version"] != expected:
            return (
                f"route {deployment.route_name} was changed to version {live.document['version']} meanwhile"
            )
        return None

    def members(self, connection: Connection, deployment: Deployment) -> Mapping[str, Member]:
        live = routes.get(connection, deployment.route_id)
        environment = live.document.get("environment") if live is not None else None
        active: Counter[str] = Counter()
        now = database_clock(connection)
        for each in deployments.measured(connection, deployment.deployment_id):
            if now - each.measured_at < fleet_nodes.AWAY:  # an earlier run of the node has ended
                active[each.node_id] += each.active.get("stable", 0)
        return {
            node.node_id: Member(
                # A node that refuses the route follows all else: its revision says nothing of this one.
                0 if deployment.route_id in node.document.get("refusedRoutes", ()) else node.revision,
                active[node.node_id],
            )
            for node in _alive(connection, environment)
        }

    async def verify(self, deployment: Deployment) -> Smoke:
        found = await self._store.read(versions.get, deployment.route_id, deployment.config_version)
        if found is None:
            return Smoke(False, f"version {deployment.config_version} is gone")
        with current.smoke_test(deployment.deployment_id) as span:
            smoke = await self._smoke.run(found["route"], deployment.smoke_tests or ())
            span.note("hotswap.health.result", smoke.message)
            if not smoke.passed:
                span.fail("smoke_test", smoke.message)
            return smoke

    def make_live(self, connection: Connection, deployment: Deployment, version: str, author: Author) -> None:
        before = routes.get(connection, deployment.route_id)
        found = versions.get(connection, deployment.route_id, version)
        if before is None or found is None:
            raise CannotGoLive(f"version {version} of route {deployment.route_name} is gone")
        document = found["route"]
        wanted = {each["backendId"] for each in document["backends"] if "url" not in each}
        if gone := sorted(wanted - dict(backends.some(connection, wanted)).keys()):
            raise CannotGoLive(f"backend {gone[0]} of version {version} is not registered any more")
        if routes.id_of_name(connection, document["name"]) not in (None, deployment.route_id):
            raise CannotGoLive(
                f"the name {document['name']} of version {version} belongs to another route now"
            )
        details = {
            "version": version,
            "previousVersion": before.document["version"],
            "deploymentId": deployment.deployment_id,
        }
        entry = AuditEntry("route.update", deployment.route_id, document["name"], details)
        change = StoreChanges(
            routes=[route_write(document, new_version=False)],
            audit=[entry],
            by_deployment=deployment.deployment_id,
        )
        changes.write(connection, change, author)


def _check_matching(live: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
    for field in MATCHING:
        before, after = live.get(field), candidate.get(field)
        if isinstance(before, list) and isinstance(after, list):
            before, after = sorted(before), sorted(after)
        if before != after:
            message = (
                f"version {candidate['version']} does not match the same requests as the live version "
                f"{live['version']}: {field} differs; only the strategy Direct can deploy it"
            )
            raise _refused("configVersion", "matching", message)


def _refused(field: str, rule: str, message: str) -> ValidationFailed:
    return ValidationFailed.of([Detail(field, rule, message)])


def _alive(connection: Connection, environment: str | None) -> list[fleet_nodes.Node]:
    """The nodes that serve a route of this environment and are not away, by id. One without: all do."""
    return [
        node
        for node in fleet_nodes.read(connection)
        if environment in (None, node.environment) and not node.is_away
    ]
