"""Who may use a route: real tokens and keys, what a client is told, and what a backend gets."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from harness.backend import Backend
from harness.client import Client, Response
from harness.wait import eventually
from harness.worker import Plane, backend, route

from hotswap_proxy.control.jwks import usable
from hotswap_proxy.control.policies import compile_policy
from hotswap_proxy.model import Route
from tests.tokens import SECRET, Issuer, ec_key, jwks, pem, rsa_key, token

URL = "https://issuer.example/keys"


def guarded(url: str, pattern: str = "/", **auth: Any) -> dict[str, Any]:
    """A route as the catalog takes it, its policy as the control process writes it."""
    document = {"name": "r", "pathPattern": pattern, "backends": [{"url": url}], "auth": auth}
    policy = compile_policy(Route.model_validate(document).document())
    return route(pattern, backend(url), policy=policy)


@pytest.fixture
def ask(plane: Plane, connect: Callable[..., Client]) -> Callable[..., Response]:
    client = connect()

    def ask(bearer: str | None = None, *lines: str, path: str = "/", **more: Any) -> Response:
        given = [] if bearer is None else [f"Authorization: Bearer {bearer}"]
        return client.get(path, *given, *lines, **more)

    return ask


Ask = Callable[..., Response]


def challenge(answer: Response) -> tuple[int, str | None]:
    return answer.status, answer.header("WWW-Authenticate")


INVALID = (401, 'Bearer realm="/", error="invalid_token"')


def test_a_good_token_is_let_in_and_no_other(plane: Plane, make_backend: Any, ask: Ask) -> None:
    behind: Backend = make_backend()
    plane.publish(guarded(behind.url, type="jwt", secret=SECRET, issuer="me", audience=["a", "b"]))
    good = {"iss": "me", "aud": ["x", "b"]}
    assert ask(token(**good)).status == 200
    assert behind.requests[-1].header("Authorization"), "it is passed on unless told otherwise"
    assert challenge(ask()) == (401, 'Bearer realm="/"')
    now = int(time.time())
    for bad in (
        token("another secret that is long enough!!", **good),
        token(**good | {"iss": "you"}),
        token(**good | {"aud": "c"}),
        token(iss="me"),
        token(exp=now - 60, **good),
        token(exp=None, **good),
        token(nbf=now + 300, **good),
        token(iat=now + 300, **good),
        token(**good)[:-2],
        token(**good) + ".",
        "nonsense",
        "x" * 9000,
        token(SECRET * 2, "HS512", **good),
    ):
        answer = ask(bad)
        assert challenge(answer) == INVALID, bad
        error = json.loads(answer.body)["error"]
        assert error["message"] == "The credentials are not valid, or no longer.", "the same for all"
        assert bad not in answer.body.decode()
    assert len(behind.requests) == 1
    assert ask(token(exp=now - 5, **good)).status == 200, "clocks differ a little"
    assert ask(None, f"Authorization: bearer  {token(**good)}").status == 200
    two = f"Authorization: Bearer {token(**good)}"
    assert ask(None, two, two).status == 401, "of two, who knows which one the backend takes"
    assert ask(None, "Authorization: Basic YTpi").status == 401
    assert ask(None, "Authorization: Bearer").status == 401


def test_a_token_does_not_choose_how_it_is_verified(plane: Plane, make_backend: Any, ask: Ask) -> None:
    behind: Backend = make_backend()
    public = pem(rsa_key())
    plane.publish(guarded(behind.url, type="jwt", publicKey=public))
    assert ask(token(rsa_key(), "RS256")).status == 200
    assert ask(token(rsa_key("other"), "RS256")).status == 401

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = part({"sub": "mallory", "exp": int(time.time()) + 60})
    for algorithm in ("none", "None", "nOnE", ""):
        assert ask(f"{part({'alg': algorithm})}.{claims}.").status == 401
    # The public key as an HMAC secret; PyJWT refuses to make such a token, so by hand.
    message = f"{part({'alg': 'HS256'})}.{claims}"
    import hmac

    for secret in (public.encode(), public.strip().encode()):
        mac = hmac.digest(secret, message.encode(), "sha256")
        forged = f"{message}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        assert ask(forged).status == 401
    assert ask(token(ec_key(), "ES256")).status == 401
    plane.publish(guarded(behind.url, type="jwt", publicKey=pem(ec_key())))
    assert ask(token(ec_key(), "ES256")).status == 200
    assert ask(token(rsa_key(), "RS256")).status == 401, "a token that was good with the old key"
    assert len(behind.requests) == 2


def test_roles_and_claims(plane: Plane, make_backend: Any, ask: Ask) -> None:
    behind: Backend = make_backend()
    rules = {"roles": ["admin", "ops"], "rolesClaim": "realm_access.roles"}
    claims = {"requiredClaims": {"tenant": ["t1", "t2"], "level": 3}}
    plane.publish(guarded(behind.url, type="jwt", secret=SECRET, **rules, **claims))
    good = {"realm_access": {"roles": ["ops"]}, "tenant": "t2", "level": 3}
    assert ask(token(**good)).status == 200
    missing = (403, 'Bearer realm="/", error="insufficient_scope"')
    for _ in range(2):  # the second comes from the cache
        assert challenge(ask(token(**good | {"realm_access": {"roles": ["dev"]}}))) == missing
    assert challenge(ask(token(**good | {"tenant": "t3"}))) == missing
    assert challenge(ask(token(**good | {"level": 4}))) == missing


def test_the_backend_learns_who_it_is_from_the_gateway_only(
    plane: Plane, make_backend: Any, ask: Ask
) -> None:
    behind: Backend = make_backend()
    named = {"identityHeader": "X-User-Id", "stripCredentials": True, "userClaim": "uid"}
    plane.publish(guarded(behind.url, type="jwt", secret=SECRET, **named))
    claims = ["X-User-Id: root", "x_user_id: root", "X-USER_ID: root"]
    for uid, told in (("ann", "ann"), (42, "42"), (None, None)):
        for _ in range(2):
            assert ask(token(uid=uid), *claims, "Connection: X-User-Id").status == 200
            got = behind.requests[-1]
            assert got.header("X-User-Id") == told
            assert not [value for _, value in got.headers if "root" in value]
            assert got.header("Authorization") is None
    for bad in ("a\r\nX-Admin: 1", " ann", "ann "):
        assert challenge(ask(token(uid=bad))) == INVALID


def test_keys_of_a_url(plane: Plane, make_backend: Any, ask: Ask) -> None:
    behind: Backend = make_backend()
    guard = guarded(behind.url, type="jwt", jwksUrl=URL, algorithms=["RS256", "ES256"])
    plane.publish(guard)
    assert plane.catalog.key_sets == {URL: (300_000, False)}
    answer = ask(Issuer("r1").token())
    assert answer.status == 503
    assert answer.header("Retry-After") == "5"
    assert "keys" in json.loads(answer.body)["error"]["message"]
    assert challenge(ask()) == (401, 'Bearer realm="/"'), "for that no key is needed"

    def keys(*kids: str) -> None:
        plane.publish(reset=False, keySets={URL: usable(jwks(*kids))})

    keys("r1", "e1")
    assert plane.catalog.key_sets == {URL: (300_000, True)}
    r1, e1, r2 = Issuer("r1").token(), Issuer("e1").token(), Issuer("r2").token()
    assert [ask(one).status for one in (r1, e1)] == [200, 200]
    assert ask(token(rsa_key("r1"), "RS256")).status == 200, "without kid every key is tried"
    assert ask(token(rsa_key("r1"), "RS256", "e1")).status == 401
    assert plane.node.take_keys_wanted(), "no RSA key is called e1"
    assert challenge(ask(r2)) == INVALID
    assert plane.node.take_keys_wanted()
    assert not plane.node.take_keys_wanted(), "asked once"
    keys("e1", "r2")
    assert [ask(one).status for one in (r1, e1, r2)] == [401, 200, 200], "what has gone is not trusted"
    plane.publish(guard | {"version": "1.1"}, reset=False)
    assert ask(r2).status == 200, "a change of the route keeps the keys"
    plane.publish(reset=False, removeRoutes=["/"])
    assert plane.catalog.key_sets == {}


def test_a_token_is_good_for_the_routes_that_take_it(plane: Plane, make_backend: Any, ask: Ask) -> None:
    behind: Backend = make_backend()
    plane.publish(
        guarded(behind.url, "/a", type="jwt", secret=SECRET, audience="a"),
        guarded(behind.url, "/b", type="jwt", secret=SECRET, audience="b"),
        guarded(behind.url, "/open", type="none"),
    )
    mine = token(aud="a")
    for _ in range(3):
        assert ask(mine, path="/a").status == 200
        assert ask(mine, path="/b").status == 401
    assert ask(path="/open").status == 200


def test_a_token_is_not_believed_longer_than_it_lasts(plane: Plane, make_backend: Any, ask: Ask) -> None:
    behind: Backend = make_backend()
    plane.publish(guarded(behind.url, type="jwt", secret=SECRET, clockSkew="1s"))
    short = token(exp=int(time.time()) + 1)
    assert ask(short).status == 200
    eventually(lambda: ask(short).status == 401)


def test_api_keys(plane: Plane, make_backend: Any, ask: Ask) -> None:
    behind: Backend = make_backend()
    many = [{"name": f"k{n}", "key": f"key number {n} of many".replace(" ", "-")} for n in range(2000)]
    many.append({"name": "ops", "key": "the-key-of-operations", "roles": ["ops"]})
    hashed = hashlib.sha256(b"known-by-its-hash-only").hexdigest().upper()
    many.append({"name": "by hash", "keyHash": hashed, "roles": ["x", "ops"]})
    plane.publish(
        guarded(behind.url, "/a", type="apiKey", apiKeys=many, identityHeader="X-Client"),
        guarded(behind.url, "/ops", type="apiKey", apiKeys=many, roles=["ops"], header="Api_Key"),
        guarded(behind.url, "/kept", type="apiKey", apiKeys=many, stripCredentials=False),
    )

    def get(path: str, key: str, header: str = "X-API-Key") -> Response:
        return ask(None, f"{header}: {key}", "X-Client: root", path=path)

    assert challenge(ask(path="/a")) == (401, 'ApiKey realm="/a"')
    for n in (0, 999, 1999):
        assert get("/a", f"key-number-{n}-of-many").status == 200
        got = behind.requests[-1]
        assert (got.header("X-Client"), got.header("X-API-Key")) == (f"k{n}", None)
    assert get("/a", "known-by-its-hash-only").status == 200
    assert behind.requests[-1].header("X-Client") == "by hash"
    for bad in ("key-number-2000-of-many", "the-key-of-operation", "THE-KEY-OF-OPERATIONS", hashed, ""):
        assert get("/a", bad).status == 401
    assert get("/ops", "key-number-1-of-many", "Api_Key").status == 403
    assert get("/ops", "the-key-of-operations", "Api_Key").status == 200
    assert get("/ops", "the-key-of-operations").status == 401
    assert get("/kept", "the-key-of-operations").status == 200
    assert behind.requests[-1].header("X-API-Key") == "the-key-of-operations"
    twice = ["X-API-Key: the-key-of-operations"] * 2
    assert ask(None, *twice, path="/a").status == 401


def test_a_refused_body_ends_the_connection_and_reaches_nobody(
    plane: Plane, make_backend: Any, ask: Ask
) -> None:
    behind: Backend = make_backend()
    plane.publish(guarded(behind.url, type="jwt", secret=SECRET))
    answer = ask("wrong", method="POST", body=b"secret body")
    assert answer.status == 401
    assert answer.header("Connection") == "close"
    assert behind.connections == 0


def test_the_realm_is_quoted(plane: Plane, make_backend: Any, ask: Ask) -> None:
    behind: Backend = make_backend()
    guard = guarded(behind.url, type="jwt", secret=SECRET) | {"name": 'a "b" \\c'}
    plane.publish(guard)
    assert challenge(ask()) == (401, 'Bearer realm="a \\"b\\" \\\\c"')


def test_a_trailer_says_nobodys_name(plane: Plane, make_raw: Any, connect: Callable[..., Client]) -> None:
    """A backend that takes trailers for fields of the head would believe it."""
    got: list[bytes] = []

    def script(peer: Any) -> None:
        peer.read_head()
        while not peer.buffer.endswith(b"0\r\n\r\n") and b"X-User" not in peer.buffer:
            peer._fill()
        got.append(peer.buffer)
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    behind = make_raw(script)
    plane.publish(guarded(behind.url, type="jwt", secret=SECRET, identityHeader="X-User-Id"))
    client = connect()
    client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer "
        + token(sub="eve").encode()
        + b"\r\n\r\n3\r\nabc\r\n0\r\nX-User-Id: root\r\nx_user_id: root\r\n\r\n"
    )
    assert client.read("POST").status == 204
    assert got == [b"3\r\nabc\r\n0\r\n\r\n"]
