"""JSON bodies that a route's schema lets pass, and those that it does not."""

from __future__ import annotations

import json

import pytest
from harness.worker import backend, route

from tests.proxy.test_bodies import echo

SCHEMA = {
    "type": "object",
    "required": ["items"],
    "properties": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"price": {"type": "number", "minimum": 0}, "sku": {"pattern": "^[A-Z]+$"}},
            },
        }
    },
}
JSON = "Content-Type: application/json"
GOOD = b'{"items": [{"price": 1, "sku": "AB"}]}'


@pytest.fixture
def server(plane, make_backend):
    server = make_backend(echo)
    plane.publish(
        route("/**", backend(server.url), policy={"validation": {"jsonSchema": json.dumps(SCHEMA)}})
    )
    return server


def details(answer):
    assert answer.status == 400
    error = json.loads(answer.body)["error"]
    assert error["code"] == "VALIDATION_ERROR"
    assert error["traceId"] == answer.header("X-Request-ID")
    return [(detail["field"], detail["rule"]) for detail in error["details"]]


def test_a_body_that_fits_goes_on_as_it_came(server, connect):
    client = connect()
    for kind in ("application/json", "APPLICATION/JSON; charset=utf-8", "application/vnd.order+json"):
        answer = client.get("/", f"Content-Type: {kind}", method="POST", body=GOOD)
        assert answer.body == GOOD
    assert server.requests[-1].header("Content-Type") == "application/vnd.order+json"


def test_what_is_wrong_is_told_with_its_place(server, connect):
    client = connect()
    body = json.dumps({"items": [{}, {}, {}, {"price": "7"}, {"price": -1, "sku": "x"}]}).encode()
    found = details(client.get("/", JSON, method="POST", body=body))
    assert sorted(found) == [
        ("$.items[3].price", "type"),
        ("$.items[4].price", "minimum"),
        ("$.items[4].sku", "pattern"),
    ]
    assert details(client.get("/", JSON, method="POST", body=b"{}")) == [("$", "required")]
    # The connection goes on: the body was read.
    assert client.get("/", JSON, method="POST", body=GOOD).status == 200
    assert len(server.requests) == 1


def test_text_for_who_wants_no_json(server, connect):
    answer = connect().get("/", JSON, "Accept: text/plain", method="POST", body=b"{}")
    assert answer.status == 400
    assert b"VALIDATION_ERROR" in answer.body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"items": [], "items": [{}]}',
        b'{"items": [] } x',
        b'\xff{"items": []}',
        b"[" * 500 + b"]" * 500,
    ],
)
def test_what_is_no_json_or_could_be_read_in_two_ways(server, connect, body):
    assert details(connect().get("/", JSON, method="POST", body=body)) == [("$", "json")]
    assert server.requests == []


def test_at_most_twenty_errors(server, connect):
    body = json.dumps({"items": [{"price": -1}] * 1000}).encode()
    answer = connect().get("/", JSON, method="POST", body=body)
    assert len(details(answer)) == 20
    assert len(answer.body) < 8_000


def test_other_types_pass(server, connect):
    client = connect()
    for lines in (["Content-Type: text/plain"], ["Content-Type: application/jsonlines"], []):
        assert client.get("/", *lines, method="POST", body=b"{").body == b"{"
    assert client.get("/", JSON).status == 200  # a GET without a body has nothing to check
    assert client.get("/", JSON, method="POST").status == 400  # a POST without one has


def test_a_coded_body_cannot_be_looked_at(server, connect):
    client = connect()
    answer = client.get("/", JSON, "Content-Encoding: gzip", method="POST", body=GOOD)
    assert answer.status == 415
    assert connect().get("/", JSON, "Content-Encoding: identity", method="POST", body=GOOD).status == 200
    assert len(server.requests) == 1


def test_one_of_two_content_types_is_enough(server, connect):
    answer = connect().get("/", "Content-Type: text/plain", JSON, method="POST", body=b"{")
    assert answer.status == 400


def test_a_new_schema_counts_at_once(plane, server, connect):
    client = connect()
    assert client.get("/", JSON, method="POST", body=b"1").status == 400
    policy = {"validation": {"jsonSchema": '{"type": "integer"}'}}
    plane.publish(route("/**", backend(server.url), policy=policy))
    assert client.get("/", JSON, method="POST", body=b"1").status == 200
    assert client.get("/", JSON, method="POST", body=GOOD).status == 400


def test_a_schema_that_is_no_good_is_refused(plane, server):
    for schema in (
        "{",
        '{"type": 7}',
        '{"$ref": "https://example.com/"}',
        '{"$ref": "#"}',
        '{"pattern": "(a)\\\\1"}',
    ):
        with pytest.raises(ValueError, match="jsonSchema"):
            plane.publish(route("/**", backend(server.url), policy={"validation": {"jsonSchema": schema}}))
