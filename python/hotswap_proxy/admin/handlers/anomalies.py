"""Anomalies of routes."""

from __future__ import annotations

from hotswap_proxy.store import anomalies

from .. import answers
from ..models import AnomalyQuery
from ..routing import EVERYONE, Answer, Call, Endpoint


async def list_anomalies(call: Call) -> Answer:
    query: AnomalyQuery = call.query
    found, total = await call.context.store.read(
        anomalies.page, query.route_id, query.active, query.limit, query.offset
    )
    return answers.page("anomalies", found, total, query)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/gateway/anomalies",
        handler=list_anomalies,
        roles=EVERYONE,
        summary="What was out of the ordinary, newest first",
        answers={200: "AnomalyPage"},
        query=AnomalyQuery,
    ),
)
