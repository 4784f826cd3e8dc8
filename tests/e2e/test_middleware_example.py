"""Middleware on a whole node: named in its settings, used by routes, asked for by the API."""

from __future__ import annotations

import json
import os
import urllib.error
from pathlib import Path

import pytest
from e2e.conftest import Api
from harness.backend import Backend, ok
from harness.client import Client

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
PYTHONPATH = os.pathsep.join(filter(None, [str(EXAMPLES), os.environ.get("PYTHONPATH")]))
BOTH = ("--middleware", "timing=middleware:timing", "--middleware", "greeting=middleware:greeting")


def test_the_example(start_node):
    echo = Backend(lambda request: ok(request.body))
    node = start_node(*BOTH, PYTHONPATH=PYTHONPATH)
    api = Api(node)
    backend = {"name": "echo", "url": echo.url}
    made = api.call(
        "POST",
        "/gateway/routes",
        {"name": "all", "path": "/**", "backends": [backend], "middleware": ["timing", "greeting"]},
    )
    assert made["middleware"] == ["timing", "greeting"]
    with Client(node.proxy_port) as client:
        answer = client.get("/hello")
        assert (answer.status, answer.body) == (200, b"Hello, 127.0.0.1!\n")
        assert (answer.header("Server-Timing") or "").startswith("next;dur=")
        answer = client.get("/x", "Content-Type: application/json", method="POST", body=b'{"a": 1}')
        assert json.loads(answer.body) == {"a": 1, "via": "all"}
        # What the middleware cannot digest is its failure, and told in the log only.
        answer = client.get("/x", "Content-Type: application/json", method="POST", body=b"{")
        assert answer.status == 500
        line = node.logged("a middleware failed")
        assert (line["route"], line["requestId"]) == ("all", answer.header("X-Request-ID"))
        assert "JSONDecodeError" in line["exception"]
        route = f"/gateway/routes/{made['routeId']}"
        with pytest.raises(urllib.error.HTTPError) as refused:
            api.call("PUT", route, {"middleware": ["timing", "unknown"]})
        error = json.load(refused.value)["error"]
        assert [(d["field"], d["rule"]) for d in error["details"]] == [("middleware[1]", "middleware")]
        assert "'unknown'" in error["details"][0]["message"]
        assert "greeting, timing" in error["details"][0]["message"]
        api.call("PUT", route, {"middleware": None})
        answer = client.get("/hello", method="POST", body=b"to the backend")
        assert (answer.body, answer.header("Server-Timing")) == (b"to the backend", None)
    assert node.end() == 0
    echo.close()


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("a=no_such_module:f", "ModuleNotFoundError"),
        ("a=middleware:no_such_function", "AttributeError"),
        ("a=middleware:__name__", "not a function"),
    ],
)
def test_a_middleware_that_cannot_be_had_ends_the_start(start_node, item, why):
    node = start_node("--middleware", item, PYTHONPATH=PYTHONPATH)
    assert node.process.wait(30) != 0
    line = node.logged(f"--middleware {item}")
    assert why in line["event"]


def test_an_item_that_is_none_is_refused_by_the_command(start_node):
    node = start_node("--middleware", "just-a-name")
    assert node.process.wait(30) == 2
    assert "--middleware (HOTSWAP_MIDDLEWARE)" in node.log.read_text()


def test_a_file_and_the_variable(start_node, tmp_path):
    echo = Backend(lambda request: ok(request.body))
    route = {
        "name": "all",
        "path": "/**",
        "backends": [{"name": "e", "url": echo.url}],
        "middleware": ["greeting"],
    }
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps({"version": "1", "routes": [route]}))
    variable = ",".join(BOTH[1::2])
    node = start_node("--config", str(file), PYTHONPATH=PYTHONPATH, HOTSWAP_MIDDLEWARE=variable)
    with Client(node.proxy_port) as client:
        assert client.get("/hello").body == b"Hello, 127.0.0.1!\n"
    echo.close()
