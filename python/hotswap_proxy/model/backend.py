"""Backend: one server that requests may be forwarded to."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from .base import Duration, Identifier, InSchema, Model, Name, problem
from .health import HealthCheck
from .urls import UrlRules, check_url, parse_url


def _check_url(url: str, info: ValidationInfo) -> str:
    rules = info.context if isinstance(info.context, UrlRules) else UrlRules()
    check_url(url, rules)
    return url


BackendUrl = Annotated[
    str,
    Field(max_length=512),
    AfterValidator(_check_url),
    InSchema(pattern="^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+/?$", examples=["http://10.0.0.7:9001"]),
]
Weight = Annotated[int, Field(ge=0, le=100)]


class ConnectionPool(Model):
    """Idle and total connections of one worker process to the backend."""

    min_size: int = Field(10, ge=0, le=10_000)
    max_size: int = Field(100, ge=1, le=10_000)
    max_idle_time: Duration = "5m"
    connection_timeout: Duration = Field("5s", description="how long a request waits for a free connection")

    @model_validator(mode="after")
    def _min_fits_max(self) -> Self:
        if self.min_size > self.max_size:
            raise problem("pool_size", f"minSize {self.min_size} is greater than maxSize {self.max_size}")
        return self


class Timeouts(Model):
    connect_timeout: Duration = "5s"
    read_timeout: Duration = "30s"
    write_timeout: Duration = "30s"


FileName = Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]


class BackendTls(Model):
    """How https is spoken with a backend. Files are plain names, in the directory of ``--tls-dir``."""

    verify: bool = Field(True, description="whether the backend must prove who it is; false is for tests")
    server_name: Name | None = Field(
        None, description="name in its certificate; the URL's host when left out"
    )
    ca_file: FileName | None = Field(None, description="who vouches for it; the system's CAs when left out")
    client_cert_file: FileName | None = Field(None, description="certificate of the gateway, with its chain")
    client_key_file: FileName | None = Field(None, description="key of that certificate")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise problem("tls_client_certificate", "clientCertFile and clientKeyFile go together")
        return self


class BackendFields(Model):
    """What a registered backend and one written inside a route have in common."""

    url: BackendUrl
    weight: Weight = Field(100, description="share of the requests; 0 takes no traffic")
    is_enabled: bool = True
    connection_pool: ConnectionPool = ConnectionPool()
    timeouts: Timeouts = Timeouts()
    health_check: HealthCheck | None = None
    tls: BackendTls | None = None

    @model_validator(mode="after")
    def _tls_is_https(self) -> Self:
        if self.tls is not None and parse_url(self.url).scheme != "https":
            raise problem("tls_scheme", "tls is for https backends; the URL starts with http://")
        return self


class Backend(BackendFields):
    """A registered backend: routes refer to it by its name or id."""

    backend_id: Identifier | None = Field(None, description="generated when left out")
    name: Name


# Wider than an identifier, for the generated ones contain the route's id and the backend's name.
InlineId = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[!-~]([ -~]*[!-~])?$")]


def _no_default(schema: dict[str, Any]) -> None:
    del schema["default"]  # it only stands for what is worked out


class InlineBackend(BackendFields):
    """A backend that belongs to one route and is versioned with it."""

    backend_id: InlineId | None = Field(None, description="route id:name when left out")
    name: Name = Field(
        "", validate_default=False, description="host:port when left out", json_schema_extra=_no_default
    )

    @model_validator(mode="after")
    def _default_name(self) -> Self:
        if not self.name:
            object.__setattr__(self, "name", parse_url(self.url).authority)
        return self


class BackendReference(Model):
    """A registered backend by its id or name, with this route's own weight if given."""

    backend_id: InlineId | None = None
    name: Name | None = None
    weight: Weight | None = None

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if (self.backend_id is None) == (self.name is None):
            raise problem(
                "backend_reference", "give url for a backend of this route, or either backendId or name"
            )
        return self
