"""The audit log through the API: its head, its verification, and who was denied what."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection, text

from hotswap_proxy.admin.trail import DENIALS
from hotswap_proxy.store import audit_chain
from hotswap_proxy.store.migrations import audit_log
from tests.gateway import ROUTES, Gateway, problem

pytestmark = pytest.mark.anyio
LOG = "/api/v1/audit-logs"


def change_row(connection: Connection, audit_id: int) -> None:
    audit_log.make_ordinary(connection)
    values = {"id": audit_id}
    connection.execute(text("UPDATE audit_logs SET username = 'eve' WHERE audit_id = :id"), values)


async def test_a_changed_row_is_told(gateway: Gateway) -> None:
    await gateway.add_route()
    head = (await gateway.client.get(f"{LOG}/head")).json()
    answer = await gateway.client.get(f"{LOG}/verify", params={"expect": head["hash"]})
    assert answer.json() == {
        "valid": True,
        "checked": head["count"],
        "head": head,
        "firstBroken": None,
        "expectedAuditId": head["auditId"],
    }
    (newest,) = (await gateway.client.get(f"{LOG}?limit=1")).json()["auditLogs"]
    assert newest["hash"] == head["hash"] and len(newest["previousHash"]) == 64
    await gateway.store.write(change_row, 2)
    found = (await gateway.client.get(f"{LOG}/verify")).json()
    assert not found["valid"] and found["checked"] == 1 and found["firstBroken"]["auditId"] == 2


async def test_an_expected_hash_that_is_missing_is_told(gateway: Gateway) -> None:
    found = (await gateway.client.get(f"{LOG}/verify", params={"expect": "ab" * 32})).json()
    assert not found["valid"] and "expected" in found["firstBroken"]["what"]
    answer = await gateway.client.get(f"{LOG}/verify", params={"expect": "ab"})
    assert problem(answer)[2] == [("expect", "string_pattern_mismatch")]


async def test_one_verification_at_a_time(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    go = asyncio.Event()
    started = asyncio.Event()
    verify = audit_chain.verify

    async def slow(*args: Any) -> Any:
        started.set()
        await go.wait()
        return await verify(*args)

    monkeypatch.setattr(audit_chain, "verify", slow)
    first = asyncio.create_task(gateway.client.get(f"{LOG}/verify"))
    await started.wait()
    assert problem(await gateway.client.get(f"{LOG}/verify"))[0] == 409
    go.set()
    assert (await first).json()["valid"]
    assert (await gateway.client.get(f"{LOG}/verify")).json()["valid"]


async def test_denials_are_in_the_log_but_do_not_flood_it(gateway: Gateway) -> None:
    viewer = await gateway.as_role("Viewer")
    for _ in range(DENIALS + 5):
        assert problem(await gateway.client.delete(f"{ROUTES}/rt-1?x=s3cret", headers=viewer))[0] == 403
    await gateway.client.get("/api/v1/users", headers=await gateway.as_role("Operator"))
    answer = (await gateway.client.get(f"{LOG}?entityType=access&limit=100")).json()
    assert answer["total"] == DENIALS + 1
    newest, *others = answer["auditLogs"]
    assert (newest["username"], newest["action"]) == ("operator-user", "access.denied")
    assert newest["details"] == {"method": "GET", "path": "/api/v1/users", "role": "Operator"}
    assert {entry["username"] for entry in others} == {"viewer-user"}
    assert others[0]["details"]["path"] == f"{ROUTES}/rt-1"
    assert others[0]["client"] == "192.0.2.1" and others[0]["traceId"]


async def test_a_denial_by_key_names_it(gateway: Gateway) -> None:
    made = await gateway.client.post("/api/v1/authentication/api-keys", json={"name": "ci", "role": "Viewer"})
    key = {"authorization": f"Bearer {made.json()['key']}"}
    assert problem(await gateway.client.get(LOG, headers=key))[0] == 403
    (entry,) = (await gateway.client.get(f"{LOG}?entityType=access")).json()["auditLogs"]
    assert entry["apiKeyId"] == made.json()["keyId"] and entry["details"]["role"] == "Viewer"


async def test_strangers_leave_no_rows(gateway: Gateway) -> None:
    before = (await gateway.client.get(f"{LOG}/head")).json()
    for _ in range(5):
        answer = await gateway.client.get(LOG, headers={"authorization": "Bearer x.y.z"})
        assert answer.status_code == 401
    assert (await gateway.client.get(f"{LOG}/head")).json() == before
