"""Bodies and query parameters of the admin API that are not objects of the configuration."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, LiteralString, get_args, get_origin

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from hotswap_proxy.deploy.record import Status
from hotswap_proxy.model import Environment, HealthCheck, Model, Strategy, Version, duration_ms
from hotswap_proxy.model.base import MAX_DURATION_MS, DescribedBy, InSchema, Name, problem
from hotswap_proxy.store.passwords import MAX_LENGTH, MIN_LENGTH
from hotswap_proxy.store.users import Role

Password = Annotated[str, Field(max_length=1024)]
# What it must be like the store says, for the command line too.
NewPassword = Annotated[Password, InSchema(minLength=MIN_LENGTH, maxLength=MAX_LENGTH)]


class Login(Model):
    # Whatever was typed goes into the audit log; text with a NUL is none for PostgreSQL.
    username: Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^\x00]*$")]
    password: Password


class PasswordChange(Model):
    current_password: Password
    new_password: NewPassword


class UserCreate(Model):
    username: Name
    password: NewPassword
    role: Role


class UserUpdate(Model):
    role: Role | None = None
    is_enabled: bool | None = None
    password: NewPassword | None = None


class HealthCheckRun(Model):
    backend_id: Annotated[
        str,
        Field(min_length=1, max_length=255, pattern=r"^[^\x00]*$", description="of a registered backend"),
    ]
    health_check: Annotated[dict[str, Any], DescribedBy(HealthCheck)] | None = Field(
        None,
        description="defines the check first, as a PUT of the backend's healthCheck would: fields that are "
        "not given stay; null removes it",
    )


class CircuitOrder(Model):
    state: Literal["Open", "Closed", "Auto"] = Field(description="Auto: the policies decide, from Closed on")


_MOMENT: LiteralString = "write a time as RFC 3339 text, such as 2030-01-31T12:00:00Z"


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise problem("moment", "in UTC this is not in the years 1 to 9999") from None


def _as_text(value: Any) -> Any:
    if not isinstance(value, str):
        raise problem("moment", _MOMENT)
    return value


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
# In a body, where text alone is no time: the models are strict.
BodyMoment = Annotated[AwareDatetime, Field(strict=False), AfterValidator(_in_utc), BeforeValidator(_as_text)]


_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,19}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]")


def _kinds(annotation: Any) -> set[Any]:
    """The types in an annotation such as ``Annotated[datetime, …] | None``."""
    parts = get_args(annotation)
    return (
        set().union(*map(_kinds, parts)) if parts and get_origin(annotation) is not Literal else {annotation}
    )


class Query(BaseModel):
    """Query parameters are text, hence not strict; unknown ones are refused, for ``?dryrun=true`` must not
    write.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_guess(cls, value: Any, info: ValidationInfo) -> Any:
        """Numbers and truth as JSON has them: pydantic would take ``yes``, ``1_0`` and ``5.0`` as well. Text
        has no NUL, which PostgreSQL cannot compare with.
        """
        if not isinstance(value, str):
            return value
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        if bool in kinds and value not in ("true", "false"):
            raise problem("bool_parsing", "write true or false")
        if int in kinds and not _WHOLE_NUMBER.fullmatch(value):
            raise problem("int_parsing", "write a whole number")
        if AwareDatetime in kinds and not _DAY.match(value):
            raise problem("moment", _MOMENT)
        if "\0" in value:
            raise problem("nul", "text has no NUL")
        return value


def _in_minutes(text: str) -> str:
    try:
        milliseconds = duration_ms(text)
    except ValueError as error:
        raise problem("time_window", str(error)) from None
    if milliseconds % 60_000 or not 60_000 <= milliseconds <= MAX_DURATION_MS:
        raise problem("time_window", f"{text!r} is not a number of whole minutes up to 24h, such as 5m or 1h")
    return text


TimeWindow = Annotated[str, Field(max_length=32), AfterValidator(_in_minutes)]


def minutes(window: str) -> int:
    """Of a ``TimeWindow``."""
    return duration_ms(window) // 60_000


class WindowQuery(Query):
    time_window: TimeWindow | None = Field(
        None, description="the last minutes, 1m to 24h, of all nodes; left out: since this node's start"
    )


class HistoryQuery(Query):
    time_window: TimeWindow = Field("1h", description="how far back, 1m to 24h")
    step: TimeWindow = Field("1m", description="length of a point; what is over 4 hours old is there by 15m")

    @model_validator(mode="after")
    def _step_fits(self) -> HistoryQuery:
        if minutes(self.step) > minutes(self.time_window):
            raise problem("step", "step is longer than timeWindow")
        return self


class Page(Query):
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=2**31)


class RouteQuery(Page):
    is_enabled: bool | None = None
    strategy: Strategy | None = None
    environment: Environment | None = None
    name: str | None = Field(None, description="a part of the name", max_length=120)


class BackendQuery(Page):
    is_enabled: bool | None = None


class AuditQuery(Page):
    entity_type: str | None = None
    entity_id: str | None = None
    user_id: str | None = None
    since: Moment | None = Field(None, alias="from")
    until: Moment | None = Field(None, alias="to")


class AuditVerifyQuery(Query):
    expect: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="a hash that some row must have, as of a head noted before",
    )


class ApiKeyQuery(Page):
    user_id: str | None = Field(None, description="whose; of others only for Admin")


class ApiKeyCreate(Model):
    name: Name
    role: Role | None = Field(None, description="at most the user's own, which is the default")
    expires_at: BodyMoment | None = Field(None, description="none: it does not expire")


class TraceQuery(Query):
    limit: int = Field(20, ge=1, le=256)
    route_id: str | None = None
    status: str | None = Field(None, pattern="^[1-5]([0-9][0-9]|xx)$", description="as 503 or 5xx")
    min_duration_ms: float = Field(0.0, ge=0, le=86_400_000)


class WriteQuery(Query):
    dry_run: bool = Field(False, description="check everything, answer the difference, change nothing")


class StageQuery(WriteQuery):
    base: Version | None = Field(None, description="the version to change; the live one when left out")
    description: str | None = Field(None, min_length=1, max_length=1000, description="what it is for")


class DeploymentQuery(Page):
    route_id: str | None = None
    status: Status | None = None
    environment: Environment | None = None


class AnomalyQuery(Page):
    route_id: str | None = None
    active: bool | None = Field(None, description="true: those that go on; false: those that have ended")


class DeploymentView(Query):
    include: Literal["metrics"] | None = Field(None, description="metrics: with what .../metrics answers")


class ApplyQuery(WriteQuery):
    prune: bool = Field(False, description="remove what the file does not name")


class ValidateQuery(Query):
    prune: bool = False
