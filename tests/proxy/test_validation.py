"""What a request has to look like: types, size, required headers and query parameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness.backend import Backend
from harness.client import Client, Response
from harness.worker import Plane, backend, route

from hotswap_proxy.control.policies import compile_policy
from hotswap_proxy.model import Route


def checked(url: str, pattern: str = "/", **validation: Any) -> dict[str, Any]:
    document = {"name": "r", "pathPattern": pattern, "backends": [{"url": url}], "validation": validation}
    policy = compile_policy(Route.model_validate(document).document())
    return route(pattern, backend(url), policy=policy)


def told(answer: Response) -> tuple[int, str, list[tuple[str, str]]]:
    error = json.loads(answer.body)["error"]
    return answer.status, error["code"], [(d["field"], d["rule"]) for d in error["details"]]


@pytest.fixture
def behind(make_backend: Callable[..., Backend]) -> Backend:
    return make_backend()


def test_types_of_bodies(plane: Plane, behind: Backend, connect: Callable[..., Client]) -> None:
    plane.publish(checked(behind.url, contentTypes=["application/json", "image/*"]))

    def post(*lines: str) -> Response:
        return connect().get("/", *lines, method="POST", body=b"{}")

    for good in ("application/json", "APPLICATION/json; charset=utf-8", "image/png"):
        assert post(f"Content-Type: {good}").status == 200
    refused = [("headers.Content-Type", "content_type")]
    for bad in (["Content-Type: text/html"], [], ["Content-Type: image/png"] * 2, ["Content-Type: image/"]):
        answer = post(*bad)
        assert told(answer) == (415, "UNSUPPORTED_MEDIA_TYPE", refused)
        assert answer.header("Accept") == "application/json, image/*"
    assert connect().get("/").status == 200, "without a body there is no type"
    client = connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
    assert client.read("POST").status == 415
    assert len(behind.requests) == 4


def test_what_a_client_sent_is_shown_escaped(
    plane: Plane, behind: Backend, connect: Callable[..., Client]
) -> None:
    plane.publish(checked(behind.url, contentTypes=["application/json"]))
    client = connect()
    client.send(b'POST / HTTP/1.1\r\nHost: a\r\nContent-Type: "<\xff\\\t\r\nContent-Length: 1\r\n\r\nx')
    answer = client.read("POST")
    message = json.loads(answer.body)["error"]["details"][0]["message"]
    assert message == '"<\ufffd\\ is not taken; send application/json'


def test_sizes_announced_and_on_the_way(
    plane: Plane, behind: Backend, connect: Callable[..., Client]
) -> None:
    plane.publish(checked(behind.url, maxBodySize=10))
    assert connect().get("/", method="PUT", body=b"x" * 10).status == 200
    client = connect()
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")  # and no body
    answer = client.read("PUT")
    assert told(answer) == (413, "PAYLOAD_TOO_LARGE", [("body", "max_body_size")])
    assert answer.header("Connection") == "close"
    assert len(behind.requests) == 1
    client = connect()
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(3):
        client.send(b"4\r\nabcd\r\n")
    assert client.read("PUT").status == 413


def test_required_headers_and_parameters(
    plane: Plane, behind: Backend, connect: Callable[..., Client]
) -> None:
    rules = {"requiredHeaders": ["X-Tenant", "X-Trace"], "requiredQuery": ["page size", "é"]}
    plane.publish(checked(behind.url, **rules))
    client = connect()
    answer = client.get("/?page+siz=1&%C3%A9", "x-tenant: ")
    missing = ["headers.X-Tenant", "headers.X-Trace", "query.page size", "query.é"]
    assert told(answer) == (400, "VALIDATION_ERROR", [(field, "required") for field in missing])
    answer = client.get("/?page+size=1&%c3%a9=1", "x-tenant: t", "Accept: text/plain")
    assert answer.status == 400
    assert b"- the header X-Trace is required\n" in answer.body
    assert client.get("/?page+size=1&%c3%a9=1", "x-tenant: t", "x-trace: 1").status == 200
    assert client.get("/?a&page%20size=0&%C3%A9=x", "x-tenant: t", "x-trace: 1").status == 200


def test_who_may_not_be_here_is_not_told_what_is_missing(
    plane: Plane, behind: Backend, connect: Callable[..., Client]
) -> None:
    document = {
        "name": "r",
        "pathPattern": "/",
        "backends": [{"url": behind.url}],
        "auth": {"type": "apiKey", "apiKeys": [{"name": "a", "key": "sixteen-or-more-"}]},
        "validation": {"requiredHeaders": ["X-Tenant"]},
    }
    policy = compile_policy(Route.model_validate(document).document())
    plane.publish(route("/", backend(behind.url), policy=policy))
    client = connect()
    assert told(client.get("/")) == (401, "UNAUTHORIZED", [])
    assert client.get("/", "X-API-Key: sixteen-or-more-").status == 400
    assert client.get("/", "X-API-Key: sixteen-or-more-", "X-Tenant: t").status == 200
