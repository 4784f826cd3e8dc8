"""The node: is it well, what does it do."""

from __future__ import annotations

from hotswap_proxy.deploy.writing import LEASE
from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.observe.exposition import CONTENT_TYPE
from hotswap_proxy.store import leases
from hotswap_proxy.store.rollups import ALL

from .. import windows
from ..models import WindowQuery, minutes
from ..routing import EVERYONE, PUBLIC, Answer, Call, Endpoint

PATH = "/api/v1/gateway"


async def nodes(call: Call) -> Answer:
    try:
        driver = await call.context.store.read(leases.holder, LEASE)
    except StoreUnavailable:  # the nodes are worth seeing just then
        driver = None
    name = driver.rpartition(":")[0] if driver else None  # node:run
    told = call.context.node.nodes()
    return Answer({"nodes": [node | {"drivesDeployments": node["nodeId"] == name} for node in told]})


async def health(call: Call) -> Answer:
    body = call.context.node.health()
    return Answer(body, 200 if body["ready"] else 503)


async def metrics(call: Call) -> Answer:
    query: WindowQuery = call.query
    body = call.context.node.summary()
    if query.time_window is not None:
        window = await call.context.history.window(ALL, query.time_window, minutes(query.time_window))
        body |= windows.totals(window)
    return Answer(body)


async def prometheus(call: Call) -> Answer:
    return Answer(call.context.node.prometheus(), media_type=CONTENT_TYPE)


ENDPOINTS = (
    Endpoint(
        method="GET", path=f"{PATH}/nodes", handler=nodes, roles=EVERYONE, summary="The nodes of the fleet"
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/health",
        handler=health,
        roles=PUBLIC,
        summary="Health of this node; 503 when it is not ready",
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/metrics",
        handler=metrics,
        roles=EVERYONE,
        summary="Requests, errors and latency in one JSON object",
        query=WindowQuery,
    ),
    Endpoint(
        method="GET", path="/metrics", handler=prometheus, roles=PUBLIC, summary="Metrics for Prometheus"
    ),
)
