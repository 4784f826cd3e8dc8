"""The last traces of this node, for whoever has no collector at hand."""

from __future__ import annotations

from hotswap_proxy.errors import Conflict, NotFound

from ..models import TraceQuery
from ..routing import EVERYONE, Answer, Call, Endpoint

PATH = "/api/v1/gateway/traces"
_OFF = "tracing is off on this node; run it with --tracing on or with --otlp-endpoint"
_STATUSES = {f"{first}xx": (100 * first, 100 * first + 99) for first in range(1, 6)}


async def list_traces(call: Call) -> Answer:
    if call.context.tracing is None:
        raise Conflict(_OFF)
    query: TraceQuery = call.query
    status = query.status
    bounds = None if status is None else _STATUSES.get(status) or (int(status), int(status))
    found = call.context.tracing.listed(query.limit, query.route_id, bounds, query.min_duration_ms)
    return Answer({"traces": found})


async def get_trace(call: Call) -> Answer:
    if call.context.tracing is None:
        raise Conflict(_OFF)
    trace_id = call.path["traceId"].lower()
    known = len(trace_id) == 32 and set(trace_id) <= set("0123456789abcdef")
    spans = call.context.tracing.trace(trace_id) if known else []
    if not spans:
        raise NotFound(f"no trace {call.path['traceId']} is kept here; the collector may have it")
    return Answer({"traceId": trace_id, "spans": spans})


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=PATH,
        handler=list_traces,
        roles=EVERYONE,
        summary="The last requests that were traced by this node, newest first",
        query=TraceQuery,
        answers={200: "Traces"},
        errors={409: "tracing is off"},
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/{{traceId}}",
        handler=get_trace,
        roles=EVERYONE,
        summary="All spans of a trace that this node still knows",
        answers={200: "Trace"},
        errors={409: "tracing is off"},
    ),
)
