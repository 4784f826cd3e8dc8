"""Settings of one node: every option of ``hotswap-proxy run``, with its default.

A plain dataclass, so that the slim processes (spawner, workers) can import it without pydantic. Each field
has an environment variable ``HOTSWAP_<FIELD>``; the command line wins over the environment, which wins over
the default.
"""

from __future__ import annotations

import json
import os
import re
import socket
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from hotswap_proxy import otlpsettings
from hotswap_proxy.postgresurl import PostgresUrl
from hotswap_proxy.redisurl import check_redis_url

HttpCodec = Literal["auto", "native", "httptools"]
EnvironmentName = Literal["Development", "QA", "Staging", "Production"]
ClientAuth = Literal["off", "optional", "required"]
TlsVersion = Literal["1.2", "1.3"]
Switch = Literal["on", "off"]
MetricsAccess = Literal["public", "token"]
LogLevel = Literal["debug", "info", "warning", "error"]

PREFIX = "HOTSWAP_"
MAX_NODE_ID = 95  # with the run's name behind it, it is the owner of leases: 128 in the store
STORE_FILE = "hotswap.db"  # in the data directory
# Never handed to a worker: the data plane has no use for them.
_SECRETS = (
    "admin_username",
    "admin_password",
    "jwt_secret",
    "database_url",
    "redis_url",
    "alert_webhooks",
    "webhook_secret",
    "otlp_headers",
)
SECRET_VARIABLES = frozenset(PREFIX + name.upper() for name in _SECRETS) | otlpsettings.SECRET_VARIABLES
PRIVATE = 0o077  # the umask of whatever writes to the data directory: password hashes and the token secret
_AT_LEAST = {
    "workers": 1,
    "token_lifetime": 1,
    "drain_timeout": 0,
    "keepalive_timeout": 0,
    "header_timeout": 0.1,
    "max_request_body": 0,
    "max_response_body": 0,
    "max_header_bytes": 1024,
    "hsts_max_age": 0,
    "max_connections": 0,
    "max_connections_per_client": 0,
    "max_requests_per_second_per_client": 0,
    "min_transfer_rate": 0,
    "retry_budget": 0,
    "trace_sample": 0,
    "trace_forced_limit": 0,
    "api_limit_reads": 0,
    "api_limit_route_writes": 0,
    "api_limit_deployments": 0,
    "access_log_sample": 0,
}
_AT_MOST = {
    "workers": 512,
    "max_connections": 1 << 31,
    "max_connections_per_client": 1 << 31,
    "max_requests_per_second_per_client": 1_000_000,
    "min_transfer_rate": 1 << 31,
    "retry_budget": 100,
    "trace_sample": 1,
    "trace_forced_limit": 1_000_000,
    "api_limit_reads": 10_000,
    "api_limit_route_writes": 10_000,
    "api_limit_deployments": 10_000,
    "access_log_sample": 1,
}
TRACE_SAMPLE, TRACE_FORCED_LIMIT = 0.1, 1000
NO_ACCESS_LOG, STANDARD_OUTPUT = "off", "-"  # values of `access_log` that are no path
MAX_PARAMETER_NAME = 64
MIN_WEBHOOK_SECRET = 16  # bytes: it can be guessed at by whoever has seen one event
_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_MIDDLEWARE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}={_DOTTED}:{_DOTTED}")


class SettingsError(ValueError):
    """One or more settings have no usable value; ``problems`` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one node runs with. Durations are seconds, sizes are bytes."""

    config: Path | None = None
    proxy: str = "0.0.0.0:8000"  # the proxy is there to be reached
    admin: str = "127.0.0.1:5000"
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    data_dir: Path = Path("data")
    http: HttpCodec = "auto"
    environment: EnvironmentName = "Development"
    node_id: str = field(default_factory=socket.gethostname)
    database_url: str | None = field(default=None, repr=False)  # None: SQLite in the data directory
    redis_url: str | None = field(default=None, repr=False)  # None: nodes of a fleet ask the store
    admin_username: str | None = None
    admin_password: str | None = field(default=None, repr=False)
    jwt_secret: str | None = field(default=None, repr=False)  # None: made once, kept in the data directory
    token_lifetime: float = 8 * 3600
    api_docs: Switch | None = None  # /openapi.json and /swagger; None: on, but off in Production
    # Calls of one user a minute; None: `admin.quotas` in Production, else any number; 0: any number
    api_limit_reads: int | None = None
    api_limit_route_writes: int | None = None
    api_limit_deployments: int | None = None
    drain_timeout: float = 30.0
    keepalive_timeout: float = 75.0
    header_timeout: float = 10.0
    max_request_body: int = 10 * 1024 * 1024
    max_response_body: int = 10 * 1024 * 1024
    max_header_bytes: int = 64 * 1024
    max_connections: int = 0  # of one worker; 0: any number
    max_connections_per_client: int = 1000  # of the node; 0: any number
    max_requests_per_second_per_client: int = 0  # of the node; 0: any number
    min_transfer_rate: int = 240  # bytes per second that a client must send of a body; 0: any
    trusted_proxies: tuple[str, ...] = ()  # networks whose claims about the client are believed
    proxy_protocol: Switch = "off"
    forwarded: Switch = "off"  # write Forwarded (RFC 7239) beside X-Forwarded-*
    retry_budget: int = 20  # percent of the requests that may be retried
    outlier_ejection: Switch = "on"
    anomaly_detection: Switch = "on"
    allowed_backend_hosts: tuple[
        str, ...
    ] = ()  # may be plain http in Production, link-local or metadata addresses
    health_check_commands: tuple[str, ...] = ()  # programs, absolute paths, that Custom checks may run
    middleware: tuple[str, ...] = ()  # NAME=package.module:function, for routes to use by name
    alert_webhooks: tuple[str, ...] = field(default=(), repr=False)  # the path of such a URL is its password
    webhook_secret: str | None = field(default=None, repr=False)  # None: events are not signed
    geoip: Path | None = None  # database of regions, MaxMind's format
    metrics_access: MetricsAccess = "public"  # who may read /metrics: everybody, or those who are logged in
    log_level: LogLevel = "info"
    tracing: Switch | None = None  # None: with an endpoint
    otlp_endpoint: str | None = None  # OTLP over HTTP; None: traces are only kept for the API
    otlp_headers: str | None = field(default=None, repr=False)
    trace_sample: float = TRACE_SAMPLE  # share of the traces that begin here
    trace_forced_limit: int = TRACE_FORCED_LIMIT  # a second and worker: recorded because callers say so
    service_name: str = "hotswap-proxy"
    access_log: str = NO_ACCESS_LOG  # or "-", or a path
    access_log_sample: float = 1.0  # share of the uneventful requests that get a line
    access_log_redact: tuple[str, ...] = ()  # query parameters besides `_core.REDACTED_PARAMETERS`
    proxy_tls: str | None = None  # None: with certificates, `proxy` speaks TLS
    tls_cert: tuple[str, ...] = ()  # files; each with the key of the same place, the first is the default
    tls_key: tuple[str, ...] = ()
    tls_client_ca: Path | None = None
    tls_client_auth: ClientAuth = "off"
    tls_min_version: TlsVersion = "1.2"
    tls_dir: Path | None = None  # None: `tls` in the data directory
    hsts_max_age: int = 0  # 0: no Strict-Transport-Security

    @property
    def tls_files(self) -> Path:
        """The directory of files that backends may name."""
        return self.tls_dir or self.data_dir / "tls"

    @property
    def traces(self) -> bool:
        """Whether requests and changes are traced."""
        return (self.tracing or ("on" if self.otlp_endpoint else "off")) == "on"

    @property
    def logs_requests(self) -> bool:
        """Whether there is an access log."""
        return self.access_log != NO_ACCESS_LOG

    @property
    def store_place(self) -> Path | PostgresUrl:
        """A SQLite file or a PostgreSQL database. ValueError: see ``PostgresUrl.parse``."""
        if self.database_url is None:
            return self.data_dir / STORE_FILE
        return PostgresUrl.parse(self.database_url)

    @property
    def serves_api_docs(self) -> bool:
        """Whether everybody may read what the admin API can do."""
        return self.environment != "Production" if self.api_docs is None else self.api_docs == "on"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """The settings that ``HOTSWAP_…`` variables name; an empty variable is as good as none.

        Raises :class:`SettingsError` with every problem found, not only the first.
        """
        values: dict[str, Any] = {}
        problems: list[str] = []
        hints = typing.get_type_hints(cls)
        environ = otlpsettings.with_opentelemetry(environ)
        for item in fields(cls):
            name = PREFIX + item.name.upper()
            text = environ.get(name, "")
            if not text:
                continue
            try:
                values[item.name] = _convert(item.name, hints[item.name], text)
            except ValueError as error:
                problems.append(f"{name}: {error}")
        if problems:
            raise SettingsError(problems)
        return cls(**values)

    def check_combinations(self) -> None:
        """For a node that is to run with them: SettingsError for settings that need others."""
        if problems := _combinations(self):
            raise SettingsError(problems)

    def worker_json(self) -> bytes:
        """What the data plane may know, as JSON: everything but secrets."""
        values = {name: value for name, value in asdict(self).items() if name not in _SECRETS}
        return json.dumps(values, default=str).encode()

    @classmethod
    def from_worker_json(cls, data: bytes) -> Settings:
        """The inverse of :meth:`worker_json`."""
        values = json.loads(data)
        hints = typing.get_type_hints(cls)
        for name, value in values.items():
            if typing.get_origin(hints[name]) is tuple:
                values[name] = tuple(value)
            elif value is not None and Path in (hints[name], *typing.get_args(hints[name])):
                values[name] = Path(value)
        return cls(**values)


def _combinations(settings: Settings) -> list[str]:
    """What is set but could not do what it says: whoever asks for it would believe to be protected."""
    found: list[str] = []
    if not settings.tls_cert:
        given = {
            "PROXY_TLS": settings.proxy_tls is not None,
            "TLS_KEY": bool(settings.tls_key),
            "TLS_CLIENT_CA": settings.tls_client_ca is not None,
            "TLS_CLIENT_AUTH": settings.tls_client_auth != "off",
            "HSTS_MAX_AGE": settings.hsts_max_age > 0,
        }
        found += [
            f"{PREFIX}{name}: needs --tls-cert and --tls-key" for name, is_set in given.items() if is_set
        ]
    elif settings.tls_client_auth != "off" and settings.tls_client_ca is None:
        found.append(f"{PREFIX}TLS_CLIENT_AUTH: {settings.tls_client_auth} needs --tls-client-ca")
    elif settings.tls_client_auth == "off" and settings.tls_client_ca is not None:
        found.append(f"{PREFIX}TLS_CLIENT_CA: asks nobody for a certificate without --tls-client-auth")
    if settings.proxy_protocol == "on" and not settings.trusted_proxies:
        found.append(
            f"{PREFIX}PROXY_PROTOCOL: needs --trusted-proxies; else any client could claim any address"
        )
    if not settings.traces:
        given = {
            "TRACE_SAMPLE": settings.trace_sample != TRACE_SAMPLE,
            "TRACE_FORCED_LIMIT": settings.trace_forced_limit != TRACE_FORCED_LIMIT,
        }
        found += [
            f"{PREFIX}{name}: needs --otlp-endpoint or --tracing on"
            for name, is_set in given.items()
            if is_set
        ]
    if settings.otlp_headers is not None and settings.otlp_endpoint is None:
        found.append(f"{PREFIX}OTLP_HEADERS: needs --otlp-endpoint")
    if not settings.logs_requests:
        given = {
            "ACCESS_LOG_SAMPLE": settings.access_log_sample != 1,
            "ACCESS_LOG_REDACT": bool(settings.access_log_redact),
        }
        found += [f"{PREFIX}{name}: needs --access-log" for name, is_set in given.items() if is_set]
    return found


def _convert(name: str, hint: Any, text: str) -> Any:
    """``text`` as the type of the field, or ValueError with a sentence about what is allowed."""
    if isinstance(hint, types.UnionType):  # ``X | None``
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is Literal:
        allowed = typing.get_args(hint)
        for value in allowed:
            if text.lower() == value.lower():
                return value
        raise ValueError(f"{text!r} is not one of {', '.join(allowed)}")
    if hint is Path:
        return Path(text)
    if hint in (int, float):
        return _number(name, hint, text)
    if typing.get_origin(hint) is tuple:
        items = tuple(_listed(name, part.strip()) for part in text.split(",") if part.strip())
        names = [item.partition("=")[0] for item in items]
        if name == "middleware" and len(set(names)) != len(names):
            raise ValueError("a name is given twice")
        return items
    if name in ("proxy", "proxy_tls", "admin"):
        parse_address(text)
    if name == "database_url":
        PostgresUrl.parse(text)
    if name == "redis_url":
        check_redis_url(text)
    if name == "otlp_endpoint":
        otlpsettings.check_endpoint(text)
    if name == "otlp_headers":
        otlpsettings.parse_headers(text)
    if name == "service_name" and not (len(text) <= 255 and text.isprintable()):
        raise ValueError("it has more than 255 characters, or some that cannot be shown")
    if name == "access_log" and "\0" in text:
        raise ValueError("a path cannot have a NUL in it")
    if name == "node_id" and not (len(text) <= MAX_NODE_ID and text.isprintable()):
        raise ValueError(f"it has more than {MAX_NODE_ID} characters, or some that cannot be shown")
    if name == "webhook_secret" and len(text.encode()) < MIN_WEBHOOK_SECRET:
        raise ValueError(f"the secret must have at least {MIN_WEBHOOK_SECRET} bytes")
    return text


def _number(name: str, kind: type[int] | type[float], text: str) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a {'whole ' if kind is int else ''}number") from None
    if not value >= _AT_LEAST[name] or value == float("inf"):
        raise ValueError(
            f"{text} is less than {_AT_LEAST[name]}" if value < _AT_LEAST[name] else "must be finite"
        )
    most = _AT_MOST.get(name)
    if most is not None and value > most:
        raise ValueError(f"{text} is more than {most}")
    return value


def _listed(name: str, text: str) -> str:
    """One item of a list."""
    if name == "health_check_commands" and not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path")
    if name == "trusted_proxies":
        from hotswap_proxy._core import check_network  # the rule of who goes by it

        try:
            check_network(text)
        except ValueError as error:
            raise ValueError(str(error)) from None
    if name == "access_log_redact" and not (
        len(text) <= MAX_PARAMETER_NAME and text.isprintable() and not set(text) & set("=&?# ")
    ):
        raise ValueError(f"{text[:MAX_PARAMETER_NAME]!r} is not the name of a query parameter")
    if name == "middleware" and not _MIDDLEWARE.fullmatch(text):
        raise ValueError(f"{text!r} is not NAME=package.module:function")
    if name == "alert_webhooks":
        url = urlsplit(text)  # ValueError for a port that is none
        if url.scheme not in ("http", "https") or not url.hostname or (url.port is not None and not url.port):
            raise ValueError("an item is not a URL; write https://host/path")  # it may be a secret: not shown
        if url.username is not None:
            raise ValueError("an item has a user name or password; receivers check the signature instead")
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("an item has characters that a URL cannot have")
    return text


def parse_address(text: str) -> tuple[socket.AddressFamily, str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT`` → (family, host, port); ValueError says what is wrong.

    A name is left as it is and counts as IPv4. ``:8000`` means every IPv4 address.
    """
    host, colon, port_text = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} is not HOST:PORT")
    if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
        raise ValueError(f"{text!r}: the port must be a number from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        try:
            socket.inet_pton(socket.AF_INET6, host[1:-1])
        except OSError:
            raise ValueError(f"{text!r}: {host} is not an IPv6 address") from None
        return socket.AF_INET6, host[1:-1], int(port_text)
    if ":" in host or "[" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, as in [::]:8000")
    return socket.AF_INET, host or "0.0.0.0", int(port_text)  # noqa: S104  what an empty host has always meant


def environment_without_secrets() -> dict[str, str]:
    """This process's environment, for a process that has no use for its secrets and does not speak for it."""
    left_out = SECRET_VARIABLES | {"NOTIFY_SOCKET"}
    return {name: value for name, value in os.environ.items() if name not in left_out}
