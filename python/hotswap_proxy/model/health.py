"""Health check of a backend: how it is probed, and how many answers change one's mind."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from .base import Duration, Model, duration_ms, problem, whole
from .urls import UrlRules

CheckType = Literal["Http", "Tcp", "Custom"]
InitialState = Literal["Up", "Down", "Hold"]

MIN_INTERVAL_MS = 100
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_TARGET = re.compile(r"/[!-\"$-~]*")  # RFC 9112 section 3.2.1: visible ASCII, and no fragment
# The probe frames and ends its request itself.
_RESERVED = frozenset({"connection", "content-length", "transfer-encoding", "upgrade", "te", "expect"})
_HTTP_ONLY = ("endpoint", "expected_status_code", "expected_response_body", "headers")


def _check_interval(text: str) -> str:
    if duration_ms(text) < MIN_INTERVAL_MS:
        raise problem("interval", f"{text!r} is less than {MIN_INTERVAL_MS}ms")
    return text


def _check_endpoint(endpoint: str) -> str:
    if not _TARGET.fullmatch(endpoint):
        raise problem("endpoint", f"{endpoint!r} is not a path of visible ASCII that starts with /")
    return endpoint


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise problem("header_name", f"{name!r} is not an HTTP header name")
        if name.lower() in _RESERVED:
            raise problem("header_name", f"{name} is written by the gateway itself")
        if value != value.strip() or not value.isascii() or not value.isprintable():
            raise problem("header_value", f"{name}: a value is printable ASCII without spaces around it")
    return headers


# Of a request that the gateway itself makes to a backend.
ProbeHeaders = Annotated[
    dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=32), AfterValidator(_check_headers)
]


class HealthCheck(Model):
    """Active checks of a backend; without one its status is Unknown, and it takes traffic."""

    type: CheckType = Field("Http", description="Custom runs a command that the node permits")
    endpoint: Annotated[str, Field(max_length=1024), AfterValidator(_check_endpoint), whole(_TARGET)] = (
        "/health"
    )
    interval: Annotated[Duration, AfterValidator(_check_interval)] = "5s"
    timeout: Duration = "3s"
    unhealthy_threshold: int = Field(3, ge=1, le=100, description="failures in a row that take it out")
    healthy_threshold: int = Field(2, ge=1, le=100, description="successes in a row that bring it back")
    expected_status_code: int = Field(200, ge=200, le=599)
    expected_response_body: str | None = Field(
        None, min_length=1, max_length=1024, description="must occur in the answer"
    )
    headers: ProbeHeaders = Field(default_factory=dict)
    initial_state: InitialState = Field("Up", description="before the first probe has ended")
    command: list[Annotated[str, Field(max_length=1024)]] | None = Field(
        None,
        max_length=64,
        validate_default=True,
        description="Custom: program and arguments, without a shell",
    )

    @field_validator("command")
    @classmethod
    def _command_is_permitted(cls, command: list[str] | None, info: ValidationInfo) -> list[str] | None:
        kind = info.data.get("type")  # absent when it is itself wrong
        if kind != "Custom":
            if command is not None and kind is not None:
                raise problem("health_check", f"command belongs to type Custom, not {kind}")
            return command
        if not command:
            raise problem("required", "type Custom needs a command: a list of program and arguments")
        if any("\0" in argument for argument in command):
            raise problem("command", "an argument cannot contain NUL")
        if not PurePosixPath(command[0]).is_absolute():
            raise problem("command", f"the program must be an absolute path, not {command[0]!r}")
        rules = info.context if isinstance(info.context, UrlRules) else UrlRules()
        if command[0] not in rules.allowed_commands:
            raise problem(
                "command_forbidden",
                f"{command[0]} is not permitted on this node; allow it with health_check_commands",
            )
        return command

    @model_validator(mode="after")
    def _fields_fit_type(self) -> Self:
        fields = type(self).model_fields
        for name in _HTTP_ONLY if self.type != "Http" else ():
            # A stored check has all defaults filled in, so only another value is a mistake.
            if getattr(self, name) != fields[name].get_default(call_default_factory=True, validated_data={}):
                raise problem("health_check", f"{fields[name].alias} belongs to type Http, not {self.type}")
        return self
