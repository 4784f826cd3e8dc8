"""Routes."""

from __future__ import annotations

from hotswap_proxy.control.masking import masked
from hotswap_proxy.errors import NotFound
from hotswap_proxy.model import Route
from hotswap_proxy.model.deployment import DeploymentCreate
from hotswap_proxy.store import routes
from hotswap_proxy.store.routes import RouteFilter

from .. import answers, windows
from ..models import HistoryQuery, RouteQuery, WindowQuery, WriteQuery, minutes
from ..routing import ADMIN, EVERYONE, Answer, Call, Endpoint

PATH = "/api/v1/gateway/routes"
EXAMPLE = {
    "name": "users",
    "pathPattern": "/users/{id}",
    "methods": ["GET", "POST"],
    "strategy": "WeightedRoundRobin",
    "backends": [
        {"url": "http://10.0.0.7:9001", "weight": 90},
        {"url": "http://10.0.0.8:9001", "weight": 10},
    ],
    "retryPolicy": {"maxAttempts": 2},
}


async def list_routes(call: Call) -> Answer:
    query: RouteQuery = call.query
    wanted = RouteFilter(
        is_enabled=query.is_enabled,
        strategy=query.strategy,
        environment=query.environment,
        name=query.name,
    )
    found, total = await call.context.store.read(routes.page, wanted, query.limit, query.offset)
    return answers.page("routes", [masked(route.answer()) for route in found], total, query)


async def get_route(call: Call) -> Answer:
    route_id = call.path["id"]
    found = await call.context.store.read(routes.get, route_id)
    if found is None:
        raise NotFound(f"no route {route_id}")
    query: WindowQuery = call.query
    if query.time_window is None:
        return answers.stored(found, statistics=call.context.node.route_statistics(route_id))
    window = await call.context.history.window(route_id, query.time_window, minutes(query.time_window))
    return answers.stored(found, statistics=windows.statistics(window))


async def get_history(call: Call) -> Answer:
    route_id, query = call.path["id"], call.query
    if await call.context.store.read(routes.get, route_id) is None:
        raise NotFound(f"no route {route_id}")
    window = await call.context.history.window(
        route_id, query.time_window, minutes(query.time_window), step=minutes(query.step)
    )
    return Answer(windows.history(route_id, query.step, window))


async def create_route(call: Call) -> Answer:
    done = await call.context.configuration.create_route(
        call.body, author=call.author, dry_run=call.query.dry_run
    )
    return answers.written(done, status=201)


async def update_route(call: Call) -> Answer:
    done = await call.context.configuration.update_route(
        call.path["id"], call.body, author=call.author, if_match=call.if_match, dry_run=call.query.dry_run
    )
    if done.staged is None:
        return answers.written(done)
    request = DeploymentCreate(
        routeId=done.staged.route_id, configVersion=done.staged.version, strategy="Direct"
    )
    return answers.proposed(done.staged, await call.context.deployments.create(request, call.author))


async def delete_route(call: Call) -> Answer:
    done = await call.context.configuration.delete_route(
        call.path["id"], author=call.author, if_match=call.if_match, dry_run=call.query.dry_run
    )
    return answers.removed(done, dry_run=call.query.dry_run)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=PATH,
        handler=list_routes,
        roles=EVERYONE,
        summary="List routes",
        answers={200: "RoutePage"},
        query=RouteQuery,
    ),
    Endpoint(
        method="POST",
        path=PATH,
        handler=create_route,
        roles=ADMIN,
        summary="Add a route",
        answers={201: "RouteWritten", 200: "Plan"},
        errors={409: "A name or an id is taken, or another route can match the same request."},
        query=WriteQuery,
        body=Route,
        example=EXAMPLE,
        raw=True,
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/{{id}}",
        handler=get_route,
        roles=EVERYONE,
        summary="One route with its statistics and ETag",
        answers={200: "RouteShown"},
        query=WindowQuery,
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/{{id}}/history",
        handler=get_history,
        roles=EVERYONE,
        summary="What a route has counted, minute by minute, of each arm",
        answers={200: "RouteHistory"},
        query=HistoryQuery,
    ),
    Endpoint(
        method="PUT",
        path=f"{PATH}/{{id}}",
        handler=update_route,
        roles=ADMIN,
        summary="Change the given fields of a route: a new version",
        example={"timeoutSeconds": 10, "methods": ["GET"]},
        answers={200: "RouteWritten | RouteProposed | Plan"},
        errors={
            409: "A name is taken, another route can match the same request, or a deployment has not ended."
        },
        partial=True,
        conditional=True,
        query=WriteQuery,
        body=Route,
        raw=True,
    ),
    Endpoint(
        method="DELETE",
        path=f"{PATH}/{{id}}",
        handler=delete_route,
        roles=ADMIN,
        summary="Remove a route; requests on it finish",
        answers={204: "", 200: "Plan"},
        errors={409: "A deployment of the route has not ended."},
        conditional=True,
        query=WriteQuery,
    ),
)
