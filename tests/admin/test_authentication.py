"""Logging in, users, and what each role may do."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import stat
from pathlib import Path

import httpx
import pytest

from hotswap_proxy.admin.app import create_app
from hotswap_proxy.admin.handlers import ENDPOINTS
from tests.gateway import PASSWORD, ROUTE, Gateway, login, problem, running

pytestmark = pytest.mark.anyio

LOGIN = "/api/v1/authentication/login"
USERS = "/api/v1/users"


async def test_login_answers_token_and_user(gateway: Gateway) -> None:
    answer = await gateway.client.post(LOGIN, json={"username": "admin", "password": PASSWORD})
    body = answer.json()
    assert body["user"] == {"username": "admin", "role": "Admin"} and body["expiresAt"].endswith("Z")
    token = {"authorization": f"Bearer {body['token']}"}
    me = (await gateway.client.get("/api/v1/authentication/me", headers=token)).json()
    assert me["username"] == "admin" and "password" not in str(me).lower()


@pytest.mark.parametrize("credentials", [("admin", "wrong password"), ("nobody", PASSWORD)])
async def test_wrong_credentials_do_not_tell_which_is_wrong(
    gateway: Gateway, credentials: tuple[str, str]
) -> None:
    username, password = credentials
    answer = await gateway.client.post(LOGIN, json={"username": username, "password": password})
    assert problem(answer)[:2] == (401, "UNAUTHORIZED")
    assert answer.json()["error"]["message"] == "the user name or the password is wrong"
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_name_that_no_database_can_hold_is_refused(gateway: Gateway) -> None:
    answer = await gateway.client.post(LOGIN, json={"username": "a\0b", "password": PASSWORD})
    assert problem(answer)[2] == [("username", "string_pattern_mismatch")]


async def test_logins_are_limited_per_user_and_client(gateway: Gateway) -> None:
    wrong = {"username": "victim", "password": "guess"}
    answers = [await gateway.client.post(LOGIN, json=wrong) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert problem(answers[-1])[1] == "RATE_LIMIT_EXCEEDED"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert await login(gateway.client, "admin"), "another user is not affected"


async def test_logins_at_once_do_not_slip_through_the_limit(gateway: Gateway) -> None:
    wrong = {"username": "victim", "password": "guess"}
    answers = await asyncio.gather(*(gateway.client.post(LOGIN, json=wrong) for _ in range(15)))
    assert sorted(answer.status_code for answer in answers) == [401] * 10 + [429] * 5


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer x.y.z", "Basic YWRtaW46eA==", "Bearer a.b.c.d", b"Bearer \xe9"]
)
async def test_without_a_valid_token_nothing_is_told(gateway: Gateway, header: str | bytes | None) -> None:
    del gateway.client.headers["authorization"]
    headers = {} if header is None else {"authorization": header}
    for endpoint in ENDPOINTS:
        if endpoint.roles and not (endpoint.is_public and endpoint.is_public(gateway.context.settings)):
            path = endpoint.path.replace("{id}", "x")
            answer = await gateway.client.request(endpoint.method, path, headers=headers)
            assert problem(answer)[:2] == (401, "UNAUTHORIZED"), endpoint.path


async def test_users_are_made_changed_and_removed(gateway: Gateway) -> None:
    body = {"username": "ann", "password": PASSWORD, "role": "Viewer"}
    made = await gateway.client.post(USERS, json=body)
    assert made.status_code == 201 and "password" not in made.text
    url = f"{USERS}/{made.json()['userId']}"
    assert problem(await gateway.client.post(USERS, json=body))[2] == [("username", "unique")]
    assert (await gateway.client.put(url, json={"role": "Operator"})).json()["role"] == "Operator"
    listed = (await gateway.client.get(USERS)).json()
    assert [user["username"] for user in listed["users"]] == ["admin", "ann"]
    assert (await gateway.client.delete(url)).status_code == 204
    for method in ("GET", "DELETE"):
        assert problem(await gateway.client.request(method, url))[0] == 404
    assert problem(await gateway.client.put(url, json={"role": "Viewer"}))[0] == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "ann", "password": "short", "role": "Viewer"}, "password"),
        ({"username": "ann", "password": PASSWORD, "role": "Root"}, "role"),
        ({"username": "a\nb", "password": PASSWORD, "role": "Viewer"}, "username"),
        ({"username": "ann", "password": PASSWORD}, "role"),
    ],
)
async def test_bad_users_are_refused(gateway: Gateway, body: dict[str, str], field: str) -> None:
    status, _, details = problem(await gateway.client.post(USERS, json=body))
    assert status == 400 and [name for name, _ in details] == [field]


@pytest.mark.parametrize(
    "change", [{"role": "Viewer"}, {"isEnabled": False}, {"password": "a new password 123"}]
)
async def test_a_changed_user_must_log_in_again(gateway: Gateway, change: dict[str, object]) -> None:
    token = await gateway.as_role("Operator")
    user_id = (await gateway.client.get("/api/v1/authentication/me", headers=token)).json()["userId"]
    assert (await gateway.client.put(f"{USERS}/{user_id}", json=change)).is_success
    answer = await gateway.client.get("/api/v1/authentication/me", headers=token)
    assert problem(answer)[0] == 401
    again = await gateway.client.post(LOGIN, json={"username": "operator-user", "password": PASSWORD})
    assert again.is_success == ("role" in change)


async def test_a_removed_users_token_ends(gateway: Gateway) -> None:
    token = await gateway.as_role("Admin")
    user_id = (await gateway.client.get("/api/v1/authentication/me", headers=token)).json()["userId"]
    await gateway.client.delete(f"{USERS}/{user_id}")
    assert problem(await gateway.client.get(USERS, headers=token))[0] == 401


async def test_the_last_administrator_stays(gateway: Gateway) -> None:
    admin = (await gateway.client.get("/api/v1/authentication/me")).json()["userId"]
    url = f"{USERS}/{admin}"
    for change in ({"role": "Viewer"}, {"isEnabled": False}):
        assert problem(await gateway.client.put(url, json=change))[:2] == (409, "CONFLICT")
    assert problem(await gateway.client.delete(url))[:2] == (409, "CONFLICT")
    other = {"username": "second", "password": PASSWORD, "role": "Admin"}
    await gateway.client.post(USERS, json=other)
    assert (await gateway.client.delete(url)).status_code == 204


async def test_everyone_changes_their_own_password(gateway: Gateway) -> None:
    token = await gateway.as_role("Viewer")
    url = "/api/v1/authentication/password"
    wrong = {"currentPassword": "not this one", "newPassword": "another password"}
    answer = await gateway.client.put(url, json=wrong, headers=token)
    assert problem(answer)[2] == [("currentPassword", "password")]
    right = wrong | {"currentPassword": PASSWORD}
    assert (await gateway.client.put(url, json=right, headers=token)).status_code == 204
    assert problem(await gateway.client.get("/api/v1/authentication/me", headers=token))[0] == 401
    assert await login(gateway.client, "viewer-user", "another password")


async def test_tokens_survive_a_restart_and_the_secret_is_private(tmp_path: Path) -> None:
    async with running(tmp_path) as first:
        token = first.client.headers["authorization"]
        assert stat.S_IMODE((tmp_path / "jwt.key").stat().st_mode) == 0o600
        assert fnmatch.filter(os.listdir(tmp_path), "jwt*") == ["jwt.key"], "no draft is left behind"  # noqa: PTH208
    async with running(tmp_path) as second:
        me = await second.client.get("/api/v1/authentication/me", headers={"authorization": token})
        assert me.is_success


async def test_another_nodes_token_is_not_ours(gateway: Gateway, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    async with running(foreign) as other:
        headers = {"authorization": other.client.headers["authorization"]}
    assert problem(await gateway.client.post("/api/v1/gateway/routes", json=ROUTE, headers=headers))[0] == 401


async def test_logins_and_their_failures_are_in_the_audit_log(gateway: Gateway) -> None:
    await gateway.client.post(LOGIN, json={"username": "eve", "password": "secret guess"})
    answer = await gateway.client.get("/api/v1/audit-logs?entityType=user&limit=100")
    entries = answer.json()["auditLogs"]
    assert entries[0]["action"] == "user.login_failed" and entries[0]["username"] == "eve"
    assert entries[0]["client"] == "192.0.2.1" and entries[0]["traceId"]
    assert {"user.login", "user.create"} <= {entry["action"] for entry in entries}
    assert "secret guess" not in answer.text and PASSWORD not in answer.text


async def test_the_limit_counts_each_client_by_itself(gateway: Gateway) -> None:
    for _ in range(10):
        await gateway.client.post(LOGIN, json={"username": "admin", "password": "guess"})
    assert (
        await gateway.client.post(LOGIN, json={"username": "admin", "password": PASSWORD})
    ).status_code == 429
    app = create_app(gateway.context)
    elsewhere = httpx.ASGITransport(app, client=("192.0.2.99", 1))
    async with httpx.AsyncClient(transport=elsewhere, base_url="http://admin") as client:
        assert await login(client, "admin")


async def test_a_dry_run_of_a_user_is_checked_and_undone(gateway: Gateway) -> None:
    body = {"username": "ann", "password": PASSWORD, "role": "Viewer"}
    dry = await gateway.client.post(f"{USERS}?dryRun=true", json=body)
    assert dry.status_code == 200 and dry.json()["added"] == 1
    assert (await gateway.client.get(USERS)).json()["total"] == 1
    user_id = (await gateway.client.post(USERS, json=body)).json()["userId"]
    url = f"{USERS}/{user_id}?dryRun=true"
    assert problem(await gateway.client.post(f"{USERS}?dryRun=true", json=body))[0] == 409
    fields = (await gateway.client.put(url, json={"role": "Admin"})).json()["changes"][0]["fields"]
    assert {"path": "role", "old": "Viewer", "new": "Admin"} in fields
    assert (await gateway.client.delete(url)).json()["removed"] == 1
    assert (await gateway.client.get(f"{USERS}/{user_id}")).json()["role"] == "Viewer"
    log = (await gateway.client.get("/api/v1/audit-logs?entityType=user")).json()["auditLogs"]
    assert [entry["action"] for entry in log] == ["user.create", "user.login", "user.create"]


async def failures(gateway: Gateway) -> list[dict[str, object]]:
    answer = await gateway.client.get("/api/v1/audit-logs?entityType=user&limit=100")
    return [entry for entry in answer.json()["auditLogs"] if "_" in entry["action"]]


async def test_a_flood_of_logins_does_not_flood_the_audit_log(gateway: Gateway) -> None:
    for _ in range(14):
        await gateway.client.post(LOGIN, json={"username": "victim", "password": "guess"})
    actions = [entry["action"] for entry in await failures(gateway)]
    assert actions == ["user.login_limited"] + ["user.login_failed"] * 10
    for number in range(40):
        await gateway.client.post(LOGIN, json={"username": f"user-{number}", "password": "guess"})
    assert len(await failures(gateway)) == 30


async def test_a_failed_change_of_password_is_in_the_audit_log(gateway: Gateway) -> None:
    body = {"currentPassword": "a guess", "newPassword": "a new password 123"}
    answer = await gateway.client.put("/api/v1/authentication/password", json=body)
    assert problem(answer)[2] == [("currentPassword", "password")]
    (entry,) = await failures(gateway)
    assert entry["action"] == "user.password_change_failed" and entry["username"] == "admin"
    assert entry["userId"] and "guess" not in str(entry)


async def test_only_some_logins_wait_for_their_turn(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotswap_proxy.store.passwords.MAX_WAITING", 3)
    names = [f"user-{number}" for number in range(8)]
    answers = await asyncio.gather(
        *(gateway.client.post(LOGIN, json={"username": name, "password": "guess"}) for name in names)
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[:3] == [401] * 3 and statuses[-1] == 503, statuses
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert problem(busy)[1] == "SERVICE_UNAVAILABLE" and busy.headers["retry-after"] == "1"
    assert await login(gateway.client, "admin")


async def test_a_developer_reads_what_there_is(gateway: Gateway) -> None:
    token = await gateway.as_role("Developer")
    for path in ("routes", "backends", "config/export", "nodes", "metrics"):
        answer = await gateway.client.get(f"/api/v1/gateway/{path}", headers=token)
        assert answer.status_code == 200, path
    document = {"version": "1", "routes": [ROUTE]}
    url = "/api/v1/gateway/config/validate"
    assert (await gateway.client.post(url, json=document, headers=token)).status_code == 200
