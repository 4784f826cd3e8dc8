"""``run`` and ``migrate``: the commands that work on this machine."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from hotswap_proxy.cli.options import EXIT_INVALID, CommandError, command
from hotswap_proxy.control import signals
from hotswap_proxy.settings import PREFIX, PRIVATE, Settings, SettingsError

LIMITS = "Limits and timeouts"
TRACES = "Traces"
CLIENTS = "Clients and proxies before the node"
LOGS = "Logs"


def _option(name: str, metavar: str, text: str, default: str = "", panel: str = "Node") -> Any:
    """An option with its environment variable. Its value is checked with the settings, not here."""
    return typer.Option(
        f"--{name}",
        envvar=PREFIX + name.upper().replace("-", "_"),
        metavar=metavar,
        help=text,
        show_default=default or False,
        rich_help_panel=panel,
    )


def _limit(name: str, metavar: str, text: str, default: str = "") -> Any:
    return _option(name, metavar, text, default, LIMITS)


def _edge(name: str, metavar: str, text: str, default: str = "") -> Any:
    return _option(name, metavar, text, default, CLIENTS)


_PER_USER = " of one user of the API in a minute. 0: any number."
_IN_PRODUCTION = " in Production, else 0"
Value = str | None
Values = list[str] | None  # of an option that may be repeated
TLS = "TLS"
ProxyTls = Annotated[
    Value,
    _option("proxy-tls", "HOST:PORT", "Where clients connect with TLS; --proxy then is plain.", "", TLS),
]
TlsCert = Annotated[
    Values,
    _option("tls-cert", "FILE", "Certificate and its chain (PEM); repeat for further names.", "", TLS),
]
TlsKey = Annotated[
    Values, _option("tls-key", "FILE", "Its private key (PEM); one for each certificate, in order.", "", TLS)
]
TlsClientCa = Annotated[Value, _option("tls-client-ca", "FILE", "Verifies certificates of clients.", "", TLS)]
TlsClientAuth = Annotated[
    Value, _option("tls-client-auth", "off|optional|required", "Certificates of clients.", "off", TLS)
]
TlsMinVersion = Annotated[Value, _option("tls-min-version", "1.2|1.3", "Oldest version.", "1.2", TLS)]
TlsDir = Annotated[
    Value,
    _option("tls-dir", "DIR", "Files that backends may name for TLS.", "tls in the data directory", TLS),
]
HstsMaxAge = Annotated[
    Value, _option("hsts-max-age", "SECONDS", "Of Strict-Transport-Security; 0: none.", "0", TLS)
]
Config = Annotated[
    Value, _option("config", "FILE", "Declarative file; the node mirrors it, changes included.")
]
Proxy = Annotated[Value, _option("proxy", "HOST:PORT", "Where clients connect.", "0.0.0.0:8000")]
Admin = Annotated[Value, _option("admin", "HOST:PORT", "Where the admin API listens.", "127.0.0.1:5000")]
Workers = Annotated[Value, _option("workers", "N", "Worker processes.", "one per core")]
DataDir = Annotated[Value, _option("data-dir", "DIR", "Store and locks.", "./data")]
Http = Annotated[Value, _option("http", "auto|native|httptools", "HTTP codec.", "auto")]
Environment = Annotated[
    Value, _option("environment", "NAME", "Development, QA, Staging or Production.", "Development")
]
NodeId = Annotated[Value, _option("node-id", "ID", "Name of this node.", "the host's name")]
DatabaseUrl = Annotated[
    Value, _option("database-url", "URL", "PostgreSQL as store.", "SQLite in the data directory")
]
RedisUrl = Annotated[
    Value, _option("redis-url", "URL", "Redis for messages between nodes and shared limits.", "none")
]
Tracing = Annotated[
    Value, _option("tracing", "on|off", "Record traces.", "on with --otlp-endpoint, else off", TRACES)
]
OtlpEndpoint = Annotated[
    Value, _option("otlp-endpoint", "URL", "Collector of traces (OTLP over HTTP).", "none", TRACES)
]
OtlpHeaders = Annotated[
    Value, _option("otlp-headers", "NAME=VALUE,…", "For the collector; better by the variable.", "", TRACES)
]
TraceSample = Annotated[
    Value, _option("trace-sample", "0…1", "Share of the traces begun here that are recorded.", "0.1", TRACES)
]
TraceForcedLimit = Annotated[
    Value,
    _option("trace-forced-limit", "N", "Most a second and worker because callers say so.", "1000", TRACES),
]
ServiceName = Annotated[
    Value, _option("service-name", "NAME", "What traces call this gateway.", "hotswap-proxy", TRACES)
]
MetricsAccess = Annotated[
    Value, _option("metrics-access", "WHO", "Who may read /metrics: public or token.", "public")
]
LogLevel = Annotated[Value, _option("log-level", "LEVEL", "debug, info, warning or error.", "info", LOGS)]
AccessLog = Annotated[
    Value, _option("access-log", "off|-|PATH", "A line for each request; -: standard output.", "off", LOGS)
]
AccessLogSample = Annotated[
    Value, _option("access-log-sample", "0…1", "Share of the uneventful requests that get one.", "1", LOGS)
]
AccessLogRedact = Annotated[
    Value, _option("access-log-redact", "NAME,…", "Further query parameters that are secrets.", "none", LOGS)
]
DrainTimeout = Annotated[
    Value, _limit("drain-timeout", "SECONDS", "For requests in flight when the node ends.", "30")
]
KeepaliveTimeout = Annotated[
    Value, _limit("keepalive-timeout", "SECONDS", "For client connections without a request.", "75")
]
HeaderTimeout = Annotated[Value, _limit("header-timeout", "SECONDS", "For a request's head to arrive.", "10")]
MaxRequestBody = Annotated[Value, _limit("max-request-body", "BYTES", "Of a request.", "10485760")]
MaxResponseBody = Annotated[Value, _limit("max-response-body", "BYTES", "Of a response.", "10485760")]
MaxHeaderBytes = Annotated[
    Value, _limit("max-header-bytes", "BYTES", "Of all headers of a message.", "65536")
]
RetryBudget = Annotated[
    Value, _option("retry-budget", "PERCENT", "Retries allowed, of requests that may be retried.", "20")
]
OutlierEjection = Annotated[
    Value, _option("outlier-ejection", "on|off", "Leave out backends that stand out by failing.", "on")
]
AnomalyDetection = Annotated[
    Value, _option("anomaly-detection", "on|off", "Compare each minute with the hours before.", "on")
]
AllowedHosts = Annotated[
    Value,
    _limit("allowed-backend-hosts", "HOST,…", "May be plain http in Production, or link-local addresses."),
]
MaxConnections = Annotated[
    Value, _edge("max-connections", "N", "Of a worker; more are closed at once. 0: any number.", "0")
]
MaxConnectionsPerClient = Annotated[
    Value,
    _edge("max-connections-per-client", "N", "Of the node, from one client address. 0: any number.", "1000"),
]
MaxRequestsPerClient = Annotated[
    Value,
    _edge("max-requests-per-second-per-client", "N", "Of the node; 429 beyond. 0: any number.", "0"),
]
MinTransferRate = Annotated[
    Value, _edge("min-transfer-rate", "BYTES", "Per second, of a client's body. 0: any.", "240")
]
TrustedProxies = Annotated[
    Value, _edge("trusted-proxies", "CIDR,…", "Peers that are believed about the client.", "none")
]
ProxyProtocol = Annotated[
    Value, _edge("proxy-protocol", "on|off", "Connections begin with a PROXY header (v1 or v2).", "off")
]
Forwarded = Annotated[
    Value, _edge("forwarded", "on|off", "Write Forwarded (RFC 7239) beside X-Forwarded-*.", "off")
]
HealthCheckCommands = Annotated[
    Value, _option("health-check-commands", "PATH,…", "Programs that Custom health checks may run.", "none")
]
Middleware = Annotated[
    list[str] | None,
    _option(
        "middleware",
        "NAME=MODULE:FUNCTION",
        "Python function for routes to use by this name; repeatable.",
        "none",
    ),
]
AlertWebhooks = Annotated[
    Value, _option("alert-webhooks", "URL,…", "Told by a POST what happens: health, deployments.", "none")
]
ApiLimitReads = Annotated[Value, _limit("api-limit-reads", "N", "Reads" + _PER_USER, "60" + _IN_PRODUCTION)]
ApiLimitRouteWrites = Annotated[
    Value,
    _limit(
        "api-limit-route-writes",
        "N",
        "Route writes" + _PER_USER,
        "10" + _IN_PRODUCTION,
    ),
]
ApiLimitDeployments = Annotated[
    Value, _limit("api-limit-deployments", "N", "New deployments" + _PER_USER, "5" + _IN_PRODUCTION)
]
ApiDocs = Annotated[
    Value,
    _option("api-docs", "on|off", "/openapi.json and /swagger of the admin API.", "on; off in Production"),
]
Geoip = Annotated[
    Value, _option("geoip", "FILE", "Database of regions (MaxMind's format) for :country.", "none")
]


@command
def run(
    config: Config = None,
    proxy: Proxy = None,
    admin: Admin = None,
    workers: Workers = None,
    data_dir: DataDir = None,
    http: Http = None,
    environment: Environment = None,
    node_id: NodeId = None,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    metrics_access: MetricsAccess = None,
    log_level: LogLevel = None,
    tracing: Tracing = None,
    otlp_endpoint: OtlpEndpoint = None,
    otlp_headers: OtlpHeaders = None,
    trace_sample: TraceSample = None,
    trace_forced_limit: TraceForcedLimit = None,
    service_name: ServiceName = None,
    access_log: AccessLog = None,
    access_log_sample: AccessLogSample = None,
    access_log_redact: AccessLogRedact = None,
    drain_timeout: DrainTimeout = None,
    keepalive_timeout: KeepaliveTimeout = None,
    header_timeout: HeaderTimeout = None,
    max_request_body: MaxRequestBody = None,
    max_response_body: MaxResponseBody = None,
    max_header_bytes: MaxHeaderBytes = None,
    max_connections: MaxConnections = None,
    max_connections_per_client: MaxConnectionsPerClient = None,
    max_requests_per_second_per_client: MaxRequestsPerClient = None,
    min_transfer_rate: MinTransferRate = None,
    trusted_proxies: TrustedProxies = None,
    proxy_protocol: ProxyProtocol = None,
    forwarded: Forwarded = None,
    retry_budget: RetryBudget = None,
    outlier_ejection: OutlierEjection = None,
    anomaly_detection: AnomalyDetection = None,
    allowed_backend_hosts: AllowedHosts = None,
    health_check_commands: HealthCheckCommands = None,
    middleware: Middleware = None,
    alert_webhooks: AlertWebhooks = None,
    api_limit_reads: ApiLimitReads = None,
    api_limit_route_writes: ApiLimitRouteWrites = None,
    api_limit_deployments: ApiLimitDeployments = None,
    api_docs: ApiDocs = None,
    geoip: Geoip = None,
    proxy_tls: ProxyTls = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    tls_client_auth: TlsClientAuth = None,
    tls_min_version: TlsMinVersion = None,
    tls_dir: TlsDir = None,
    hsts_max_age: HstsMaxAge = None,
) -> None:
    """Run a node in the foreground.

    It prints one line when it is ready.

    SIGTERM or SIGINT drains and ends it, a second one ends it at once.

    SIGHUP reloads the configuration file and the certificates, SIGUSR1 opens
    the access log anew.

    The first administrator is taken from HOTSWAP_ADMIN_USERNAME and
    HOTSWAP_ADMIN_PASSWORD, or is made and printed once.
    """
    options = {name: value for name, value in locals().items() if value is not None}
    given = {name: value if isinstance(value, str) else ",".join(value) for name, value in options.items()}
    environ = {**os.environ, **{PREFIX + name.upper(): value for name, value in given.items()}}
    settings_of(environ, to_run=True)
    # The control process's threads take turns anyway, and each further arena would keep megabytes for good.
    environ.setdefault("MALLOC_ARENA_MAX", "1")
    # Blocks from this size on go back to the system when freed; glibc would raise the bound by itself.
    environ.setdefault("MALLOC_MMAP_THRESHOLD_", "262144")
    sys.stdout.flush()
    sys.stderr.flush()
    signals.ignore()  # here already: the interpreter takes a moment to its first line
    # By exec, not by import: what the command line needed (typer: 7 MB) is not kept for the node's life.
    # -P: `-m` would look for our modules in the current directory first, whoever can write there.
    command_line = [sys.executable, "-P", "-m", "hotswap_proxy.control"]
    os.execve(sys.executable, command_line, environ)  # noqa: S606  no shell


@command
def migrate(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Bring the store's schema up to date; `run` does the same by itself at start."""
    overlay = {"HOTSWAP_DATA_DIR": data_dir, "HOTSWAP_DATABASE_URL": database_url}
    settings = settings_of({**os.environ, **{name: value for name, value in overlay.items() if value}})
    from hotswap_proxy.errors import GatewayError
    from hotswap_proxy.store.migrate import ensure_schema

    os.umask(PRIVATE)
    place = settings.store_place
    try:
        done = ensure_schema(place)
    except GatewayError as error:
        raise CommandError([error.message]) from error
    print(f"{place}: {'migrated' if done else 'up to date'}")


def settings_of(environ: dict[str, str], *, to_run: bool = False) -> Settings:
    """The settings of an environment; CommandError names the options whose values are no good. ``to_run``:
    they have to fit together too.
    """
    try:
        settings = Settings.from_environment(environ)
        if to_run:
            settings.check_combinations()
        return settings
    except SettingsError as error:
        lines = []
        for problem in error.problems:
            variable, _, reason = problem.partition(": ")
            lines.append(
                f"--{variable.removeprefix(PREFIX).lower().replace('_', '-')} ({variable}): {reason}"
            )
        raise CommandError(lines, EXIT_INVALID) from error
