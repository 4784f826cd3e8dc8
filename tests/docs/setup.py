"""What the pages take for granted, and what of them is not run, each with a reason. A new page needs nothing
here unless one of its commands fails without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Programs that change the machine, need the world, or are somebody else's: their commands are not run.
NOT_RUN = {
    "apt-get": "installs",
    "docker": "builds and starts containers; the file is validated by the tests of deploy/",
    "git": "clones",
    "helm": "needs a cluster",
    "hotswap-proxy upgrade": "ends in another process; tests/e2e/test_upgrade.py does it",
    "/opt/hotswap-proxy-0.2/bin/hotswap-proxy upgrade": "a program that is not there",
    "install": "changes the machine",
    "journalctl": "needs systemd",
    "ln": "changes the machine",
    "python3 -m venv": "installs",
    "kubectl": "needs a cluster; the manifests are validated by the tests of deploy/",
    "make": "builds the program; the commands of make have tests in tests/tooling",
    "pip": "installs",
    "sudo": "changes the machine",
    "sysctl": "changes the machine",
    "systemctl": "needs systemd",
    "useradd": "changes the machine",
}
# Addresses of other servers in the containers and clusters of docs/: what asks them is not run.
ELSEWHERE = (
    "8000 8001",
    "127.0.0.1:16686",
    "127.0.0.1:9090",
    "127.0.0.1:3000",
    "127.0.0.1:4318",
    "127.0.0.1:8001",
)
# Fences that hold no command.
LANGUAGES = {
    "mermaid": "a picture",
    "text": "output, a picture or a table",
    "http": "a message",
    "promql": "a query; those of the docs have tests against a Prometheus",
    "ini": "a file of systemd",
    "nginx": "a file of nginx",
    "sql": "for the database's administrator",
    "diff": "a difference",
    "toml": "a file of another program",
    "logql": "a query",
}
# Indented text that is neither command nor document: (page, how it begins) → why.
TEXT = {
    ("docs/architecture.md", "a request:  client"): "a picture",
    ("docs/architecture.md", "control ──"): "a picture",
    ("docs/architecture.md", "accepted = completed"): "an equation",
    ("docs/deployments.md", "POST /api/v1/gateway/routes/{id}/versions"): "calls with placeholders, in order",
    ("docs/judge.md", "M(p) ="): "an equation",
    ("docs/postgresql.md", "CREATE ROLE"): "SQL, for the database's administrator",
    ("docs/request-path.md", "IDLE ──"): "a picture",
    ("docs/resilience.md", "Closed ──"): "a picture",
    ("docs/security.md", "previous_hash audit_id"): "a list of columns",
}
# Documents of other programs, by a key at their top: they have to parse, and have tests of their own.
FOREIGN = {
    "apiVersion",
    "services",
    "scrape_configs",
    "groups",
    "global",
    "receivers",
    "exporters",
    "datasources",
}


@dataclass(frozen=True)
class Setup:
    """``options``: of the gateway. ``before``: run first. ``at``: run before the command that begins so.
    ``replace``: in its commands. ``environ``: of all of them. ``path``: of the route a fragment is put into.
    """

    options: tuple[str, ...] = ()
    before: str = ""
    at: Mapping[str, str] = field(default_factory=dict)
    replace: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    database: str = ""  # its URL in the page: in its place comes that of an empty database of a real server


def _route(name: str, pattern: str, more: str = "") -> str:
    backends = '"backends": [{"name": "b", "url": "http://127.0.0.1:9001"}]'
    route = f'{{"name": "{name}", "pathPattern": "{pattern}", {backends}{more}}}'
    return f"api POST /api/v1/gateway/routes <<< '{route}'\n"


USERS = _route("users", "/users/**")
SETUPS = {
    "README.md": Setup(
        options=(
            "--access-log",
            "../access.log",
            "--tracing",
            "on",
            "--trace-sample",
            "1",
        ),  # as the demo has it
        before=_route("httpbin", "/get"),
        at={'curl -s -X PUT "$ADMIN': "ROUTE=$(id_of anything)"},
        # The page's deployment would take its minute: the traffic to judge by is not needed to follow it.
        replace={
            "while sleep 0.05; do": "for each in 1 2 3; do",
            "data/access.log": "../access.log",
            "; sleep 1    # 413": " || sleep 1",
        },
    ),
    "docs/api.md": Setup(
        at={"curl -X PUT": "ROUTE_ID=$(id_of users)"}, replace={"rt-62fc239efd96b6a1": "$ROUTE_ID"}
    ),
    "docs/authentication.md": Setup(environ={"KEY": "a key"}),
    "docs/cli.md": Setup(
        # "Later", when the deployment has ended.
        at={"hotswap-proxy routes rollback users": "hotswap-proxy deployments rollback users --reason test"}
    ),
    "docs/containers.md": Setup(before=_route("httpbin", "/get")),  # as the demo in the containers has it
    "docs/history.md": Setup(
        before=_route("shop", "/shop/**", ', "routeId": "rt-shop"'),
        at={
            "hotswap-proxy deployments metrics": "hotswap-proxy routes stage shop "
            "-d '{\"timeoutSeconds\": 9}'\n"
            "hotswap-proxy deployments create shop 1.1"
        },
    ),
    "docs/json-schema.md": Setup(path="/orders"),
    # Two hundred simulated rollouts of each command take a minute of a core.
    "docs/judge.md": Setup(replace={"deployments simulate": "deployments simulate --runs 20"}),
    "docs/logs.md": Setup(
        options=("--access-log", "../access.log"),
        replace={"/var/log/hotswap-proxy/access.log": "../access.log", "tail -F": "tail -n 9"},
    ),
    "docs/middleware.md": Setup(
        environ={"HOTSWAP_MIDDLEWARE": "timing=middleware:timing,greeting=middleware:greeting"},
        replace={"PYTHONPATH=examples": "PYTHONPATH=$EXAMPLES:$PYTHONPATH"},
    ),
    "docs/postgresql.md": Setup(
        database="postgresql://gateway:password@db.internal/hotswap?sslmode=verify-full"
    ),
    "docs/resilience.md": Setup(
        before="api POST /api/v1/gateway/backends <<< "
        + """'{"backendId": "be-1", "name": "b1", "url": "http://127.0.0.1:9001"}'\n"""
        + _route("with-be-1", "/b/**").replace('{"name": "b", "url": "http://127.0.0.1:9001"}', '"b1"')
    ),
    "docs/tls.md": Setup(environ={"HOTSWAP_TLS_DIR": "."}),
    "docs/tracing.md": Setup(
        options=("--tracing", "on", "--trace-sample", "1"),
        before=_route("items", "/items/**") + "hotswap-proxy export > gateway.yaml\n",
        at={
            # The page shows the trace of another moment first.
            "hotswap-proxy traces list": "curl -H 'traceparent: "
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' "
            "http://127.0.0.1:8000/items/7\nsleep 1    # lines and traces are made ten times a second",
        },
    ),
    "docs/runbooks.md": Setup(
        before=USERS + "echo '{\"timeoutSeconds\": 8}' > change.yaml\n",
    ),
}
