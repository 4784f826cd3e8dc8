"""The promise of the product: changes under load fail no request and close no connection."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from e2e.conftest import Api
from e2e.load import Load
from harness.backend import Backend
from harness.client import Client

ROUTES = 2000


def write_file(path: Path, url: str, routes: int) -> Path:
    """A declarative file of ``routes`` routes to one backend."""
    document = {
        "version": "1",
        "backends": [{"name": "shared", "url": url}],
        "routes": [
            {"name": f"r{n}", "pathPattern": f"/service-{n}/**", "backends": [{"name": "shared"}]}
            for n in range(routes)
        ],
    }
    path.write_text(json.dumps(document))
    return path


def test_sixty_changes_among_two_thousand_routes(start_node, backends, tmp_path):
    first, second = backends
    node = start_node("--config", str(write_file(tmp_path / "gateway.json", first.url, ROUTES)))
    api = Api(node)
    changing = api.call(
        "POST",
        "/gateway/routes",
        {"name": "changing", "path": "/changing/**", "backends": [{"name": "x", "url": first.url}]},
    )
    release = threading.Event()

    def drip(_request: object) -> object:
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        yield b"5\r\nfirst\r\n"
        assert release.wait(60)
        yield b"4\r\nlast\r\n0\r\n\r\n"

    stream = Backend(drip)
    api.call(
        "POST",
        "/gateway/routes",
        {"name": "stream", "path": "/stream", "backends": [{"name": "s", "url": stream.url}]},
    )
    reader = Client(node.proxy_port)
    reader.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    stream.wait(lambda: len(stream.requests) == 1)

    def path(connection: int, turn: int) -> str:
        return "/changing/x" if turn % 2 else f"/service-{(connection * 83 + turn) % ROUTES}/x"

    with Load(node.proxy_port, path) as load, Client(node.proxy_port) as probe:
        for turn in range(60):
            name, url = [("b", second.url), ("a", first.url)][turn % 2]
            changed = api.call(
                "PUT",
                f"/gateway/routes/{changing['routeId']}",
                {"backends": [{"name": "x", "url": url}]},
            )
            assert changed["configChangeApplied"] is True
            # The call has returned, so the very next request meets the change.
            assert probe.get("/changing/probe").body == name.encode()
    assert load.failures == []
    assert load.answers > 60
    release.set()
    assert reader.read().body == b"firstlast"
    reader.sock.close()
    stream.close()
    assert api.metric("gateway_requests_lost_total") == 0
    assert api.metric("gateway_config_swaps_total") >= 60
    health = node.health()
    assert health["routesConfigured"] == ROUTES + 2


def test_a_backend_goes_and_comes_back_under_load(start_node, backends):
    node = start_node()
    api = Api(node)
    ids = [
        api.call("POST", "/gateway/backends", {"name": name, "url": backend.url})["backendId"]
        for name, backend in zip("ab", backends, strict=True)
    ]
    api.call(
        "POST", "/gateway/routes", {"name": "all", "path": "/**", "backends": [{"name": "a"}, {"name": "b"}]}
    )
    with Load(node.proxy_port, lambda connection, turn: f"/{connection}/{turn}") as load:
        for _ in range(10):
            api.call("PUT", f"/gateway/backends/{ids[0]}", {"isEnabled": False})
            with Client(node.proxy_port) as probe:
                assert {probe.get().body for _ in range(4)} == {b"b"}
            api.call("PUT", f"/gateway/backends/{ids[0]}", {"isEnabled": True})
            with Client(node.proxy_port) as probe:
                assert {probe.get().body for _ in range(40)} == {b"a", b"b"}
    assert load.failures == []
    assert api.metric("gateway_requests_lost_total") == 0


def test_a_change_survives_a_restart(start_node, backends):
    first, second = backends
    node = start_node()
    api = Api(node)
    route = {"name": "kept", "path": "/kept/**", "backends": [{"name": "x", "url": first.url}]}
    made = api.call("POST", "/gateway/routes", route)
    changed = {"backends": [{"name": "x", "url": second.url}]}
    api.call("PUT", f"/gateway/routes/{made['routeId']}", changed)
    assert node.end() == 0
    node.start()
    with Client(node.proxy_port) as client:
        assert client.get("/kept/1").body == b"b"
    assert Api(node).call("GET", f"/gateway/routes/{made['routeId']}")["version"] == "1.1"


def test_a_broken_file_at_the_start_leaves_the_last_good_configuration(start_node, backends, tmp_path):
    file = write_file(tmp_path / "gateway.json", backends[0].url, 1)
    node = start_node("--config", str(file))
    assert node.end() == 0
    file.write_text('{"routes": [{"name": "r0"')
    node.start()
    with Client(node.proxy_port) as client:
        assert client.get("/service-0/x").body == b"a"
    assert node.health()["status"] == "Degraded"
    assert "last good configuration" in node.log.read_text()
