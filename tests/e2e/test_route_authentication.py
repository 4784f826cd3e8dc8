"""Tokens of an issuer whose keys rotate, on a whole node: no valid token is ever refused."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from e2e.conftest import Api
from e2e.load import Load
from harness.backend import Backend
from harness.client import Client

from tests.issuer import KeyServer
from tests.node import Node
from tests.processes import eventually
from tests.tokens import SECRET, Issuer, token


def bearer(text: str) -> str:
    return f"Authorization: Bearer {text}"


def test_keys_rotate_under_load(start_node: Callable[..., Node], backends: list[Backend]) -> None:
    issuer = KeyServer("r1")
    node = start_node("--allowed-backend-hosts", "127.0.0.1")
    api = Api(node)
    auth = {"type": "jwt", "jwksUrl": issuer.url(), "jwksRefresh": "1s", "identityHeader": "X-User-Id"}
    backend = {"name": "x", "url": backends[0].url}
    api.call("POST", "/gateway/routes", {"name": "g", "path": "/**", "auth": auth, "backends": [backend]})
    generation = node.health()

    with Client(node.proxy_port) as probe:

        def status(kid: str) -> int:
            return probe.get("/probe", bearer(Issuer(kid).token())).status

        assert status("r1") == 200, "the keys were there before the route"
        current = ["r1"]

        def lines() -> list[str]:
            return [bearer(Issuer(current[0]).token()), "X-User-Id: root"]

        with Load(node.proxy_port, lambda *_: "/load", 4, lines) as load:
            for old, new in (("r1", "e2"), ("e2", "r3")):
                issuer.publish(old, new)
                eventually(lambda new=new: status(new) == 200, "the new key is taken")
                current[0] = new
                issuer.publish(new)
                eventually(lambda old=old: status(old) == 401, "the old key is not")
            issuer.body = b"{"
            node.logged("the last ones stay")
        assert load.failures == []
        assert load.answers > 20
    assert {request.header("X-User-Id") for request in backends[0].requests} == {"ann"}
    assert api.metric("gateway_requests_lost_total") == 0
    assert node.health()["routesConfigured"] == generation["routesConfigured"]
    issuer.close()
    assert "eyJ" not in node.log.read_text(), "no token is ever logged"


def test_a_file_with_secrets(start_node: Callable[..., Node], backends: list[Backend], tmp_path: Any) -> None:
    key = "the-key-of-some-client"
    file = tmp_path / "gateway.yaml"
    text = f"""
version: "1"
routes:
  - name: tokens
    path: /tokens
    auth: {{type: jwt, secret: {SECRET!r}, roles: [admin], clockSkew: 1s}}
    backends: [{{name: a, url: "{backends[0].url}"}}]
  - name: keys
    path: /keys
    auth: {{type: apiKey, apiKeys: [{{name: c1, key: {key}}}], identityHeader: X-Client}}
    validation: {{requiredQuery: [page]}}
    backends: [{{name: a, url: "{backends[0].url}"}}]
"""
    file.write_text(text)
    node = start_node("--config", str(file))
    api = Api(node)

    def check() -> None:
        with Client(node.proxy_port) as client:
            assert client.get("/tokens").status == 401
            assert client.get("/tokens", bearer(token(roles=["dev"]))).status == 403
            assert client.get("/tokens", bearer(token(roles=["admin"]))).status == 200
            assert client.get("/keys?page=1").status == 401
            assert client.get("/keys", f"X-API-Key: {key}").status == 400
            assert client.get("/keys?page=1", f"X-API-Key: {key}").status == 200
        got = backends[0].requests[-1]
        assert (got.header("X-Client"), got.header("X-API-Key")) == ("c1", None)

    check()
    routes = api.call("GET", "/gateway/routes")["routes"]
    assert [route["version"] for route in routes] == ["1.0", "1.0"]
    node.process.send_signal(signal.SIGHUP)
    node.logged("configuration file applied")
    assert api.call("GET", "/gateway/routes")["routes"] == routes, "the same file changes nothing"
    assert node.end() == 0
    node.start()
    check()
    told = node.log.read_text() + str(routes)
    assert SECRET not in told
    assert key not in told
