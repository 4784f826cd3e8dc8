"""Rate limits of routes: who is counted together, what is told, and that it survives changes."""

from __future__ import annotations

import hashlib
import threading

import pytest
from harness.backend import ok
from harness.client import Client
from harness.wait import eventually
from harness.worker import backend, route

from hotswap_proxy.control.policies import compile_policy
from hotswap_proxy.model import Route

ALGORITHMS = ("FixedWindow", "SlidingWindow", "TokenBucket")
HOUR = 3_600_000


def limited(requests, kind="TokenBucket", window_ms=HOUR, key_by="ClientIP"):
    return {
        "rateLimit": {"type": kind, "requests": requests, "windowMs": window_ms, "keyBy": key_by},
    }


def told(answer):
    """Limit, Remaining and Reset."""
    return tuple(int(answer.header(f"X-RateLimit-{name}") or -1) for name in ("Limit", "Remaining", "Reset"))


@pytest.fixture
def server(make_backend):
    return make_backend()


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_as_many_as_allowed_pass_and_each_is_told(plane, server, connect, kind):
    plane.publish(route("/**", backend(server.url), policy=limited(3, kind)))
    client = connect()
    answers = [client.get() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert [told(answer)[:2] for answer in answers] == [(3, 2), (3, 1), (3, 0), (3, 0), (3, 0)]
    for answer in answers:
        assert 0 < told(answer)[2] <= 2 * HOUR / 1000
    assert all(answer.header("Retry-After") is None for answer in answers[:3])
    for answer in answers[3:]:
        assert 1 <= int(answer.header("Retry-After") or 0) <= told(answer)[2]
    assert len(server.requests) == 3
    assert {row["routeId"]: row["limited"] for row in plane.node.series_stats()}["/**"] == 2


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_who_waits_is_let_in_again(plane, server, connect, kind):
    plane.publish(route("/**", backend(server.url), policy=limited(1, kind, window_ms=1000)))
    client = connect()
    statuses = [client.get().status for _ in range(3)]
    assert 429 in statuses
    eventually(lambda: client.get().status == 200)


def test_a_refusal_is_an_error_of_the_gateway(plane, server, connect):
    plane.publish(route("/**", backend(server.url), policy=limited(1)))
    client = connect()
    client.get()
    answer = client.get("/", "Accept: application/json", "X-Request-ID: mine")
    assert answer.header("X-Request-ID") == "mine"
    assert b"RATE_LIMIT_EXCEEDED" in answer.body
    # Its body is not read: the connection cannot go on.
    answer = client.get("/", method="POST", body=b"hello")
    assert (answer.status, answer.header("Connection")) == (429, "close")
    assert client.closed()


def test_only_the_gateway_tells_of_its_limit(plane, make_backend, connect):
    own = (b"X-RateLimit-Limit: 99", b"x-ratelimit-remaining: 98", b"X-RATELIMIT-RESET: 97", b"X-Other: 1")
    server = make_backend(lambda _: ok(b"", *own))
    plane.publish(
        route("/limited", backend(server.url), policy=limited(10)), route("/free", backend(server.url))
    )
    client = connect()
    answer = client.get("/limited")
    assert answer.header("X-RateLimit-Limit") == "10"
    assert answer.header("X-RateLimit-Remaining") == "9"
    assert answer.header("X-Other") == "1"
    assert told(client.get("/free")) == (99, 98, 97)


def test_errors_of_the_gateway_tell_of_the_limit_too(plane, connect):
    plane.publish(
        route("/**", backend("http://127.0.0.1:9", isEnabled=False), policy=limited(5)),
    )
    answer = connect().get()
    assert answer.status == 503
    assert told(answer)[:2] == (5, 4)


def test_routes_have_limits_of_their_own(plane, server, connect):
    plane.publish(
        route("/a", backend(server.url), policy=limited(1)),
        route("/b", backend(server.url), policy=limited(1)),
    )
    client = connect()
    assert [client.get(path).status for path in ("/a", "/b", "/a", "/b")] == [200, 200, 429, 429]


def test_clients_have_limits_of_their_own(plane, server, connect):
    plane.publish(route("/**", backend(server.url), policy=limited(1)))
    first, second, again = (
        connect(source="127.0.0.2"),
        connect(source="127.0.0.3"),
        connect(source="127.0.0.2"),
    )
    assert [client.get().status for client in (first, second, again)] == [200, 200, 429]


def test_api_keys_are_counted_and_the_client_where_there_is_none(plane, server, connect):
    plane.publish(route("/**", backend(server.url), policy=limited(1, key_by="ApiKey")))
    first, second = connect(source="127.0.0.2"), connect(source="127.0.0.3")
    assert first.get("/", "X-API-Key: one").status == 200
    assert second.get("/", "X-API-Key: one").status == 429
    assert second.get("/", "x-api-key: two").status == 200
    assert [first.get().status, second.get().status] == [200, 200]
    assert first.get("/", "X-API-Key:").status == 429  # an empty key is none


def test_without_an_identity_the_client_is_counted(plane, server, connect):
    plane.publish(route("/**", backend(server.url), policy=limited(1, key_by="UserId")))
    client = connect()
    assert [client.get().status, client.get().status] == [200, 429]
    assert connect(source="127.0.0.2").get().status == 200


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_a_swap_resets_nothing_and_a_changed_limit_holds_at_once(plane, server, connect, kind):
    def publish(requests):
        plane.publish(route("/**", backend(server.url), routeId="r", policy=limited(requests, kind)))

    client = connect()
    publish(4)
    assert [client.get().status for _ in range(2)] == [200, 200]
    publish(4)
    assert [client.get().status for _ in range(3)] == [200, 200, 429]
    publish(8)
    statuses = [client.get().status for _ in range(9)]
    assert 429 in statuses
    if kind != "TokenBucket":  # what was used is a number of requests, not a share
        assert statuses.count(200) == 4
    publish(2)
    assert client.get().status == 429


def test_exactly_the_limit_passes_of_many_at_once(plane, server):
    plane.publish(route("/**", backend(server.url), policy=limited(50, "FixedWindow")))
    clients = [Client(plane.port) for _ in range(80)]
    statuses: list[int] = []
    start = threading.Barrier(len(clients))

    def ask(client):
        start.wait(10)
        statuses.append(client.get().status)

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for client in clients:
        client.sock.close()
    assert (statuses.count(200), statuses.count(429)) == (50, 30)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [({"requests": 0}, "requests"), ({"requests": 1_000_001}, "requests"), ({"windowMs": 0}, "window")],
)
def test_the_core_checks_limits_again(plane, server, changes, rule):
    policy = {"rateLimit": limited(1)["rateLimit"] | changes}
    with pytest.raises(ValueError, match=f"rateLimit.{rule}"):
        plane.publish(route("/**", backend(server.url), policy=policy))


KEYS = [
    {"name": "one", "keyHash": hashlib.sha256(b"first-key").hexdigest()},
    {"name": "two", "keyHash": hashlib.sha256(b"second-key").hexdigest()},
]


def guarded(url, key_by):
    auth = {"type": "apiKey", "apiKeys": KEYS, "header": "X-Token"}
    limit = {"type": "FixedWindow", "requests": 1, "window": "1h", "keyBy": key_by}
    document = {"name": "r", "path": "/**", "backends": [{"url": url}], "auth": auth, "rateLimit": limit}
    return route("/**", backend(url), policy=compile_policy(Route.model_validate(document).document()))


@pytest.mark.parametrize("key_by", ["ApiKey", "UserId"])
def test_those_who_have_a_right_to_be_here_are_counted(plane, server, connect, key_by):
    plane.publish(guarded(server.url, key_by))
    client = connect()
    assert client.get("/", "X-API-Key: first-key").status == 401  # uses up nobody's limit
    tokens = ("first-key", "second-key", "first-key", "wrong-key")
    assert [client.get("/", f"X-Token: {token}").status for token in tokens] == [200, 200, 429, 401]
    assert connect(source="127.0.0.2").get("/", "X-Token: second-key").status == 429
