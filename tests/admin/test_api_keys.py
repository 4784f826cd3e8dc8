"""API keys: shown once, kept as a hash, never worth more than their user."""

from __future__ import annotations

import asyncio
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from hotswap_proxy.admin import identity
from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.store import api_keys
from hotswap_proxy.store.times import rfc3339
from tests.gateway import PASSWORD, ROUTE, ROUTES, Gateway, problem

pytestmark = pytest.mark.anyio
KEYS = "/api/v1/authentication/api-keys"
ME = "/api/v1/authentication/me"
USERS = "/api/v1/users"


async def make(gateway: Gateway, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    answer = await gateway.client.post(KEYS, json={"name": "ci"} | fields, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def bearer(made: dict[str, Any]) -> dict[str, str]:
    return {"authorization": f"Bearer {made['key']}"}


async def status(gateway: Gateway, headers: dict[str, str], path: str = ME) -> int:
    return (await gateway.client.get(path, headers=headers)).status_code


async def test_a_key_is_shown_once_and_kept_as_a_hash(gateway: Gateway) -> None:
    made = await make(gateway)
    assert made["role"] == "Admin" and made["expiresAt"] is None and made["lastUsedAt"] is None
    digits = made["keyId"].removeprefix("key-")
    assert made["key"].startswith(f"hsk_{digits}_") and len(made["key"].rpartition("_")[2]) == 64
    (listed,) = (await gateway.client.get(KEYS)).json()["apiKeys"]
    assert listed == {name: value for name, value in made.items() if name != "key"}

    def everything(connection: Connection) -> str:
        tables = ("api_keys", "audit_logs")
        return str([connection.execute(text(f"SELECT * FROM {name}")).all() for name in tables])

    assert made["key"].rpartition("_")[2] not in await gateway.store.read(everything)


async def test_what_is_done_by_a_key_names_user_and_key(gateway: Gateway) -> None:
    made = await make(gateway)
    answer = await gateway.client.post(ROUTES, json=ROUTE, headers=bearer(made))
    assert answer.status_code == 201
    entries = (await gateway.client.get("/api/v1/audit-logs")).json()["auditLogs"]
    assert [(entry["action"], entry["username"], entry["apiKeyId"]) for entry in entries[:2]] == [
        ("route.create", "admin", made["keyId"]),
        ("apikey.create", "admin", None),
    ]
    assert entries[1]["entityId"] == made["keyId"]
    assert await gateway.client.delete(f"{KEYS}/{made['keyId']}")
    (entry,) = (await gateway.client.get("/api/v1/audit-logs?limit=1")).json()["auditLogs"]
    assert (entry["action"], entry["entityName"]) == ("apikey.delete", "ci")


@pytest.mark.parametrize("how", ["id", "secret", "short", "prefix", "empty"])
async def test_a_wrong_key_is_refused(gateway: Gateway, how: str) -> None:
    key = (await make(gateway))["key"]
    other = "f" if key[-1] != "f" else "0"
    wrong = {
        "id": f"hsk_{'0' * 16}_{key.rpartition('_')[2]}",
        "secret": key[:-1] + other,
        "short": key[:-1],
        "prefix": key.removeprefix("hsk_"),
        "empty": "",
    }[how]
    for headers in ({"authorization": f"Bearer {wrong}"}, {"authorization": "", "x-api-key": wrong}):
        answer = await gateway.client.get(ME, headers=headers)
        assert problem(answer)[:2] == (401, "UNAUTHORIZED")
        assert not wrong or wrong not in answer.text


async def test_a_key_is_compared_in_constant_time(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []
    compare = hmac.compare_digest

    def noting(one: str, other: str) -> bool:
        compared.append((one, other))
        return compare(one, other)

    key = (await make(gateway))["key"]
    monkeypatch.setattr(api_keys.hmac, "compare_digest", noting)
    assert await status(gateway, {"authorization": f"Bearer {key}"}) == 200
    assert len(compared) == 1 and compared[0][0] == compared[0][1]
    # An id that nobody has costs as much as one that somebody has.
    assert await status(gateway, {"authorization": f"Bearer hsk_{'0' * 16}_{'0' * 64}"}) == 401
    assert len(compared) == 2


async def test_a_token_and_a_key_at_once_are_refused(gateway: Gateway) -> None:
    key = (await make(gateway))["key"]
    assert await status(gateway, {"x-api-key": key}) == 401, "the client's token is sent as well"


async def test_an_expired_key_is_refused(gateway: Gateway) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    made = await make(gateway, expiresAt=soon.isoformat())
    assert made["expiresAt"] == rfc3339(soon) and await status(gateway, bearer(made)) == 200
    past = rfc3339(datetime.now(UTC) - timedelta(seconds=1))
    # The store's clock decides, and a test cannot set that of PostgreSQL.
    lapse = text("UPDATE api_keys SET expires_at = :past").bindparams(past=past)
    await gateway.store.write(lambda connection: connection.execute(lapse).rowcount)
    assert await status(gateway, bearer(made)) == 401


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({"expiresAt": "2020-01-01T00:00:00Z"}, [("expiresAt", "in_future")]),
        ({"expiresAt": "2999-01-01T00:00:00"}, [("expiresAt", "timezone_aware")]),
        ({"role": "Root"}, [("role", "literal_error")]),
        ({"name": ""}, [("name", "string_too_short")]),
        ({"key": "hsk_1"}, [("key", "unknown_field")]),
    ],
)
async def test_bad_keys_are_refused(
    gateway: Gateway, fields: dict[str, Any], problems: list[tuple[str, str]]
) -> None:
    found = problem(await gateway.client.post(KEYS, json={"name": "ci"} | fields))
    assert found[0] == 400 and found[2] == problems


@pytest.mark.parametrize(
    ("user", "role", "fits"),
    [
        ("Admin", "Operator", True),
        ("Operator", "Operator", True),
        ("Operator", "Viewer", True),
        ("Operator", "Admin", False),
        ("Operator", "Developer", False),
        ("Developer", "Operator", False),
        ("Viewer", "Developer", False),
    ],
)
async def test_a_key_has_at_most_its_users_role(gateway: Gateway, user: str, role: str, fits: bool) -> None:
    token = await gateway.as_role(user)
    answer = await gateway.client.post(KEYS, json={"name": "ci", "role": role}, headers=token)
    if fits:
        me = (await gateway.client.get(ME, headers=bearer(answer.json()))).json()
        assert me["role"] == role
    else:
        assert problem(answer)[2] == [("role", "role")]


@pytest.mark.parametrize(
    ("key", "user", "effective"),
    [
        ("Admin", "Operator", "Operator"),
        ("Operator", "Viewer", "Viewer"),
        ("Operator", "Developer", "Viewer"),
        ("Viewer", "Admin", "Viewer"),
    ],
)
async def test_a_key_follows_the_role_of_its_user(
    gateway: Gateway, key: str, user: str, effective: str
) -> None:
    token = await gateway.as_role("Admin")
    made = await make(gateway, token, role=key)
    assert (await gateway.client.put(f"{USERS}/{made['userId']}", json={"role": user})).is_success
    assert (await gateway.client.get(ME, headers=bearer(made))).json()["role"] == effective


async def test_a_disabled_or_removed_users_key_ends(gateway: Gateway) -> None:
    made = await make(gateway, await gateway.as_role("Operator"))
    url = f"{USERS}/{made['userId']}"
    await gateway.client.put(url, json={"isEnabled": False})
    assert await status(gateway, bearer(made)) == 401
    await gateway.client.put(url, json={"isEnabled": True})
    assert await status(gateway, bearer(made)) == 200
    await gateway.client.delete(url)
    assert await status(gateway, bearer(made)) == 401
    assert (await gateway.client.get(KEYS)).json()["total"] == 0


async def test_everyone_sees_and_ends_their_own_keys_only(gateway: Gateway) -> None:
    token = await gateway.as_role("Operator")
    mine, theirs = await make(gateway, token), await make(gateway)
    listed = (await gateway.client.get(KEYS, headers=token)).json()
    assert [key["keyId"] for key in listed["apiKeys"]] == [mine["keyId"]]
    answer = await gateway.client.get(KEYS, params={"userId": theirs["userId"]}, headers=token)
    assert problem(answer)[0] == 403
    assert problem(await gateway.client.delete(f"{KEYS}/{theirs['keyId']}", headers=token))[0] == 404
    assert (await gateway.client.get(KEYS)).json()["total"] == 2
    chosen = (await gateway.client.get(KEYS, params={"userId": mine["userId"]})).json()
    assert [key["keyId"] for key in chosen["apiKeys"]] == [mine["keyId"]]
    assert (await gateway.client.delete(f"{KEYS}/{mine['keyId']}")).status_code == 204
    assert await status(gateway, bearer(mine)) == 401 and await status(gateway, bearer(theirs)) == 200


async def test_a_key_makes_no_keys(gateway: Gateway) -> None:
    made = await make(gateway)
    answer = await gateway.client.post(KEYS, json={"name": "more"}, headers=bearer(made))
    assert problem(answer)[0] == 403
    assert (await gateway.client.delete(f"{KEYS}/{made['keyId']}", headers=bearer(made))).status_code == 204


async def test_a_key_ends_no_other_keys_unless_it_is_an_administrators(gateway: Gateway) -> None:
    strong, weak = await make(gateway), await make(gateway, name="weak", role="Viewer")
    url = f"{KEYS}/{strong['keyId']}"
    refused = await gateway.client.delete(url, headers=bearer(weak))
    assert problem(refused)[:2] == (403, "FORBIDDEN")
    assert (await gateway.client.delete(f"{KEYS}/{weak['keyId']}", headers=bearer(weak))).status_code == 204
    other = await make(gateway, name="weak", role="Viewer")
    assert (
        await gateway.client.delete(f"{KEYS}/{other['keyId']}", headers=bearer(strong))
    ).status_code == 204


async def test_keys_of_a_user_are_bounded_and_their_names_unique(gateway: Gateway) -> None:
    for number in range(api_keys.MOST - 1):
        await make(gateway, name=f"k{number}")
    assert problem(await gateway.client.post(KEYS, json={"name": "k1"}))[2] == [("name", "unique")]
    await make(gateway, name="last")
    assert problem(await gateway.client.post(KEYS, json={"name": "more"}))[:2] == (409, "CONFLICT")
    await make(gateway, await gateway.as_role("Operator"), name="k1")


async def test_dry_runs_make_and_end_nothing(gateway: Gateway) -> None:
    answer = await gateway.client.post(KEYS, json={"name": "ci"}, params={"dryRun": True})
    assert answer.status_code == 200 and "hsk_" not in answer.text and answer.json()["added"] == 1
    made = await make(gateway)
    answer = await gateway.client.delete(f"{KEYS}/{made['keyId']}", params={"dryRun": True})
    assert answer.json()["removed"] == 1 and await status(gateway, bearer(made)) == 200


async def test_the_last_use_is_noted_once_a_minute(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = asyncio.Semaphore(0)
    beats = 0
    beat = gateway.store.beat

    async def counting(*args: Any) -> Any:
        nonlocal beats
        beats += 1
        try:
            return await beat(*args)
        finally:
            noted.release()

    monkeypatch.setattr(type(gateway.store), "beat", lambda _self, *args: counting(*args))
    made = await make(gateway)
    await status(gateway, bearer(made))
    await noted.acquire()
    for _ in range(3):
        await status(gateway, bearer(made))
    (key,) = (await gateway.client.get(KEYS)).json()["apiKeys"]
    assert key["lastUsedAt"] > key["createdAt"] and beats == 1
    monkeypatch.setattr(identity, "USE_INTERVAL", timedelta(0))
    await status(gateway, bearer(made))
    await noted.acquire()
    assert beats == 2


async def test_a_use_that_cannot_be_noted_does_not_matter(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()

    async def refuse(*_: Any) -> None:
        failed.set()
        raise StoreUnavailable("full")

    made = await make(gateway)
    monkeypatch.setattr(type(gateway.store), "beat", refuse)
    assert await status(gateway, bearer(made)) == 200
    await failed.wait()
    assert await status(gateway, bearer(made)) == 200


async def test_a_changed_password_ends_tokens_but_not_keys(gateway: Gateway) -> None:
    token = await gateway.as_role("Operator")
    made = await make(gateway, token)
    change = {"currentPassword": PASSWORD, "newPassword": "another password"}
    answer = await gateway.client.put("/api/v1/authentication/password", json=change, headers=token)
    assert answer.status_code == 204
    assert await status(gateway, token) == 401 and await status(gateway, bearer(made)) == 200
