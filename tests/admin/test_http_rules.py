"""What holds for every call: bodies, errors, headers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.gateway import NODE, ROUTE, ROUTES, Gateway, problem

pytestmark = pytest.mark.anyio
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":1,}', b"\xff\xfe", b"{'a':1}", b"NaN"])
async def test_malformed_json_is_refused(gateway: Gateway, body: bytes) -> None:
    answer = await gateway.client.post(ROUTES, content=body, headers=JSON)
    assert problem(answer) == (400, "VALIDATION_ERROR", [])
    assert "line" in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1"])
async def test_the_body_is_an_object(gateway: Gateway, body: bytes) -> None:
    answer = await gateway.client.post(ROUTES, content=body, headers=JSON)
    assert problem(answer)[:2] == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_only_json_is_read(gateway: Gateway, media_type: str | None) -> None:
    headers = {"content-type": media_type} if media_type else {}
    answer = await gateway.client.post(ROUTES, content=json.dumps(ROUTE).encode(), headers=headers)
    assert problem(answer)[:2] == (415, "UNSUPPORTED_MEDIA_TYPE")
    good = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await gateway.client.post(ROUTES, content=json.dumps(ROUTE).encode(), headers=good)).is_success


async def test_large_bodies_are_refused_before_they_are_read(gateway: Gateway) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10_000_000:
            sent += 65_536
            yield b" " * 65_536

    answer = await gateway.client.post(ROUTES, content=body(), headers=JSON)
    assert problem(answer)[:2] == (413, "PAYLOAD_TOO_LARGE")
    told = await gateway.client.post(ROUTES, content=b"x" * (1024 * 1024 + 1), headers=JSON)
    assert problem(told)[0] == 413
    fits = json.dumps(ROUTE).encode().ljust(1024 * 1024)
    assert (await gateway.client.post(ROUTES, content=fits, headers=JSON)).status_code == 201


async def test_unknown_paths_and_methods_have_the_format_of_all_errors(gateway: Gateway) -> None:
    assert problem(await gateway.client.get("/nix")) == (404, "NOT_FOUND", [])
    assert problem(await gateway.client.get(ROUTES + "/"))[0] == 404
    answer = await gateway.client.patch(ROUTES)
    assert problem(answer)[:2] == (405, "METHOD_NOT_ALLOWED")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


async def test_the_request_id_is_kept_or_made(gateway: Gateway) -> None:
    kept = await gateway.client.get(ROUTES, headers={"x-request-id": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    for bad in ("a b", "a" * 65, "<script>"):
        made = (await gateway.client.get(ROUTES, headers={"x-request-id": bad})).headers["x-request-id"]
        assert made != bad and len(made) == 32


async def test_every_answer_carries_security_headers(gateway: Gateway) -> None:
    for path in (ROUTES, "/nix", "/metrics"):
        headers = (await gateway.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]


async def test_a_parameter_given_twice_is_ambiguous(gateway: Gateway) -> None:
    assert problem(await gateway.client.get(f"{ROUTES}?limit=1&limit=2"))[0] == 400


async def test_a_bug_answers_500_without_telling_what(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(gateway.node, "summary", broken)
    answer = await gateway.client.get("/api/v1/gateway/metrics")
    assert problem(answer)[:2] == (500, "INTERNAL_ERROR") and "secret" not in answer.text


async def test_the_node_shows_itself(gateway: Gateway) -> None:
    del gateway.client.headers["authorization"]
    health = await gateway.client.get("/api/v1/gateway/health")
    assert health.status_code == 200 and health.json()["ready"] is True
    gateway.node.ready = False
    assert (await gateway.client.get("/api/v1/gateway/health")).status_code == 503
    metrics = await gateway.client.get("/metrics")
    assert metrics.text == "gateway_routes_count 1\n"
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    head = await gateway.client.head("/metrics")
    assert head.status_code == 200


async def test_metrics_and_nodes_need_a_login(gateway: Gateway) -> None:
    assert (await gateway.client.get("/api/v1/gateway/metrics")).json()["totalRequests"] == 7
    shown = (await gateway.client.get("/api/v1/gateway/nodes")).json()
    assert shown == {"nodes": [NODE | {"drivesDeployments": False}]}


async def test_the_audit_log_tells_who_did_what(gateway: Gateway) -> None:
    made = await gateway.add_route()
    url = f"{ROUTES}/{made['routeId']}"
    await gateway.client.put(url, json={"priority": 5}, headers={"x-request-id": "my-trace"})
    await gateway.client.delete(url)
    log = "/api/v1/audit-logs"
    entries = (await gateway.client.get(f"{log}?entityType=route&entityId={made['routeId']}")).json()
    assert [entry["action"] for entry in entries["auditLogs"]] == [
        "route.delete",
        "route.update",
        "route.create",
    ]
    update = entries["auditLogs"][1]
    assert update["details"] == {"fields": [{"path": "priority", "old": 0, "new": 5}]}
    assert update["username"] == "admin" and update["traceId"] == "my-trace"
    mine = await gateway.client.get(log, params={"userId": update["userId"], "entityType": "route"})
    assert mine.json()["total"] == 3
    later = await gateway.client.get(log, params={"from": update["timestamp"], "entityType": "route"})
    assert [entry["action"] for entry in later.json()["auditLogs"]] == ["route.delete", "route.update"]
    earlier = await gateway.client.get(log, params={"to": update["timestamp"], "entityType": "route"})
    assert earlier.json()["total"] == 1
    shifted = await gateway.client.get(log, params={"from": "2000-01-01T00:00:00+05:00"})
    assert shifted.is_success
    for bad in (
        "yesterday",
        "2025-01-01T00:00:00",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
    ):
        assert problem(await gateway.client.get(log, params={"from": bad}))[2][0][0] == "from"


async def test_an_encoded_slash_does_not_end_an_id(gateway: Gateway) -> None:
    made = await gateway.add_route()
    for separator in ("%2F", "%2f"):
        answer = await gateway.client.get(f"{ROUTES}/{made['routeId']}{separator}versions")
        assert problem(answer)[:2] == (404, "NOT_FOUND")
        assert "nosniff" in answer.headers["x-content-type-options"]
    encoded = made["routeId"].replace("-", "%2D")
    assert (await gateway.client.get(f"{ROUTES}/{encoded}/versions")).status_code == 200


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
async def test_text_with_nul_is_nobodys_name(gateway: Gateway) -> None:
    """PostgreSQL refuses it, which would be an error of ours."""
    for path in (
        "/api/v1/gateway/routes/%00",
        "/api/v1/users/a%00b",
        "/api/v1/gateway/routes/x/versions/%00",
    ):
        assert problem(await gateway.client.get(path))[:2] == (404, "NOT_FOUND")
    for query in ("name=%00", "name=a%00b"):
        assert problem(await gateway.client.get(f"{ROUTES}?{query}"))[2] == [("name", "nul")]
    answer = await gateway.client.post("/api/v1/gateway/health-checks", json={"backendId": "a\0"})
    assert problem(answer)[2] == [("backendId", "string_pattern_mismatch")]
    audit = await gateway.client.get("/api/v1/audit-logs?userId=%00")
    assert problem(audit)[2] == [("userId", "nul")]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("limit=5.0", "int_parsing"),
        ("limit=1_0", "int_parsing"),
        ("limit=%205", "int_parsing"),
        ("offset=%2B1", "int_parsing"),
        ("offset=99999999999999999999", "int_parsing"),
        ("isEnabled=yes", "bool_parsing"),
        ("isEnabled=1", "bool_parsing"),
        ("isEnabled=True", "bool_parsing"),
    ],
)
async def test_query_parameters_are_written_as_in_json(gateway: Gateway, query: str, rule: str) -> None:
    answer = await gateway.client.get(f"{ROUTES}?{query}")
    assert problem(answer)[2] == [(query.partition("=")[0], rule)]
