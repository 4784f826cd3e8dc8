"""What an edit of one object has to respect: what is there, what may change, what others rely on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from hotswap_proxy.errors import Conflict, Detail, NotFound, PreconditionFailed, ValidationFailed
from hotswap_proxy.model import Route
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store, backends, deployments, routes, versions
from hotswap_proxy.store.routes import Stored

from .approval import default_environment
from .changeset import ChangeSet
from .compile import Document
from .masking import merge_auth, restore
from .references import Registry, keys_of, link, named_by_rules

# RFC 9110 section 13.1.1, of what has a meaning for exactly one object.
ENTITY_TAGS = re.compile(r'(?:\*|(?:W/)?"[!#-~]*"(?:[ \t]*,[ \t]*(?:W/)?"[!#-~]*")*)')

# Merged field by field.
GROUPS = (
    "connectionPool",
    "timeouts",
    "circuitBreaker",
    "cors",
    "rateLimit",
    "retryPolicy",
    "tls",
    "transformations",
    "validation",
)

# Answered with an object but not part of it; a client may send back what it got.
READ_ONLY = frozenset(
    {
        "createdAt",
        "createdBy",
        "updatedAt",
        "updatedBy",
        "statistics",
        "healthStatus",
        "ejectedUntil",
        "configChangeApplied",
        "deploymentId",
        "generation",
    }
)


def expect(found: Stored | None, kind: str, id: str, if_match: str | None) -> Stored:
    if found is None:
        raise NotFound(f"no {kind} {id}")
    if if_match is not None and not ENTITY_TAGS.fullmatch(if_match):
        raise ValidationFailed('If-Match: write * or ETags as they were answered, with their quotes: "…"')
    # RFC 9110 section 13.1.1: * is any current representation; weak tags never match.
    wanted = {tag.strip() for tag in if_match.split(",")} if if_match else {"*"}
    if not wanted & {"*", f'"{found.etag}"'}:
        raise PreconditionFailed(f'{kind} {id} was changed meanwhile; its ETag is now "{found.etag}"')
    return found


def merge(old: Document, given: Mapping[str, Any], key: str) -> Document:
    """PUT changes the given fields; null takes an optional one away. Groups of settings are merged too."""
    # A route's circuit breaker is a policy; a backend's is what became of it.
    told = READ_ONLY | {"circuitBreaker"} if key == "backendId" else READ_ONLY
    given = {name: value for name, value in given.items() if name not in told}
    if given.get(key, old[key]) != old[key]:
        raise ValidationFailed.of([Detail(key, "immutable", f"{key} is {old[key]} and cannot be changed")])
    if "path" in given and "pathPattern" not in given:
        given["pathPattern"] = given.pop("path")
    for group in GROUPS:
        if isinstance(given.get(group), dict) and group in old:
            given[group] = old[group] | given[group]
    if isinstance(given.get("auth"), dict) and "auth" in old:
        given["auth"] = merge_auth(old["auth"], given["auth"])
    check = given.get("healthCheck")
    # Field by field as well, but not from one type to another: their fields differ.
    if isinstance(check, dict) and check.get("type", kind := _check_type(old)) == kind:
        given["healthCheck"] = old.get("healthCheck", {}) | check
    return old | given


def merge_route(old: Document, given: Mapping[str, Any]) -> Document:
    """``merge`` for a route. Its version is not compared, and counted up unless another one is given."""
    merged = merge(old, given, "routeId")
    if merged["strategy"] != old["strategy"] and "strategyConfig" not in given:
        del merged["strategyConfig"]  # it belongs to the old strategy
    if merged.get("version") == old["version"]:
        del merged["version"]
    return merged


async def route_change(
    store: Store,
    settings: Settings,
    route: Route,
    route_id: str,
    old: Document | None,
    base: Document | None = None,
) -> ChangeSet:
    """What it takes to make ``route`` the live version in the place of ``old``. ``base`` is the version that
    it was made from, if another one. Conflict or ValidationFailed: it cannot be.
    """
    if (other := await store.read(routes.id_of_name, route.name)) not in (None, route_id):
        raise taken("name", route.name, other)
    new = route.document()
    found = await store.read(backends.find, keys_of(new))
    if problems := link(new, route_id, Registry(found)) + restore(new, base or old):
        raise ValidationFailed.of(problems)
    used = (await store.read(routes.history, [route_id])).get(route_id, ())
    change = ChangeSet(settings, await store.read(default_environment, settings))
    change.put_route(new, old, used)
    return change


def _check_type(document: Document) -> Any:
    return document.get("healthCheck", {}).get("type", "Http")


def taken(field: str, value: str, other: str | None = None) -> Conflict:
    message = f"{value} is taken" + (f" by {other}" if other else "")
    return Conflict(f"{field}: {message}", [Detail(field, "unique", message)])


def check_rename(connection: Connection, backend_id: str, name: str) -> None:
    """HeaderBased routes name their backends: such a name cannot change under them, nor under the version
    that a deployment is about to make live.
    """
    for route_id, route_name in routes.using(connection, backend_id):
        route = routes.get(connection, route_id)
        if route and _names(route.document, backend_id, name):
            message = f"route {route_name} ({route_id}) sends requests to it by the name {name}"
            raise Conflict(message, [Detail("name", "in_use", message)])
    for going_on in deployments.active(connection, "route"):
        for version in (going_on.config_version, going_on.stable_version):
            found = version and versions.get(connection, going_on.route_id, version)
            if found and _names(found["route"], backend_id, name):
                message = (
                    f"version {version} of route {going_on.route_name}, which deployment "
                    f"{going_on.deployment_id} is about, sends requests to it by the name {name}"
                )
                raise Conflict(message, [Detail("name", "deploying", message)])


def _names(route: Document, backend_id: str, name: str) -> bool:
    uses = any(backend["backendId"] == backend_id for backend in route["backends"])
    return uses and name in {named for _, named in named_by_rules(route)}
