"""The node: is it well, what does it do."""

from __future__ import annotations

from hotswap_proxy.deploy.writing import LEASE
from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.observe import exposition
from hotswap_proxy.store import leases
from hotswap_proxy.store.rollups import ALL

from .. import windows
from ..models import WindowQuery, minutes
from ..routing import EVERYONE, PUBLIC, Answer, Call, Endpoint

PATH = "/api/v1/gateway"


async def list_nodes(call: Call) -> Answer:
    try:
        driver = await call.context.store.read(leases.holder, LEASE)
    except StoreUnavailable:  # the nodes are worth seeing just then
        driver = None
    name = driver.rpartition(":")[0] if driver else None  # node:run
    told = call.context.node.nodes()
    return Answer({"nodes": [node | {"drivesDeployments": node["nodeId"] == name} for node in told]})


async def get_health(call: Call) -> Answer:
    body = call.context.node.health()
    return Answer(body, 200 if body["ready"] else 503)


async def get_summary(call: Call) -> Answer:
    query: WindowQuery = call.query
    body = call.context.node.summary()
    if query.time_window is not None:
        window = await call.context.history.window(ALL, query.time_window, minutes(query.time_window))
        body = body | windows.totals(window)  # not in place: the body is the node's
    return Answer(body)


async def get_metrics(call: Call) -> Answer:
    openmetrics = exposition.wants_openmetrics(call.accept)
    pieces = call.context.node.prometheus(openmetrics=openmetrics)
    headers = {"vary": "Accept, Accept-Encoding"}
    if exposition.takes_gzip(call.accept_encoding):
        pieces, headers["content-encoding"] = exposition.compressed(pieces), "gzip"
    media_type = exposition.OPENMETRICS if openmetrics else exposition.TEXT
    return Answer(pieces, headers=headers, media_type=media_type)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{PATH}/nodes",
        handler=list_nodes,
        roles=EVERYONE,
        summary="The nodes of the fleet",
        answers={200: "Nodes"},
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/health",
        handler=get_health,
        roles=PUBLIC,
        summary="Health of this node; 503 when it is not ready",
        answers={200: "Health", 503: "Health"},
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/metrics",
        handler=get_summary,
        roles=EVERYONE,
        summary="Requests, errors and latency in one JSON object",
        query=WindowQuery,
        answers={200: "Summary"},
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        handler=get_metrics,
        roles=EVERYONE,
        is_public=lambda settings: settings.metrics_access == "public",
        summary="Metrics for Prometheus",
        answers={200: "text"},
        media_types=(exposition.TEXT, exposition.OPENMETRICS),
    ),
)
