"""Route: which requests go to which backends, and how one of them is chosen."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from .backend import BackendReference, InlineBackend
from .base import MAX_INTEGER, Environment, Identifier, InSchema, Model, Name, Version, problem
from .policy import (
    Auth,
    CircuitBreaker,
    Cors,
    Middleware,
    RateLimit,
    RetryPolicy,
    Transformations,
    Validation,
)

Strategy = Literal["RoundRobin", "WeightedRoundRobin", "LeastConnections", "IPHash", "HeaderBased", "Direct"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]")
_HOST_IN_SCHEMA = rf"^((\*\.)?{_LABEL}(\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])$"  # and at most 253 characters
_METHOD = re.compile(r"[A-Z][A-Z0-9-]{0,31}")


def _check_pattern(pattern: str) -> str:
    from hotswap_proxy._core import check_pattern  # the router's own parser: one grammar, not two

    try:
        check_pattern(pattern)
    except ValueError as error:
        raise problem("path_pattern", str(error)) from None
    return pattern


def _check_host(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise problem("host", f"{host!r} is not a host name or *.domain (without a port)")
    return host


def _check_method(method: str) -> str:
    if method != "*" and not _METHOD.fullmatch(method):
        raise problem("method", f"{method!r} is not an upper-case HTTP method or *")
    if method == "CONNECT":
        raise problem("method", "CONNECT asks for a tunnel, which a gateway does not open")
    return method


def _check_methods(methods: list[str]) -> list[str]:
    if "*" in methods and len(methods) > 1:
        raise problem("methods", "* already means every method; give it alone")
    if len(set(methods)) != len(methods):
        raise problem("methods", "a method is given twice")
    return methods


PSEUDO_HEADERS = (":country", ":continent", ":cidr")
_CONTINENTS = ("AF", "AN", "AS", "EU", "NA", "OC", "SA")


def _check_header_name(name: str) -> str:
    if name.startswith(":"):
        if name not in PSEUDO_HEADERS:
            raise problem(
                "header_name", f"{name!r}: of names with a colon there are {', '.join(PSEUDO_HEADERS)}"
            )
    elif not _TOKEN.fullmatch(name):
        raise problem("header_name", f"{name!r} is not an HTTP header name")
    return name


def _check_header_value(value: str) -> str:
    if value != value.strip() or any(ord(character) < 32 for character in value):
        raise problem("header_value", "a header value has no control characters and no spaces around it")
    return value


def _check_region(header: str, value: str) -> None:
    from hotswap_proxy._core import check_network

    if header == ":country" and not re.fullmatch("[A-Z]{2}", value):
        raise problem("country", f"{value!r} is not a country's code of two capital letters (ISO 3166-1)")
    if header == ":continent" and value not in _CONTINENTS:
        raise problem("continent", f"{value!r} is not one of {', '.join(_CONTINENTS)}")
    if header == ":cidr":
        try:
            check_network(value)
        except ValueError as error:
            raise problem("network", str(error)) from None


def _variant(value: Any) -> str:
    """Which of the two forms of a route's backend this is: with a url it is a backend of its own."""
    if isinstance(value, dict):
        return "inline" if "url" in value else "reference"
    return "inline" if isinstance(value, InlineBackend) else "reference"


def _named(value: Any) -> Any:
    """``backends: [users-1]`` is short for ``backends: [{name: users-1}]``."""
    return {"name": value} if isinstance(value, str) else value


RouteBackend = Annotated[
    Annotated[InlineBackend, Tag("inline")] | Annotated[BackendReference, Tag("reference")],
    Discriminator(_variant),
]


HeaderValue = Annotated[str, Field(max_length=1024), AfterValidator(_check_header_value)]


class _NameAlone:
    """Tells the JSON Schema what ``_named`` accepts."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        name = TypeAdapter(Name).json_schema() | {"description": "name of a registered backend"}
        return {"anyOf": [name, handler(core)]}


RouteMember = Annotated[RouteBackend, BeforeValidator(_named), _NameAlone]


class StrategyConfig(Model):
    """Settings of HeaderBased; empty for the other strategies."""

    header_name: Annotated[str, Field(max_length=128), AfterValidator(_check_header_name)] | None = Field(
        None, description="or where the client is: :country, :continent, :cidr"
    )
    routing_rules: dict[HeaderValue, Name] | None = Field(
        None, description="header value, region or network → name of one of the route's backends"
    )
    default_backend: Name | None = Field(
        None, description="for every other value, or when the chosen one is out"
    )

    @field_validator("routing_rules")
    @classmethod
    def _regions_exist(cls, rules: dict[str, str] | None, info: ValidationInfo) -> dict[str, str] | None:
        header = info.data.get("header_name")
        if header is not None and header in PSEUDO_HEADERS:
            for value in rules or ():
                _check_region(header, value)
        return rules


def _path_or_path_pattern(schema: dict[str, Any]) -> None:
    schema["properties"]["path"] = schema["properties"]["pathPattern"]
    schema["required"].remove("pathPattern")
    schema["oneOf"] = [{"required": ["pathPattern"]}, {"required": ["path"]}]


class Route(Model):
    """One route. Body limits are bytes, 0 is unlimited; left out, the node's settings apply."""

    model_config = ConfigDict(json_schema_extra=_path_or_path_pattern)

    route_id: Identifier | None = Field(None, description="generated when left out")
    name: Name
    path_pattern: Annotated[
        str, Field(max_length=1024), AfterValidator(_check_pattern), InSchema(pattern="^/")
    ]
    hosts: list[Annotated[str, AfterValidator(_check_host), InSchema(pattern=_HOST_IN_SCHEMA)]] | None = (
        Field(None, max_length=256)
    )
    methods: Annotated[
        list[Annotated[str, AfterValidator(_check_method), InSchema(pattern=rf"^(\*|{_METHOD.pattern})$")]],
        AfterValidator(_check_methods),
        InSchema(uniqueItems=True),
    ] = Field(default_factory=lambda: ["*"], min_length=1, max_length=64)
    backends: list[RouteMember] = Field(min_length=1, max_length=256)
    strategy: Strategy = "RoundRobin"
    strategy_config: StrategyConfig = Field(default_factory=StrategyConfig, validate_default=True)
    timeout_seconds: int = Field(30, ge=1, le=300, description="the whole request")
    max_request_body: int | None = Field(None, ge=0, le=MAX_INTEGER)
    max_response_body: int | None = Field(None, ge=0, le=MAX_INTEGER)
    auth: Auth | None = None
    circuit_breaker: CircuitBreaker | None = None
    cors: Cors | None = None
    middleware: Middleware | None = None
    rate_limit: RateLimit | None = None
    retry_policy: RetryPolicy | None = None
    transformations: Transformations | None = None
    validation: Validation | None = None
    is_enabled: bool = True
    priority: int = Field(0, ge=0, le=100, description="higher is matched first")
    environment: Environment | None = Field(None, description="served only by nodes of it; any when left out")
    version: Version | None = Field(None, description="counted up when left out")

    @model_validator(mode="before")
    @classmethod
    def _path_alias(cls, data: Any) -> Any:
        if isinstance(data, dict) and "path" in data:
            if "pathPattern" in data:
                raise problem("path_pattern", "path is another name of pathPattern; give one of them")
            data = dict(data)
            data["pathPattern"] = data.pop("path")
        return data

    @field_validator("transformations")
    @classmethod
    def _changes_fit_route(
        cls, changes: Transformations | None, info: ValidationInfo
    ) -> Transformations | None:
        if changes is not None:
            # The pattern is absent when it is itself wrong.
            auth = info.data.get("auth")
            changes.check_route(
                info.data.get("path_pattern"),
                cors=info.data.get("cors") is not None,
                identity=auth.identity_header if auth is not None else None,
            )
        return changes

    @field_validator("strategy_config")
    @classmethod
    def _config_fits_strategy(cls, config: StrategyConfig, info: ValidationInfo) -> StrategyConfig:
        strategy = info.data.get("strategy")  # absent when it is itself wrong
        if strategy == "HeaderBased":
            for field in ("header_name", "routing_rules", "default_backend"):
                if not getattr(config, field):
                    raise problem(
                        "strategy_config", f"HeaderBased needs {type(config).model_fields[field].alias}"
                    )
        elif strategy and config != _NO_CONFIG:
            raise problem("strategy_config", f"{strategy} takes no strategyConfig")
        return config


_NO_CONFIG = StrategyConfig()
