"""Versions of a route: staged without being applied, listed, compared."""

from __future__ import annotations

from typing import Any

from hotswap_proxy.control.masking import masked, masked_change
from hotswap_proxy.control.plan import diff
from hotswap_proxy.errors import NotFound
from hotswap_proxy.model import Route
from hotswap_proxy.store import versions

from .. import answers
from ..models import Page, StageQuery
from ..routing import ADMIN, EVERYONE, Answer, Call, Endpoint

PATH = "/api/v1/gateway/routes/{id}/versions"


async def list_versions(call: Call) -> Answer:
    route_id, query = call.path["id"], call.query
    found, total = await call.context.store.read(versions.page, route_id, query.limit, query.offset)
    if not total:
        raise NotFound(f"no route {route_id}")
    return answers.page("versions", found, total, query)


async def stage_version(call: Call) -> Answer:
    query: StageQuery = call.query
    route_id = call.path["id"]
    done = await call.context.configuration.stage_version(
        route_id,
        call.body,
        base=query.base,
        description=query.description,
        author=call.author,
        dry_run=query.dry_run,
    )
    if done.staged is None:
        return answers.written(done)
    return Answer(await _find(call, route_id, done.staged.version), 201)


async def get_version(call: Call) -> Answer:
    return Answer(await _find(call, call.path["id"], call.path["version"]))


async def compare_versions(call: Call) -> Answer:
    route_id = call.path["id"]
    old, new = [await _read(call, route_id, call.path[side]) for side in ("a", "b")]
    # The version's name always differs and says nothing.
    before, after = (side["route"] | {"version": None} for side in (old, new))
    changes = [masked_change(change).answer() for change in diff(before, after)]
    told = {"routeId": route_id, "from": old["version"], "to": new["version"]}
    return Answer(told | {"identical": not changes, "changes": changes})


async def _find(call: Call, route_id: str, name: str) -> dict[str, Any]:
    found = await _read(call, route_id, name)
    return {"routeId": route_id, **found, "route": masked(found["route"])}


async def _read(call: Call, route_id: str, name: str) -> dict[str, Any]:
    found = await call.context.store.read(versions.get, route_id, name)
    if found is None:
        raise NotFound(f"no version {name} of route {route_id}")
    return found


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=PATH,
        handler=list_versions,
        roles=EVERYONE,
        summary="The versions of a route, newest first, and which is live",
        answers={200: "VersionPage"},
        query=Page,
    ),
    Endpoint(
        method="POST",
        path=PATH,
        handler=stage_version,
        roles=ADMIN,
        summary="Stage a version: the given fields over those of the live one, checked but not applied",
        answers={201: "VersionShown", 200: "Plan"},
        errors={409: "There is a version of this name, or it would be the same as the live one."},
        partial=True,
        query=StageQuery,
        body=Route,
        example={"version": "2.0", "backends": [{"url": "http://10.0.0.9:9001"}]},
        raw=True,
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/{{version}}",
        handler=get_version,
        roles=EVERYONE,
        summary="A route as it was or would be in one version",
        answers={200: "VersionShown"},
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/{{a}}/diff/{{b}}",
        handler=compare_versions,
        roles=EVERYONE,
        summary="What differs between two versions; `live` is the live one",
        answers={200: "VersionDiff"},
    ),
)
