"""CORS: which pages of other origins may use a route (Fetch standard, section 3.3)."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from hotswap_proxy.model.base import Duration, InSchema, Model, duration_ms, problem, whole

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2


def _check_origin(origin: str) -> str:
    from hotswap_proxy._core import check_origin

    try:
        check_origin(origin)
    except ValueError as error:
        raise problem("origin", str(error)) from None
    return origin


def _check_token(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise problem("token", f"{name!r} is neither a name nor *")
    return name


def _check_alone(names: list[str]) -> list[str]:
    if "*" in names and len(names) > 1:
        raise problem("wildcard", "* already means all; give it alone")
    return names


def _check_age(age: str) -> str:
    if duration_ms(age) < 1000:
        raise problem("max_age", f"{age!r} is less than a second, the unit that browsers are told")
    return age


Origin = Annotated[
    str, Field(max_length=300), AfterValidator(_check_origin), InSchema(pattern=r"^(\*|[A-Za-z]+://.+)$")
]
Token = Annotated[str, Field(max_length=128), AfterValidator(_check_token), whole(_TOKEN)]
Tokens = Annotated[list[Token], Field(max_length=256), AfterValidator(_check_alone)]


class Cors(Model):
    """Preflights are answered by the gateway, before authentication."""

    allow_origins: Annotated[list[Origin], AfterValidator(_check_alone)] = Field(
        min_length=1, max_length=256, description="https://app.example.com, https://*.example.com, or *"
    )
    allow_methods: Tokens = Field(
        default_factory=list, description="beside GET, HEAD and POST; none: whatever the route takes"
    )
    allow_headers: Tokens = Field(default_factory=list, description="that a page may send; * for any")
    expose_headers: Tokens = Field(default_factory=list, description="that a page may read")
    allow_credentials: bool = Field(False, description="cookies and authorization; not with *")
    max_age: Annotated[Duration, AfterValidator(_check_age)] | None = Field(
        None, description="how long a browser may remember a preflight; its own default when left out"
    )

    @model_validator(mode="after")
    def _credentials_need_names(self) -> Self:
        if self.allow_credentials:
            for field, names in (
                ("allowOrigins", self.allow_origins),
                ("exposeHeaders", self.expose_headers),
            ):
                if "*" in names:
                    raise problem("credentials", f"{field} cannot be * with allowCredentials")
        return self
