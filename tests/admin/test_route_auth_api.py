"""Secrets of routes in the API: written, kept, and never shown."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import text

from tests.gateway import ROUTE, ROUTES, Gateway, problem, running
from tests.tokens import SECRET, pem, rsa_key

pytestmark = pytest.mark.anyio

CONFIG = "/api/v1/gateway/config"
MASK = "********"
OTHER = "another secret of at least 32 bytes"
KEY = "plain-key-of-a-client"
JWT = {"type": "jwt", "secret": SECRET, "roles": ["a"]}


@pytest.fixture
async def told(tmp_path: Path) -> AsyncIterator[tuple[Gateway, list[str]]]:
    """A gateway, and all that its API has answered; at the end no secret may be among it."""
    answers: list[str] = []

    async def note(answer: httpx.Response) -> None:
        await answer.aread()
        answers.append(answer.text + str(answer.headers))

    async with running(tmp_path) as gateway:
        gateway.client.event_hooks["response"].append(note)
        yield gateway, answers

        def audited(connection: Any) -> str:
            return str(connection.execute(text("select * from audit_logs")).all())

        answers.append(await gateway.store.read(audited))
    assert len(answers) > 2
    for secret in (SECRET, OTHER, KEY):
        assert not [answer for answer in answers if secret in answer]


Told = tuple[Gateway, list[str]]


async def stored(gateway: Gateway, route_id: str) -> dict[str, Any]:
    def read(connection: Any) -> dict[str, Any]:
        query = text("select document from routes where route_id = :id")
        document: dict[str, Any] = orjson.loads(connection.execute(query, {"id": route_id}).scalar_one())
        return document

    return await gateway.store.read(read)


async def test_a_secret_is_masked_wherever_a_route_is_shown(told: Told) -> None:
    gateway, _ = told
    made = await gateway.add_route(auth=JWT)
    assert made["auth"]["secret"] == MASK
    path = f"{ROUTES}/{made['routeId']}"
    got = (await gateway.client.get(path)).json()
    assert got["auth"] == made["auth"]
    listed = (await gateway.client.get(ROUTES)).json()["routes"]
    assert listed[0]["auth"]["secret"] == MASK
    version = (await gateway.client.get(f"{path}/versions/1.0")).json()
    assert version["route"]["auth"]["secret"] == MASK
    exported = (await gateway.client.get(f"{CONFIG}/export")).json()
    assert exported["routes"][0]["auth"]["secret"] == MASK
    dry = await gateway.client.put(path, json={"auth": {"secret": OTHER}}, params={"dryRun": "true"})
    assert dry.json()["changes"][0]["fields"] == [{"path": "auth.secret", "old": MASK, "new": MASK}]
    done = await gateway.client.put(path, json={"auth": {"secret": OTHER}})
    assert (done.json()["version"], done.json()["auth"]["secret"]) == ("1.1", MASK)
    audit = (await gateway.client.get("/api/v1/audit-logs")).json()["auditLogs"]
    assert audit[0]["details"]["fields"] == [{"path": "auth.secret", "old": MASK, "new": MASK}]
    await gateway.client.put(path, json={"auth": None})
    await gateway.client.put(path, json={"auth": JWT})
    await gateway.client.put(path, json={"auth": {"type": "none"}})
    audit = (await gateway.client.get("/api/v1/audit-logs")).json()["auditLogs"]
    changed = [entry["details"]["fields"][0] for entry in audit[:3]]
    assert [field["path"] for field in changed] == ["auth.clockSkew", "auth", "auth"]
    assert changed[1]["new"]["secret"] == MASK
    assert (await stored(gateway, made["routeId"]))["auth"] == {"type": "none"}


async def test_a_secret_stays_until_another_is_given(told: Told) -> None:
    gateway, _ = told
    made = await gateway.add_route(auth=JWT)
    path = f"{ROUTES}/{made['routeId']}"
    for given in (made["auth"], {"secret": MASK}, {"type": "jwt", "roles": ["a"]}, {}):
        answer = await gateway.client.put(path, json={"auth": given})
        assert (answer.status_code, answer.json()["version"]) == (200, "1.0"), given
    answer = await gateway.client.put(path, json={"auth": {"roles": ["b"]}})
    assert answer.json()["auth"] == made["auth"] | {"roles": ["b"]}
    assert (await stored(gateway, made["routeId"]))["auth"]["secret"] == SECRET
    answer = await gateway.client.put(path, json={"auth": {"publicKey": pem(rsa_key())}})
    assert "secret" not in answer.json()["auth"], "another source takes its place"
    answer = await gateway.client.put(path, json={"auth": {"secret": MASK, "publicKey": None}})
    assert problem(answer) == (400, "VALIDATION_ERROR", [("auth.secret", "masked")])


async def test_a_mask_is_no_secret_of_a_new_route(told: Told) -> None:
    gateway, _ = told
    refused = (400, "VALIDATION_ERROR", [("auth.secret", "masked")])
    answer = await gateway.client.post(ROUTES, json=ROUTE | {"auth": JWT | {"secret": MASK}})
    assert problem(answer) == refused
    document = {"version": "1", "routes": [ROUTE | {"auth": JWT | {"secret": MASK}}]}
    answer = await gateway.client.post(f"{CONFIG}/apply", json=document)
    assert problem(answer)[2] == [("routes[0].auth.secret", "masked")]
    document["routes"][0]["auth"]["secret"] = SECRET  # type: ignore[index]
    assert (await gateway.client.post(f"{CONFIG}/apply", json=document)).status_code == 200


async def test_an_export_can_be_applied_where_it_comes_from(told: Told) -> None:
    gateway, _ = told
    made = await gateway.add_route(auth=JWT)
    keys = [{"name": "a", "key": KEY}]
    await gateway.add_route(name="b", pathPattern="/b", auth={"type": "apiKey", "apiKeys": keys})
    exported = (await gateway.client.get(f"{CONFIG}/export")).json()
    for call in ("validate", "apply"):
        plan = (await gateway.client.post(f"{CONFIG}/{call}", json=exported)).json()
        assert (plan["unchanged"], plan["changes"]) == (2, [])
    exported["routes"][1]["auth"]["secret"] = OTHER
    plan = (await gateway.client.post(f"{CONFIG}/apply", json=exported)).json()
    assert [field["path"] for field in plan["changes"][0]["fields"]] == ["auth.secret"]
    assert (await stored(gateway, made["routeId"]))["auth"]["secret"] == OTHER


async def test_of_an_api_key_only_the_hash_is_kept(told: Told) -> None:
    gateway, _ = told
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    keys = [{"name": "a", "key": KEY, "roles": ["r"]}, {"name": "b", "keyHash": "AB" * 32}]
    made = await gateway.add_route(auth={"type": "apiKey", "apiKeys": keys})
    kept = [{"name": "a", "keyHash": hashed, "roles": ["r"]}, {"name": "b", "keyHash": "ab" * 32}]
    assert made["auth"]["apiKeys"] == kept
    path = f"{ROUTES}/{made['routeId']}"
    answer = await gateway.client.put(path, json={"auth": made["auth"]})
    assert answer.json()["version"] == "1.0"
    answer = await gateway.client.put(path, json={"auth": {"apiKeys": keys[:1]}})
    assert (answer.json()["version"], answer.json()["auth"]["apiKeys"]) == ("1.1", kept[:1])

    def everything(connection: Any) -> str:
        found = [str(connection.execute(text(f"select * from {name}")).all()) for name in
                 ("routes", "route_versions", "audit_logs")]  # fmt: skip
        return "".join(found)

    assert KEY not in await gateway.store.read(everything)


@pytest.mark.parametrize(
    ("auth", "field"),
    [
        ({"type": "jwt"}, "auth"),
        ({"type": "jwt", "secret": SECRET, "jwksUrl": "https://a.example/k"}, "auth"),
        ({"type": "jwt", "secret": "short"}, "auth.secret"),
        ({"type": "jwt", "secret": SECRET, "algorithms": ["HS512"]}, "auth.secret"),
        ({"type": "jwt", "secret": SECRET, "algorithms": ["none"]}, "auth.algorithms[0]"),
        ({"type": "jwt", "secret": SECRET, "algorithms": ["RS256"]}, "auth.algorithms"),
        ({"type": "jwt", "publicKey": "-----BEGIN PUBLIC KEY-----"}, "auth.publicKey"),
        ({"type": "jwt", "secret": SECRET, "identityHeader": "Host"}, "auth.identityHeader"),
        ({"type": "jwt", "secret": SECRET, "identityHeader": "a b"}, "auth.identityHeader"),
        ({"type": "jwt", "secret": SECRET, "clockSkew": "11m"}, "auth.clockSkew"),
        ({"type": "jwt", "secret": SECRET, "apiKeys": []}, "auth.apiKeys"),
        ({"type": "apiKey", "apiKeys": []}, "auth.apiKeys"),
        ({"type": "apiKey", "apiKeys": [{"name": "a", "key": "too-short"}]}, "auth.apiKeys[0].key"),
        ({"type": "apiKey", "apiKeys": [{"name": "a", "key": "with a blank inside"}]}, "auth.apiKeys[0].key"),
        ({"type": "apiKey", "apiKeys": [{"name": "a"}]}, "auth.apiKeys[0]"),
        ({"type": "apiKey", "apiKeys": [{"name": "a", "key": KEY}] * 2}, "auth.apiKeys[1]"),
        ({"type": "basic"}, "auth.type"),
        ({}, "auth.type"),
        ({"type": "jwt", "secret": SECRET, "requiredClaims": {"role": {}}}, "auth.requiredClaims.role"),
        ({"type": "jwt", "secret": SECRET, "audience": [5]}, "auth.audience"),
        ({"type": "jwt", "jwksUrl": f"https://user:{SECRET}/@a.example/k"}, "auth.jwksUrl"),
    ],
)
async def test_mistakes_are_named_without_repeating_a_secret(
    gateway: Gateway, auth: dict[str, Any], field: str
) -> None:
    answer = await gateway.client.post(ROUTES, json=ROUTE | {"auth": auth})
    status, code, details = problem(answer)
    assert (status, code) == (400, "VALIDATION_ERROR")
    assert details[0][0] == field
    for secret in (SECRET, KEY, "too-short", "with a blank"):
        assert secret not in answer.text


@pytest.mark.parametrize(
    ("validation", "field"),
    [
        ({"contentTypes": ["json"]}, "validation.contentTypes[0]"),
        ({"contentTypes": []}, "validation.contentTypes"),
        ({"maxBodySize": 0}, "validation.maxBodySize"),
        ({"requiredHeaders": ["a b"]}, "validation.requiredHeaders[0]"),
        ({"requiredQuery": [""]}, "validation.requiredQuery[0]"),
        ({"jsonSchema": {"type": "objekt"}}, "validation.jsonSchema"),
        ({"jsonSchema": {"properties": {"a": {"$ref": "https://a.example/s"}}}}, "validation.jsonSchema"),
        ({"jsonSchema": {"$ref": "other.json"}}, "validation.jsonSchema"),
        ({"jsonSchema": {"$ref": "#/$defs/none"}}, "validation.jsonSchema"),
        ({"jsonSchema": {"pattern": "(?=a)b"}}, "validation.jsonSchema"),
        ({"jsonSchema": True}, "validation.jsonSchema"),
        ({"bodySchema": {}}, "validation.bodySchema"),
    ],
)
async def test_mistakes_in_validation_are_named(
    gateway: Gateway, validation: dict[str, Any], field: str
) -> None:
    answer = await gateway.client.post(ROUTES, json=ROUTE | {"validation": validation})
    status, code, details = problem(answer)
    assert (status, code, details[0][0]) == (400, "VALIDATION_ERROR", field)


async def test_a_schema_is_kept_as_it_was_given(gateway: Gateway) -> None:
    schema = {"type": "object", "properties": {"a": {"const": None}}, "$defs": {"x": True}}
    validation = {"jsonSchema": schema, "contentTypes": ["application/json"]}
    made = await gateway.add_route(validation=validation)
    assert made["validation"] == validation
    path = f"{ROUTES}/{made['routeId']}"
    answer = await gateway.client.put(path, json={"validation": {"contentTypes": None}})
    assert answer.json()["validation"] == {"jsonSchema": schema}
