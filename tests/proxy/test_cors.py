"""CORS: preflights answered by the gateway, and what answers to pages of other origins carry."""

from __future__ import annotations

from typing import Any

import pytest
from harness.backend import ok
from harness.worker import backend, route

APP = "https://app.example"
POLICY = {
    "allowOrigins": [APP, "https://*.trusted.example"],
    "allowMethods": ["PUT"],
    "allowHeaders": ["X-Token", "Content-Type"],
    "exposeHeaders": ["X-Total", "X-Page"],
    "allowCredentials": True,
    "maxAgeS": 600,
}


def sharing(
    url: str, pattern: str = "/**", cors: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    policy = fields.pop("policy", {}) | {"cors": cors or POLICY}
    return route(pattern, backend(url), policy=policy, **fields)


def ask(client, method: str = "PUT", origin: str = APP, *more: str, path: str = "/a"):
    return client.get(
        path, f"Origin: {origin}", f"Access-Control-Request-Method: {method}", *more, method="OPTIONS"
    )


def shared(answer) -> dict[str, str]:
    """The CORS fields of an answer."""
    return {
        name.lower(): value for name, value in answer.headers if name.lower().startswith("access-control-")
    }


def test_a_preflight_is_answered_by_the_gateway(plane, make_backend, connect):
    server = make_backend()
    plane.publish(sharing(server.url, methods=["GET", "PUT"]))  # OPTIONS itself is not among them
    client = connect()
    answer = ask(client, "PUT", APP, "Access-Control-Request-Headers: content-type,x-token")
    assert (answer.status, answer.body, answer.header("Content-Length")) == (204, b"", None)
    assert shared(answer) == {
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "PUT",
        "access-control-allow-headers": "X-Token, Content-Type",
        "access-control-max-age": "600",
    }
    assert "Origin" in (answer.header("Vary") or "")
    assert ask(client, "GET").status == 204
    assert server.requests == []
    assert client.get("/a", f"Origin: {APP}", method="PUT", body=b"1").status == 200
    [row] = [row for row in plane.node.series_stats() if row["routeId"] == "/**"]
    assert row["codes"][("OPTIONS", 204)] == 2


@pytest.mark.parametrize(
    ("method", "origin", "headers"),
    [
        ("PUT", "https://evil.example", ""),
        ("PUT", "null", ""),
        ("PUT", "https://app.example.evil.example", ""),
        ("PUT", "https://evil.example/.trusted.example", ""),
        ("PUT", "https://trusted.example", ""),
        ("PUT", "http://x.trusted.example", ""),
        ("DELETE", APP, ""),
        ("put", APP, ""),
        ("PUT", APP, "X-Other"),
        ("PUT", APP, "X-Token, X-Other"),
    ],
)
def test_what_is_not_allowed_is_a_403_without_fields(plane, make_backend, connect, method, origin, headers):
    server = make_backend()
    plane.publish(sharing(server.url))
    more = [f"Access-Control-Request-Headers: {headers}"] if headers else []
    answer = ask(connect(), method, origin, *more)
    assert answer.status == 403
    assert shared(answer) == {}
    assert "Origin" in (answer.header("Vary") or "")
    assert server.requests == []


def test_a_preflight_asks_about_the_route_of_its_method(plane, make_backend, connect):
    server = make_backend()
    plane.publish(
        sharing(server.url, "/a", methods=["PUT"]),
        route("/a", backend(server.url), methods=["DELETE"], routeId="d", name="d"),
        route("/a", backend(server.url), methods=["OPTIONS"], routeId="o", name="o"),
    )
    client = connect()
    assert ask(client, "PUT").status == 204
    assert server.requests == []
    # What has no CORS is asked itself, as before.
    assert ask(client, "DELETE").status == 200
    assert ask(client, "PATCH").status == 200
    assert client.get("/a", method="OPTIONS").status == 200
    assert client.get("/a", f"Origin: {APP}", method="OPTIONS").status == 200
    assert len(server.requests) == 4
    plane.publish(sharing(server.url, "/a", methods=["PUT"]))
    assert ask(client, "DELETE").status == 405
    assert client.get("/a", f"Origin: {APP}", method="OPTIONS").status == 405


def test_answers_to_an_allowed_origin(plane, make_backend, connect):
    own = (b"Access-Control-Allow-Origin: *", b"Access-Control-Max-Age: 1", b"Vary: Accept", b"X-Total: 3")
    server = make_backend(lambda _: ok(b"hello", *own))
    plane.publish(sharing(server.url))
    client = connect()
    for origin in (APP, "https://deep.below.trusted.example"):
        answer = client.get("/", f"Origin: {origin}")
        assert shared(answer) == {
            "access-control-allow-origin": origin,
            "access-control-allow-credentials": "true",
            "access-control-expose-headers": "X-Total, X-Page",
        }
        assert answer.header("Vary") == "Accept, Origin"
        assert (answer.body, answer.header("X-Total")) == (b"hello", "3")
    assert server.requests[0].header("Origin") == APP


@pytest.mark.parametrize(
    "lines", [[], ["Origin: https://evil.example"], ["Origin: null"], [f"Origin: {APP}"] * 2]
)
def test_other_requests_are_forwarded_and_answered_without_fields(plane, make_backend, connect, lines):
    server = make_backend(lambda _: ok(b"hello", b"Access-Control-Allow-Origin: *"))
    plane.publish(sharing(server.url))
    answer = connect().get("/", *lines)
    assert (answer.status, shared(answer), answer.header("Vary")) == (200, {}, "Origin")
    assert len(server.requests) == 1


def test_any_origin(plane, make_backend, connect):
    server = make_backend()
    plane.publish(sharing(server.url, cors={"allowOrigins": ["*"], "allowHeaders": ["*"]}))
    client = connect()
    answer = client.get("/", "Origin: https://whoever.example")
    assert (shared(answer), answer.header("Vary")) == ({"access-control-allow-origin": "*"}, None)
    answer = ask(client, "DELETE", "null", "Access-Control-Request-Headers: x-one,x-two")
    assert shared(answer) == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "DELETE",
        "access-control-allow-headers": "x-one,x-two",
    }
    assert ask(client, "DELETE", "null", "Access-Control-Request-Headers: x(one").status == 403


def test_a_page_can_read_the_gateways_own_answers(plane, make_backend, connect):
    server = make_backend()
    plane.publish(sharing(server.url, maxRequestBody=1))
    server.close()
    bad = connect().get("/", f"Origin: {APP}")
    assert (bad.status, bad.header("Access-Control-Allow-Origin")) == (502, APP)
    large = connect().get("/", f"Origin: {APP}", method="PUT", body=b"12")
    assert (large.status, large.header("Access-Control-Allow-Origin")) == (413, APP)


def test_with_transformations(plane, make_backend, connect):
    server = make_backend(lambda _: ok(b"hello", b"Access-Control-Allow-Origin: *", b"Server: x"))
    changes = {"transformations": {"response": {"addHeaders": {"X-New": "1"}, "removeHeaders": ["Server"]}}}
    plane.publish(sharing(server.url, policy=changes))
    answer = connect().get("/", f"Origin: {APP}")
    assert answer.header("Access-Control-Allow-Origin") == APP
    assert (answer.header("X-New"), answer.header("Server")) == ("1", None)


def test_a_preflight_of_http_1_0_and_with_a_body(plane, make_backend, connect):
    plane.publish(sharing(make_backend().url))
    client = connect()
    client.send(
        b"OPTIONS / HTTP/1.0\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n"
    )
    assert client.read_to_end().startswith(b"HTTP/1.1 204 ")
    client = connect()
    answer = client.get(
        "/", f"Origin: {APP}", "Access-Control-Request-Method: PUT", method="OPTIONS", body=b"GET / HTTP/1.1"
    )
    assert (answer.status, answer.header("Connection")) == (204, "close")
    assert client.closed()
