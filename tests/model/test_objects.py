"""Routes and backends: defaults, and the path and rule of each mistake."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hotswap_proxy.errors import from_pydantic
from hotswap_proxy.model import STRATEGIES, Backend, Route

ROUTE: dict[str, Any] = {"name": "a", "pathPattern": "/a", "backends": [{"url": "http://127.0.0.1:1"}]}
BACKEND: dict[str, Any] = {"name": "b", "url": "http://127.0.0.1:1"}
RULES = {"headerName": "X-Tier", "routingRules": {"gold": "b"}, "defaultBackend": "b"}


def problems(model: type[Route | Backend], document: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(document)
    return [(detail.field, detail.rule) for detail in from_pydantic(caught.value).details]


def test_the_defaults_are_those_of_the_specification() -> None:
    assert Route.model_validate(ROUTE).document() == {
        "name": "a",
        "pathPattern": "/a",
        "methods": ["*"],
        "strategy": "RoundRobin",
        "strategyConfig": {},
        "timeoutSeconds": 30,
        "isEnabled": True,
        "priority": 0,
        "backends": [
            {
                "name": "127.0.0.1:1",
                "url": "http://127.0.0.1:1",
                "weight": 100,
                "isEnabled": True,
                "connectionPool": {
                    "minSize": 10,
                    "maxSize": 100,
                    "maxIdleTime": "5m",
                    "connectionTimeout": "5s",
                },
                "timeouts": {"connectTimeout": "5s", "readTimeout": "30s", "writeTimeout": "30s"},
            }
        ],
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": None}, [("name", "string_type")]),
        ({"name": ""}, [("name", "string_too_short")]),
        ({"name": " a"}, [("name", "string_pattern_mismatch")]),
        ({"name": "a\n"}, [("name", "string_pattern_mismatch")]),
        ({"name": "é"}, [("name", "string_pattern_mismatch")]),
        ({"routeId": "a/b"}, [("routeId", "string_pattern_mismatch")]),
        ({"pathPattern": "a"}, [("pathPattern", "path_pattern")]),
        ({"pathPattern": "/**/a"}, [("pathPattern", "path_pattern")]),
        ({"pathPattern": "/a*b"}, [("pathPattern", "path_pattern")]),
        ({"pathPattern": 5}, [("pathPattern", "string_type")]),
        ({"hosts": ["a:80"]}, [("hosts[0]", "host")]),
        ({"hosts": ["a", "*.*.b"]}, [("hosts[1]", "host")]),
        ({"hosts": "a"}, [("hosts", "list_type")]),
        ({"methods": []}, [("methods", "too_short")]),
        ({"methods": ["get"]}, [("methods[0]", "method")]),
        ({"methods": ["CONNECT"]}, [("methods[0]", "method")]),
        ({"methods": ["GET", "*"]}, [("methods", "methods")]),
        ({"methods": ["GET", "GET"]}, [("methods", "methods")]),
        ({"backends": []}, [("backends", "too_short")]),
        ({"backends": [{"weight": 1}]}, [("backends[0]", "backend_reference")]),
        ({"backends": [{"name": "a", "backendId": "b"}]}, [("backends[0]", "backend_reference")]),
        ({"backends": [{"name": "a", "isEnabled": True}]}, [("backends[0].isEnabled", "unknown_field")]),
        ({"backends": [BACKEND | {"weight": 101}]}, [("backends[0].weight", "less_than_equal")]),
        ({"backends": [BACKEND, BACKEND | {"url": "x"}]}, [("backends[1].url", "url")]),
        ({"backends": [5]}, [("backends[0]", "model_type")]),
        ({"strategy": "Random"}, [("strategy", "literal_error")]),
        ({"auth": {"type": "basic"}}, [("auth.type", "literal_error")]),
        ({"auth": {}}, [("auth.type", "required")]),
        ({"strategy": "HeaderBased"}, [("strategyConfig", "strategy_config")]),
        ({"strategyConfig": RULES}, [("strategyConfig", "strategy_config")]),
        (
            {"strategy": "HeaderBased", "strategyConfig": RULES | {"headerName": "a b"}},
            [("strategyConfig.headerName", "header_name")],
        ),
        ({"timeoutSeconds": 0}, [("timeoutSeconds", "greater_than_equal")]),
        ({"timeoutSeconds": 301}, [("timeoutSeconds", "less_than_equal")]),
        ({"timeoutSeconds": "30"}, [("timeoutSeconds", "int_type")]),
        ({"timeoutSeconds": True}, [("timeoutSeconds", "int_type")]),
        ({"maxRequestBody": -1}, [("maxRequestBody", "greater_than_equal")]),
        ({"isEnabled": "yes"}, [("isEnabled", "bool_type")]),
        ({"priority": 101}, [("priority", "less_than_equal")]),
        ({"environment": "Test"}, [("environment", "literal_error")]),
        ({"version": "a b"}, [("version", "string_pattern_mismatch")]),
        ({"path_pattern": "/a"}, [("path_pattern", "unknown_field")]),
        ({"priority": -1, "foo": 1}, [("priority", "greater_than_equal"), ("foo", "unknown_field")]),
    ],
)
def test_mistakes_in_routes(change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert problems(Route, ROUTE | change) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"url": None}, [("url", "string_type")]),
        ({"url": "http://a", "tls": {}}, [("", "tls_scheme")]),
        ({"url": "https://a", "tls": {"caFile": "../a"}}, [("tls.caFile", "string_pattern_mismatch")]),
        ({"url": "https://a", "tls": {"clientKeyFile": "a"}}, [("tls", "tls_client_certificate")]),
        ({"weight": -1}, [("weight", "greater_than_equal")]),
        ({"weight": 1.5}, [("weight", "int_type")]),
        ({"timeouts": {"readTimeout": "5"}}, [("timeouts.readTimeout", "duration")]),
        ({"timeouts": {"readTimeout": 5}}, [("timeouts.readTimeout", "string_type")]),
        ({"connectionPool": {"minSize": 5, "maxSize": 4}}, [("connectionPool", "pool_size")]),
        ({"connectionPool": {"size": 4}}, [("connectionPool.size", "unknown_field")]),
    ],
)
def test_mistakes_in_backends(change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert problems(Backend, BACKEND | change) == expected


@pytest.mark.parametrize("document", [None, [], "x", 5])
def test_a_document_is_an_object(document: Any) -> None:
    assert problems(Route, document) == [("", "model_type")]


def test_required_fields_are_named() -> None:
    assert problems(Route, {}) == [
        ("name", "required"),
        ("pathPattern", "required"),
        ("backends", "required"),
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_known(strategy: str) -> None:
    config = RULES if strategy == "HeaderBased" else {}
    route = Route.model_validate(ROUTE | {"strategy": strategy, "strategyConfig": config})
    assert route.document()["strategyConfig"] == config


def test_a_reference_may_be_a_name_alone() -> None:
    route = Route.model_validate(ROUTE | {"backends": ["users-1", {"name": "b", "weight": 3}]})
    assert route.document()["backends"] == [{"name": "users-1"}, {"name": "b", "weight": 3}]


def test_a_document_is_accepted_again() -> None:
    document = Route.model_validate(ROUTE | {"hosts": ["*.a.example"], "maxRequestBody": 0}).document()
    assert Route.model_validate(document).document() == document
