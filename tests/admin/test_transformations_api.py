"""Transformations, CORS and regions through the admin API: creating, merging, differences, errors."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway import ROUTES, Gateway, problem

pytestmark = pytest.mark.anyio

CHANGES: dict[str, Any] = {
    "request": {"addHeaders": {"X-Route": "${routeName}"}, "rewritePath": "^/users/(.*)$ -> /$1"},
    "response": {"removeHeaders": ["Server"]},
}
CORS = {"allowOrigins": ["https://app.example"], "allowCredentials": True}


async def test_a_route_with_all_of_it(gateway: Gateway) -> None:
    route = await gateway.add_route(transformations=CHANGES, cors=CORS)
    assert route["transformations"] == CHANGES
    assert route["cors"]["allowOrigins"] == ["https://app.example"]
    assert gateway.match("/users/1") == route["version"]
    again = await gateway.client.get(f"{ROUTES}/{route['routeId']}")
    assert again.json()["transformations"] == CHANGES


async def test_put_keeps_the_side_that_is_not_given(gateway: Gateway) -> None:
    route = await gateway.add_route(transformations=CHANGES, cors=CORS)
    url = f"{ROUTES}/{route['routeId']}"
    request = {"addHeaders": {"X-Other": "1"}}
    answer = await gateway.client.put(url, json={"transformations": {"request": request}})
    assert answer.status_code == 200, answer.text
    assert answer.json()["transformations"] == {"request": request, "response": CHANGES["response"]}
    answer = await gateway.client.put(url, json={"transformations": {"response": None}})
    assert answer.json()["transformations"] == {"request": request}
    answer = await gateway.client.put(url, json={"cors": {"maxAge": "1m"}})
    assert answer.json()["cors"]["allowCredentials"] is True
    answer = await gateway.client.put(url, json={"transformations": None, "cors": None})
    assert "transformations" not in answer.json()
    assert "cors" not in answer.json()


async def test_a_dry_run_shows_the_difference(gateway: Gateway) -> None:
    route = await gateway.add_route(transformations=CHANGES)
    url = f"{ROUTES}/{route['routeId']}?dryRun=true"
    answer = await gateway.client.put(url, json={"transformations": {"response": {"removeHeaders": ["X-A"]}}})
    assert answer.status_code == 200, answer.text
    assert "X-A" in answer.text
    assert gateway.match("/users/1") == route["version"]


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        (
            {"transformations": {"request": {"addHeaders": {"X": "${nope}"}}}},
            "transformations.request.addHeaders",
            "header_value",
        ),
        (
            {"transformations": {"request": {"rewritePath": "^/([a -> /"}}},
            "transformations.request.rewritePath",
            "rewrite_path",
        ),
        (
            {"transformations": {"response": {"addHeaders": {"X": "${param.id}"}}}},
            "transformations",
            "parameter",
        ),
        ({"cors": {"allowOrigins": ["*"], "allowCredentials": True}}, "cors", "credentials"),
        (
            {
                "strategy": "HeaderBased",
                "strategyConfig": {
                    "headerName": ":country",
                    "routingRules": {"de": "users-1"},
                    "defaultBackend": "users-1",
                },
            },
            "strategyConfig.routingRules",
            "country",
        ),
    ],
)
async def test_mistakes_change_nothing(
    gateway: Gateway, fields: dict[str, Any], field: str, rule: str
) -> None:
    body = {
        "name": "u",
        "pathPattern": "/users/**",
        "backends": [{"name": "users-1", "url": "http://127.0.0.1:1"}],
    }
    answer = await gateway.client.post(ROUTES, json=body | fields)
    assert problem(answer) == (400, "VALIDATION_ERROR", [(field, rule)])
    assert gateway.match("/users/1") is None


async def test_a_pattern_that_loses_its_parameter_is_refused(gateway: Gateway) -> None:
    changes = {"request": {"addHeaders": {"X-Id": "${param.id}"}}}
    route = await gateway.add_route(pathPattern="/users/{id}", transformations=changes)
    answer = await gateway.client.put(f"{ROUTES}/{route['routeId']}", json={"pathPattern": "/users/*"})
    assert problem(answer) == (400, "VALIDATION_ERROR", [("transformations", "parameter")])


async def test_a_route_by_network_picks_by_address(gateway: Gateway) -> None:
    config = {"headerName": ":cidr", "routingRules": {"10.0.0.0/8": "inner"}, "defaultBackend": "outer"}
    backends = [
        {"name": name, "url": f"http://127.0.0.1:{n}"} for n, name in enumerate(("inner", "outer"), 9001)
    ]
    fields = {"strategy": "HeaderBased", "strategyConfig": config, "backends": backends}
    route = await gateway.add_route(**fields)
    assert gateway.pick(route["routeId"], "10.1.2.3") == "inner"
    assert gateway.pick(route["routeId"], "192.0.2.1") == "outer"
