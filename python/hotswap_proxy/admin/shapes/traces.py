"""Traces that a node has kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common import Answered, Count, Milliseconds, Time

TraceId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
SpanId = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Attributes = dict[str, str | int | float | bool | list[str]]


class TracedRequest(Answered):
    """Null is what did not come to be known, as the route of a request that matched none."""

    trace_id: TraceId
    span_id: SpanId
    start_time: Time
    duration_ms: Milliseconds
    method: str | None
    path: str | None
    status: Count = Field(description="499: the client left before its answer came")
    route_id: str | None
    route_name: str | None
    route_version: str | None
    arm: Literal["stable", "canary"] | None
    attempts: Count
    flags: list[str] = Field(description="why, in short: as in the access log")


class Traces(Answered):
    traces: list[TracedRequest]


class SpanEvent(Answered):
    name: str
    time: Time
    attributes: Attributes


class Span(Answered):
    span_id: SpanId
    parent_span_id: SpanId | None
    name: str
    kind: Literal["SERVER", "CLIENT", "INTERNAL"]
    start_time: Time
    duration_ms: Milliseconds
    status: Literal["UNSET", "ERROR"]
    message: str | None
    attributes: Attributes
    events: list[SpanEvent]


class Trace(Answered):
    """Its spans in the order of their beginning."""

    trace_id: TraceId
    spans: list[Span]
