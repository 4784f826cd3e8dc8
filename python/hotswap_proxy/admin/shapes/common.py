"""Shapes that several answers have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Answered(BaseModel):
    """An answer, or a part of one. Fields without a default are always there."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)

    ETAG: ClassVar[bool] = False  # whether the answer has an entity tag


Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]  # of one
Milliseconds = Annotated[float, Field(ge=0)]


class Paged(Answered):
    """One page of a list."""

    total: Count
    limit: Annotated[int, Field(ge=1, le=100)]
    offset: Count
    has_more: bool
    next_offset: Count | None = Field(description="null on the last page")


class ErrorDetail(Answered):
    field: str = Field(description="path of the field, as backends[0].url; empty for the whole body")
    rule: str = Field(description="the rule that it breaks")
    message: str


class Problem(Answered):
    code: str
    message: str
    details: list[ErrorDetail]
    trace_id: str = Field(description="of the call's trace; without tracing the answer's X-Request-ID")
    timestamp: Time


class ErrorAnswer(Answered):
    """Every error is answered like this."""

    error: Problem


class FieldChange(Answered):
    path: str
    old: Any = Field(description="null where the field is not there")
    new: Any


class ObjectChange(Answered):
    kind: Literal["route", "backend", "user", "apiKey"]
    action: Literal["added", "changed", "removed"]
    id: str
    name: str
    fields: list[FieldChange] = []


class Changes(Answered):
    added: Count
    changed: Count
    removed: Count
    unchanged: Count
    changes: list[ObjectChange]
    needs_approval: list[str] = Field(
        default=[], description="names of routes whose change takes a second person"
    )


class Plan(Changes):
    """The answer of a dry run: what the write would change. Nothing was changed."""

    dry_run: Literal[True]
