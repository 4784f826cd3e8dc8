"""The smoke test of a version: real backends on real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy.rollout import World
from harness.backend import Backend, Received, ok
from harness.certs import ca_pem, server_context

from hotswap_proxy.deploy.facts import Smoke
from hotswap_proxy.deploy.record import SmokeTest
from hotswap_proxy.deploy.targets import smoke
from hotswap_proxy.deploy.targets.smoke import SmokeTester
from tests.gateway import FakeResolver, Gateway

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "PAUSE", 0.0)


@pytest.fixture
def backend() -> Iterator[Backend]:
    one = Backend()
    yield one
    one.close()


def document(port: int, **fields: Any) -> dict[str, Any]:
    made = {"backendId": "rt-1:b", "name": "b", "url": f"http://127.0.0.1:{port}"}
    return made | {"weight": 100, "isEnabled": True} | fields


async def test_each_backend_is_asked(gateway: Gateway, backend: Backend) -> None:
    tester = SmokeTester(gateway.store, gateway.resolver, Path("none"))

    async def run(*backends: dict[str, Any], **test: Any) -> Smoke:
        tests = [SmokeTest(**test)] if test else []
        return await tester.run({"backends": list(backends)}, tests)

    good = document(backend.port)
    assert await run(good) == Smoke(True, "smoke test passed on 1 backend")
    assert backend.requests == [], "a connection is enough"
    assert await run(good, path="/ready", headers={"X-Probe": "1"}) == Smoke(
        True, "smoke test passed on 1 backend"
    )
    asked = backend.requests[-1]
    assert (asked.target, asked.header("x-probe")) == ("/ready", "1")
    assert asked.header("host") == f"127.0.0.1:{backend.port}"
    found = await run(good, expected_status_code=204)
    assert found == Smoke(False, "smoke test of backend b: GET /: status 200 instead of 204")
    assert len(backend.requests) == 1 + 3, "three times"
    found = await run(good, expected_response_body="bye")
    assert "the expected text is not in the body" in found.message
    assert (await run(good, method="HEAD")).passed
    assert backend.requests[-1].method == "HEAD"
    assert (await run(good, method="POST")).passed

    closed = Backend()
    closed.close()
    found = await run(good, document(closed.port, name="c"))
    assert not found.passed and "smoke test of backend c: connection: " in found.message
    for out in ({"isEnabled": False}, {"weight": 0}):
        assert (await run(good, document(closed.port, **out))).passed, "it takes no traffic"
    assert await run(document(backend.port, weight=0)) == Smoke(
        False, "no backend of the version takes traffic"
    )


async def test_a_backend_that_comes_at_the_third_attempt_passes(gateway: Gateway, backend: Backend) -> None:
    def script(_request: Received) -> bytes | None:
        return ok() if len(backend.requests) >= 3 else None

    backend.script = script
    tester = SmokeTester(gateway.store, gateway.resolver, Path("none"))
    assert (await tester.run({"backends": [document(backend.port)]}, [SmokeTest()])).passed


async def test_its_own_health_check_is_made(gateway: Gateway, backend: Backend) -> None:
    added = await gateway.add_backend(
        url=f"http://127.0.0.1:{backend.port}", healthCheck={"endpoint": "/alive", "timeout": "2s"}
    )
    tester = SmokeTester(gateway.store, gateway.resolver, Path("none"))
    route = {"backends": [{"backendId": added["backendId"]}]}
    assert (await tester.run(route, [])).passed
    assert "/alive" in {request.target for request in backend.requests}
    backend.script = lambda _request: ok(status=b"503 Service Unavailable")
    found = await tester.run(route, [])
    assert found.message == "smoke test of backend b1: health check: status 503 instead of 200"
    found = await tester.run({"backends": [{"backendId": "be-gone"}]}, [])
    assert found == Smoke(False, "backend be-gone is not registered any more")


async def test_names_are_looked_up_by_the_nodes_rules(gateway: Gateway, backend: Backend) -> None:
    resolver = FakeResolver()
    resolver.known = {"users.internal": "127.0.0.1"}
    tester = SmokeTester(gateway.store, resolver, Path("none"))
    named = document(backend.port, url=f"http://users.internal:{backend.port}")
    assert (await tester.run({"backends": [named]}, [SmokeTest()])).passed
    assert backend.requests[-1].header("host") == f"users.internal:{backend.port}"
    other = document(backend.port, url="http://other.internal:80")
    assert "cannot be resolved" in (await tester.run({"backends": [other]}, [])).message


async def test_https_backends_are_verified_as_traffic_is(gateway: Gateway, tmp_path: Path) -> None:
    backend = Backend(tls=server_context("127.0.0.1"))
    (tmp_path / "ca.pem").write_text(ca_pem())
    tester = SmokeTester(gateway.store, gateway.resolver, tmp_path)
    trusting = document(backend.port, url=f"https://127.0.0.1:{backend.port}", tls={"caFile": "ca.pem"})
    assert (await tester.run({"backends": [trusting]}, [SmokeTest()])).passed
    found = await tester.run({"backends": [trusting | {"tls": {}}]}, [SmokeTest()])
    assert "its certificate is not trusted" in found.message
    found = await tester.run({"backends": [trusting | {"tls": {"caFile": "gone.pem"}}]}, [SmokeTest()])
    assert "its TLS settings cannot be used" in found.message
    backend.close()


async def test_a_test_that_cannot_be_made_says_so(gateway: Gateway) -> None:
    tester = SmokeTester(gateway.store, gateway.resolver, Path("none"))
    found = await tester.run({"backends": [{"name": "b"}]}, [])
    assert not found.passed and "could not be made" in found.message


async def test_one_run_for_each_phase(three: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy.rollout import Smokes

    made = await three.create("BlueGreen", autoPromote=False)
    for _ in range(5):
        await three.tick()
    assert Smokes.runs == 1
    held = await three.get(made.deployment_id)
    assert held.waiting == "promotion" and "smoke test passed" in held.message
