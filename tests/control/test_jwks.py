"""Keys of token issuers: fetched, followed, kept when their server fails, and bounded."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotswap_proxy.control import jwks as module
from hotswap_proxy.control.jwks import FetchError, usable
from tests.gateway import ROUTE, ROUTES, Gateway, running
from tests.issuer import KeyServer, certificate
from tests.tokens import Issuer, jwks

pytestmark = pytest.mark.anyio

LOCAL = {"allowed_backend_hosts": ("127.0.0.1",)}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)
    monkeypatch.setattr(module, "PAUSE", 0.0)


@pytest.fixture
def make_server() -> Iterator[Callable[..., KeyServer]]:
    servers: list[KeyServer] = []

    def make(*kids: str, **options: Any) -> KeyServer:
        servers.append(KeyServer(*kids, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def guarded(url: str, **fields: Any) -> dict[str, Any]:
    return ROUTE | {"auth": {"type": "jwt", "jwksUrl": url}} | fields


def known(gateway: Gateway) -> dict[str, bool]:
    return {url: there for url, (_, there) in gateway.configuration._catalog.key_sets.items()}


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_keys_are_there_before_the_route_is(tmp_path: Path, make_server: Any) -> None:
    server = make_server("r1")
    async with running(tmp_path, **LOCAL) as gateway:
        await gateway.add_route(**guarded(server.url()))
        assert known(gateway) == {server.url(): True}
        assert len(server.requests) == 1
        assert server.requests[0]["host"] == f"127.0.0.1:{server.port}"
        generation = gateway.configuration.generation
        await gateway.add_route(**guarded(server.url(), name="b", pathPattern="/b"))
        assert gateway.configuration.generation == generation + 1, "the keys are already there"
        assert len(server.requests) == 1
    async with running(tmp_path, **LOCAL) as gateway:
        assert known(gateway) == {server.url(): True}, "and after a restart"


async def test_a_server_that_is_down_delays_a_change_a_little_and_is_asked_again(
    tmp_path: Path, make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server("r1")
    server.status = 500
    async with running(tmp_path, **LOCAL) as gateway:
        with caplog.at_level(logging.INFO):
            await gateway.add_route(**guarded(server.url()))
            assert known(gateway) == {server.url(): False}
            await until(lambda: len(server.requests) > 3)
            server.status = 200
            await until(lambda: known(gateway)[server.url()])
        ours = [one for one in caplog.records if "keys" in one.getMessage()]
        assert [one.getMessage() for one in ours] == [
            "keys not fetched; its routes answer 503",
            "keys fetched again",
        ], "at the edges"
        told = [str(vars(one)) for one in caplog.records]
        assert not any("of=all" in one for one in told), "a URL may be somebody's secret"


async def test_a_server_that_hangs_does_not_hold_up_a_change(
    tmp_path: Path, make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, go = make_server("r1"), threading.Event()
    server.before = go.wait
    monkeypatch.setattr(module, "FIRST", 0.1)
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    async with running(tmp_path, **LOCAL) as gateway:
        await gateway.add_route(**guarded(server.url()))
        assert known(gateway) == {server.url(): False}
        await until(lambda: len(server.requests) > 1)
        go.set()
        await until(lambda: known(gateway)[server.url()])


async def test_a_server_that_is_down_delays_no_change_but_the_first(
    tmp_path: Path, make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 1000.0)
    server = make_server("r1")
    server.status = 500
    async with running(tmp_path, **LOCAL) as gateway:
        await gateway.add_route(**guarded(server.url()))
        assert server.answered == [500]
        await gateway.add_route(name="other", pathPattern="/other")
        await gateway.add_route(**guarded(server.url(), name="b", pathPattern="/b"))
        assert server.answered == [500], "it is asked again in its own time"


async def test_a_strange_validator_is_not_sent_back(tmp_path: Path, make_server: Any) -> None:
    server = make_server("r1")
    server.headers["ETag"] = '"\u00e9"'
    async with running(tmp_path, **LOCAL) as gateway:
        await gateway.add_route(**guarded(server.url()))
        server.publish("r2")
        gateway.keys.hurry()
        await until(lambda: len(server.requests) > 1)
        assert "if-none-match" not in server.requests[1]
        await until(lambda: gateway.keys._sources[server.url()].keys[0].get("kid") == "r2")


async def test_a_rotation_is_a_generation_of_its_own_and_keys_stay_when_the_server_fails(
    tmp_path: Path, make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server("r1")
    async with running(tmp_path, **LOCAL) as gateway:
        route = await gateway.add_route(**guarded(server.url()))
        generation = gateway.configuration.generation
        gateway.keys.hurry()
        await until(lambda: 304 in server.answered)
        assert gateway.configuration.generation == generation, "nothing has changed"
        server.publish("r1", "e1")
        gateway.keys.hurry()
        await until(lambda: gateway.configuration.generation == generation + 1)
        answer = await gateway.client.get(f"{ROUTES}/{route['routeId']}")
        assert answer.json()["version"] == "1.0"
        assert answer.headers["etag"]
        for broken in (b"{", b"[]", b'{"keys": []}', b'{"keys": 1}', b'{"keys": [{"kty": "oct", "k": "x"}]}'):
            seen, server.body = len(server.answered), broken
            gateway.keys.hurry()
            await until(lambda seen=seen: len(server.answered) > seen)
        server.headers, server.status = {"Location": server.url()}, 302
        gateway.keys.hurry()
        await until(lambda: 302 in server.answered)
        assert known(gateway) == {server.url(): True}
        assert gateway.configuration.generation == generation + 1
        warnings = [one for one in caplog.records if "the last ones stay" in one.getMessage()]
        assert len(warnings) == 1


async def test_what_no_route_wants_is_not_followed(tmp_path: Path, make_server: Any) -> None:
    server, other = make_server("r1"), make_server("e1")
    async with running(tmp_path, **LOCAL) as gateway:
        route = await gateway.add_route(**guarded(server.url()))
        path = f"{ROUTES}/{route['routeId']}"
        answer = await gateway.client.put(path, json={"auth": {"jwksUrl": other.url()}})
        assert answer.status_code == 200, answer.text
        assert known(gateway) == {other.url(): True}
        await gateway.client.put(path, json={"isEnabled": False})
        assert known(gateway) == {}
        before = len(server.requests), len(other.requests)
        gateway.keys.hurry()
        await asyncio.sleep(0)
        assert (len(server.requests), len(other.requests)) == before
        assert not gateway.keys._sources
        await gateway.client.put(path, json={"isEnabled": True})
        assert known(gateway) == {other.url(): True}, "fetched anew"


async def test_keys_of_a_rehearsal_are_served_when_it_is_done(tmp_path: Path, make_server: Any) -> None:
    server = make_server("r1")
    async with running(tmp_path, **LOCAL) as gateway:
        answer = await gateway.client.post(ROUTES, json=guarded(server.url()), params={"dryRun": "true"})
        assert answer.status_code == 200 or answer.status_code == 201
        assert known(gateway) == {}
        await gateway.add_route(**guarded(server.url()))
        assert known(gateway) == {server.url(): True}


async def test_workers_ask_and_the_control_process_paces(
    tmp_path: Path, make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server("r1")
    monkeypatch.setattr(module, "PAUSE", 0.3)
    async with running(tmp_path, **LOCAL) as gateway:
        await gateway.add_route(**guarded(server.url()))
        clock = asyncio.get_running_loop().time
        started, seen = clock(), len(server.requests)
        while clock() < started + 1:
            gateway.keys.hurry()
            await asyncio.sleep(0.01)
        assert 1 <= len(server.requests) - seen <= 4


async def test_https_with_the_name_that_was_checked(
    tmp_path: Path, make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certificate(tmp_path, "issuer.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    server = make_server("e1", certificate=pem)
    data = tmp_path / "data"
    data.mkdir()
    async with running(data) as gateway:
        gateway.resolver.known |= {"issuer.example": "127.0.0.1", "other.example": "127.0.0.1"}
        url = server.url("issuer.example")
        await gateway.add_route(**guarded(url))
        assert known(gateway) == {url: True}
        assert server.requests[0]["host"] == f"issuer.example:{server.port}"
        wrong = server.url("other.example")
        await gateway.add_route(**guarded(wrong, name="b", pathPattern="/b"))
        assert known(gateway) == {url: True, wrong: False}, "the certificate is another's"
        gone = "https://nowhere.example/keys"
        await gateway.add_route(**guarded(gone, name="c", pathPattern="/c"))
        assert known(gateway)[gone] is False


async def test_bounds(tmp_path: Path, make_server: Any) -> None:
    server = make_server()
    server.body = jwks("r1")[:-1] + b',"more":"' + b"x" * module.MAX_BYTES + b'"}'
    async with running(tmp_path, **LOCAL) as gateway:
        await gateway.add_route(**guarded(server.url()))
        assert known(gateway) == {server.url(): False}
    with pytest.raises(FetchError, match="more than 100"):
        usable(json.dumps({"keys": [{}] * 101}).encode())


def test_only_keys_that_verify_are_taken() -> None:
    r1, e1 = Issuer("r1").jwk(), Issuer("e1").jwk()
    no_kid = {key: value for key, value in e1.items() if key not in ("kid", "use")}
    odd: list[Any] = [
        None, 7, {}, {"kty": "oct", "k": "AA"}, {"kty": ["RSA"]}, r1 | {"use": "enc"}, r1 | {"alg": "RS512"},
        e1 | {"crv": "P-384"}, r1 | {"n": 5}, r1 | {"n": "A" * 3000}, r1 | {"key_ops": ["sign"]},
    ]  # fmt: skip
    keys = usable(json.dumps({"keys": [*odd, r1 | {"alg": "RS256"}, e1, no_kid]}).encode())
    assert [key.get("kid") for key in keys] == ["r1", "e1", None]
    assert keys[0] == {
        "kid": "r1",
        "algorithm": "RS256",
        "material": {"rsa": {"n": r1["n"], "e": r1["e"]}},
    }
    for document in (odd, {"keys": odd}, {"keys": {}}, {}):
        with pytest.raises(FetchError):
            usable(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://issuer.example/keys", "url_https"),
        ("https://169.254.169.254/keys", "url_forbidden"),
        ("https://metadata.google.internal/keys", "url_forbidden"),
        ("https://127.0.0.1:5000/keys", "url_admin"),
        ("https://user:pw@issuer.example/keys", "url_userinfo"),
        ("https://issuer.example/keys#a", "url"),
        ("https://issuer.example/a b", "url"),
        ("ftp://issuer.example/keys", "url_scheme"),
        ("issuer.example", "url"),
    ],
)
async def test_urls_that_are_refused(gateway: Gateway, url: str, rule: str) -> None:
    answer = await gateway.client.post(ROUTES, json=guarded(url))
    assert answer.status_code == 400
    assert [(d["field"], d["rule"]) for d in answer.json()["error"]["details"]] == [("auth.jwksUrl", rule)]
