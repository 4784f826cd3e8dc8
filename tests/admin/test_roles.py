"""Who may call what: each endpoint with each role, by token, by API key, and without any."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from hotswap_proxy.admin.handlers import ENDPOINTS
from hotswap_proxy.admin.routing import Endpoint
from hotswap_proxy.settings import Settings
from tests.gateway import Gateway, problem, running

pytestmark = pytest.mark.anyio

ROLES = ("Admin", "Operator", "Developer", "Viewer")
# As the specification has it: all, public, or the roles. A new endpoint needs a line here.
TABLE = """
POST   authentication/login                     public
GET    authentication/me                        all
PUT    authentication/password                  all
GET    authentication/api-keys                  all
POST   authentication/api-keys                  all
DELETE authentication/api-keys/{id}             all
GET    users                                    Admin
POST   users                                    Admin
GET    users/{id}                               Admin
PUT    users/{id}                               Admin
DELETE users/{id}                               Admin
GET    gateway/routes                           all
POST   gateway/routes                           Admin
GET    gateway/routes/{id}                      all
PUT    gateway/routes/{id}                      Admin
DELETE gateway/routes/{id}                      Admin
GET    gateway/routes/{id}/history              all
GET    gateway/routes/{id}/versions             all
POST   gateway/routes/{id}/versions             Admin
GET    gateway/routes/{id}/versions/{version}   all
GET    gateway/routes/{id}/versions/{a}/diff/{b} all
POST   gateway/routes/{id}/rollback             Admin
GET    gateway/backends                         all
POST   gateway/backends                         Admin
GET    gateway/backends/{id}                    all
PUT    gateway/backends/{id}                    Admin
DELETE gateway/backends/{id}                    Admin
GET    gateway/backends/{id}/health             all
PUT    gateway/backends/{id}/circuit-breaker    Admin Operator
POST   gateway/health-checks                    Admin Operator
GET    gateway/deployments                      all
POST   gateway/deployments                      Admin Operator
POST   gateway/deployments/simulate             all
GET    gateway/deployments/{id}                 all
GET    gateway/deployments/{id}/metrics         all
POST   gateway/deployments/{id}/promote         Admin Operator
POST   gateway/deployments/{id}/rollback        Admin Operator
POST   gateway/deployments/{id}/pause           Admin Operator
POST   gateway/deployments/{id}/resume          Admin Operator
POST   gateway/deployments/{id}/approve         Admin
POST   gateway/deployments/{id}/reject          Admin
POST   gateway/config/apply                     Admin
POST   gateway/config/validate                  all
GET    gateway/config/export                    all
GET    gateway/nodes                            all
GET    gateway/anomalies                        all
GET    gateway/health                           public
GET    gateway/metrics                          all
GET    gateway/traces                           all
GET    gateway/traces/{traceId}                 all
GET    /metrics                                 public
GET    audit-logs                               Admin
GET    audit-logs/head                          Admin
GET    audit-logs/verify                        Admin
"""


def allowed() -> dict[tuple[str, str], frozenset[str] | None]:
    """(method, path) → roles; None is public."""
    found: dict[tuple[str, str], frozenset[str] | None] = {}
    for line in TABLE.split("\n"):
        if line:
            method, path, *roles = line.split()
            path = path if path.startswith("/") else f"/api/v1/{path}"
            words: dict[str, frozenset[str] | None] = {"public": None, "all": frozenset(ROLES)}
            found[method, path] = words[roles[0]] if roles[0] in words else frozenset(roles)
    return found


def test_the_endpoints_ask_for_the_roles_of_the_specification() -> None:
    table = allowed()
    for endpoint in ENDPOINTS:
        key = endpoint.method, endpoint.path
        assert key in table, f"{key} is in no line of the table"
        roles = frozenset() if endpoint.is_public and endpoint.is_public(Settings()) else endpoint.roles
        assert roles == (table[key] or frozenset()), key


def _path(endpoint: Endpoint, own_key: str) -> str:
    path = endpoint.path
    if path.endswith("/api-keys/{id}"):  # a key may end itself and no other
        return path.replace("{id}", f"{own_key}?dryRun=true")
    for name in ("id", "version", "a", "b"):
        path = path.replace(f"{{{name}}}", "nix")
    return path


async def _call(
    gateway: Gateway, endpoint: Endpoint, headers: dict[str, str], own_key: str = "nix"
) -> httpx.Response:
    # A body of a wrong type: who may come in is told 415 (or 404), and nothing is written.
    content = {} if endpoint.method == "GET" else {"content": b"x"}
    path = _path(endpoint, own_key)
    return await gateway.client.request(endpoint.method, path, headers=headers, **content)  # type: ignore[arg-type]


async def test_metrics_can_be_for_those_who_are_logged_in(tmp_path: Path) -> None:
    async with running(tmp_path, metrics_access="token") as gateway:
        assert problem(await gateway.client.get("/metrics", headers={"authorization": ""}))[0] == 401
        for role in ROLES:
            answer = await gateway.client.get("/metrics", headers=await gateway.as_role(role))
            assert answer.status_code == 200


async def test_each_role_reaches_its_endpoints_and_no_others(gateway: Gateway) -> None:
    table = allowed()
    shown: dict[tuple[str, str], dict[str, str]] = {}
    keys: dict[str, str] = {}
    for role in ROLES:
        token = await gateway.as_role(role)
        made = await gateway.client.post("/api/v1/authentication/api-keys", json={"name": "k"}, headers=token)
        keys[role] = made.json()["keyId"]
        shown[role, "token"] = token
        shown[role, "Authorization"] = {"authorization": f"Bearer {made.json()['key']}"}
        # The client's own token would be sent as well.
        shown[role, "X-API-Key"] = {"x-api-key": made.json()["key"], "authorization": ""}
    for endpoint in ENDPOINTS:
        roles = table[endpoint.method, endpoint.path]
        if roles is None:
            continue
        answer = await _call(gateway, endpoint, {"authorization": ""})
        assert problem(answer)[:2] == (401, "UNAUTHORIZED"), endpoint.path
        for (role, how), headers in shown.items():
            answer = await _call(gateway, endpoint, headers, keys[role])
            where = (role, how, endpoint.method, endpoint.path, answer.text)
            if role in roles:
                assert answer.status_code in (200, 404, 405, 409, 415), where
            else:
                assert problem(answer)[:2] == (403, "FORBIDDEN"), where
