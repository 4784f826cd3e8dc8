"""Transformations, CORS and regions of a route: the path and rule of each mistake."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hotswap_proxy.errors import from_pydantic
from hotswap_proxy.model import Route

ROUTE: dict[str, Any] = {
    "name": "a",
    "pathPattern": "/a/{id}",
    "backends": [{"name": "b", "url": "http://127.0.0.1:1"}],
}
REQUEST, RESPONSE = "transformations.request", "transformations.response"


def problems(**fields: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        Route.model_validate(ROUTE | fields)
    return [(detail.field, detail.rule) for detail in from_pydantic(caught.value).details]


def message(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Route.model_validate(ROUTE | fields)
    return from_pydantic(caught.value).details[0].message


def change(side: str, **fields: Any) -> dict[str, Any]:
    return {"transformations": {side: fields}}


def test_a_sound_route_is_stored_as_it_was_given() -> None:
    document = {
        "transformations": {
            "request": {
                "addHeaders": {"X-Id": "${param.id}", "Host": "inner.example"},
                "removeHeaders": ["Cookie"],
                "rewritePath": "^/a/(.*)$ -> /$1",
            },
            "response": {"addHeaders": {"X-Time": "${latencyMs}"}},
        },
        "cors": {"allowOrigins": ["https://*.example.com"], "maxAge": "PT10M"},
    }
    stored = Route.model_validate(ROUTE | document).document()
    assert stored["transformations"] == document["transformations"]
    assert stored["cors"] == {
        "allowOrigins": ["https://*.example.com"],
        "allowMethods": [],
        "allowHeaders": [],
        "exposeHeaders": [],
        "allowCredentials": False,
        "maxAge": "PT10M",
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (change("request", addHeaders={"X": "${nope}"}), (f"{REQUEST}.addHeaders", "header_value")),
        (change("request", addHeaders={"X": "${latencyMs}"}), (f"{REQUEST}.addHeaders", "header_value")),
        (change("request", addHeaders={"X": "a\r\nY: b"}), (f"{REQUEST}.addHeaders", "header_value")),
        (change("response", addHeaders={"X": "a\0"}), (f"{RESPONSE}.addHeaders", "header_value")),
        (change("response", addHeaders={"X": ""}), (f"{RESPONSE}.addHeaders", "header_value")),
        (change("response", addHeaders={"X": " a"}), (f"{RESPONSE}.addHeaders", "header_value")),
        (change("request", addHeaders={"X": "${path"}), (f"{REQUEST}.addHeaders", "header_value")),
        (change("request", addHeaders={"X": "${param.no}"}), ("transformations", "parameter")),
        (change("request", addHeaders={"A B": "x"}), (f"{REQUEST}.addHeaders", "header_name")),
        (change("request", addHeaders={"Content-Length": "1"}), (f"{REQUEST}.addHeaders", "header_name")),
        (change("request", addHeaders={"transfer_encoding": "1"}), (f"{REQUEST}.addHeaders", "header_name")),
        (change("request", addHeaders={"X-A": "1", "x-a": "2"}), (f"{REQUEST}.addHeaders", "header_name")),
        (
            change("request", addHeaders={f"X-{n}": "1" for n in range(65)}),
            (f"{REQUEST}.addHeaders", "too_long"),
        ),
        (change("request", addHeaders=["X"]), (f"{REQUEST}.addHeaders", "dict_type")),
        (change("request", removeHeaders=["Host"]), (f"{REQUEST}.removeHeaders", "header_name")),
        (change("response", removeHeaders=["Date"]), (f"{RESPONSE}.removeHeaders", "header_name")),
        (change("request", rewritePath="/a"), (f"{REQUEST}.rewritePath", "rewrite_path")),
        (change("request", rewritePath="^/(a -> /b"), (f"{REQUEST}.rewritePath", "rewrite_path")),
        (change("response", rewritePath="^/a -> /b"), (f"{RESPONSE}.rewritePath", "unknown_field")),
        ({"transformations": {"reqest": {}}}, ("transformations.reqest", "unknown_field")),
        (
            change("response", addHeaders={"Access-Control-Allow-Origin": "*"})
            | {"cors": {"allowOrigins": ["*"]}},
            ("transformations", "cors"),
        ),
        (
            change("request", addHeaders={"x_user": "me"})
            | {
                "auth": {
                    "type": "jwt",
                    "issuer": "https://issuer.example",
                    "jwksUrl": "https://issuer.example/keys",
                    "identityHeader": "X-User",
                }
            },
            ("transformations", "identity"),
        ),
        ({"cors": {}}, ("cors.allowOrigins", "required")),
        ({"cors": {"allowOrigins": []}}, ("cors.allowOrigins", "too_short")),
        ({"cors": {"allowOrigins": ["example.com"]}}, ("cors.allowOrigins[0]", "origin")),
        ({"cors": {"allowOrigins": ["null"]}}, ("cors.allowOrigins[0]", "origin")),
        ({"cors": {"allowOrigins": ["https://a.example:443"]}}, ("cors.allowOrigins[0]", "origin")),
        ({"cors": {"allowOrigins": ["*", "https://a.example"]}}, ("cors.allowOrigins", "wildcard")),
        ({"cors": {"allowOrigins": ["*"], "allowCredentials": True}}, ("cors", "credentials")),
        ({"cors": {"allowOrigins": ["*"], "allowMethods": ["A B"]}}, ("cors.allowMethods[0]", "token")),
        ({"cors": {"allowOrigins": ["*"], "maxAge": "10ms"}}, ("cors.maxAge", "max_age")),
    ],
)
def test_a_mistake_is_named(fields: dict[str, Any], expected: tuple[str, str]) -> None:
    assert problems(**fields) == [expected]


def test_messages_say_what_and_where() -> None:
    assert "${nope} is no variable; there are requestId" in message(
        **change("request", addHeaders={"X": "${nope}"})
    )
    assert message(**change("request", addHeaders={"X": "${param.no}"})) == (
        "request.addHeaders.X: ${param.no}: the path pattern has no {no}"
    )
    assert "unclosed group at character 3" in message(**change("request", rewritePath="^/(a -> /b"))
    assert "too large when compiled" in message(**change("request", rewritePath="^/(a{99}){999} -> /b"))


def regions(header: str, *values: str) -> dict[str, Any]:
    config = {"headerName": header, "routingRules": dict.fromkeys(values, "b"), "defaultBackend": "b"}
    return {"strategy": "HeaderBased", "strategyConfig": config}


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (":country", "DE"),
        (":continent", "OC"),
        (":cidr", "10.0.0.0/8"),
        (":cidr", "2001:db8::/32"),
        (":cidr", "192.0.2.1"),
    ],
)
def test_regions_that_exist(header: str, value: str) -> None:
    Route.model_validate(ROUTE | regions(header, value))


@pytest.mark.parametrize(
    ("header", "value", "rule"),
    [
        (":country", "de", "country"),
        (":country", "DEU", "country"),
        (":continent", "XX", "continent"),
        (":cidr", "10.0.0.1/8", "network"),
        (":cidr", "example.com", "network"),
        (":cidr", "::ffff:10.0.0.0/104", "network"),
    ],
)
def test_regions_that_do_not_exist(header: str, value: str, rule: str) -> None:
    assert problems(**regions(header, value)) == [("strategyConfig.routingRules", rule)]


@pytest.mark.parametrize("header", [":city", ":", ":Country", ":method"])
def test_other_names_with_a_colon(header: str) -> None:
    assert problems(**regions(header, "DE")) == [("strategyConfig.headerName", "header_name")]
