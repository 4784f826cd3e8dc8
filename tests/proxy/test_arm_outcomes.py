"""What counts for or against a version: first attempts, each in one way, and what is listed beside them."""

from __future__ import annotations

import pytest
from harness.backend import ok
from harness.wait import eventually
from harness.worker import backend, route
from proxy.arms import arm, came_to, split, versions
from proxy.attempts import UNAVAILABLE, first, nobody, retry
from proxy.test_swap import GET

from hotswap_proxy._core import histogram_quantile, histogram_sum

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"


def all_to(*members, **changes):
    """A route whose canary gets everything."""
    return split(route("/**", backend("http://127.0.0.1:1")), route("/**", *members, **changes), 10_000)


@pytest.mark.parametrize(
    ("status", "failed"), [(b"200 OK", 0), (b"404 No", 0), (b"429 No", 0), (b"500 No", 1), (b"503 No", 1)]
)
def test_answers_of_the_backend(plane, make_backend, connect, status, failed):
    plane.publish(all_to(backend(make_backend(lambda _: ok(status=status)).url)))
    connect().get()
    came_to(plane, requests=1, failed=failed)


def test_a_backend_that_is_not_there(plane, connect):
    with nobody() as url:
        plane.publish(all_to(backend(url)))
        assert connect().get().status == 502
    came_to(plane, requests=1, failed=1)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nConte",
        b"garbage\r\n\r\n",
        HALF,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
    ids=["nothing", "half a head", "garbage", "half a body", "half of the chunks"],
)
def test_answers_that_are_none(plane, make_raw, connect, answer):
    def script(peer):
        peer.read_head()
        peer.send(answer)

    plane.publish(all_to(backend(make_raw(script).url)))
    client = connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    client.read_to_end()
    came_to(plane, requests=1, failed=1)


def test_a_backend_that_is_too_slow(plane, make_raw, connect):
    server = make_raw(lambda peer: peer.ended())
    plane.publish(all_to(backend(server.url, timeouts={"readMs": 100})))
    assert connect().get().status == 504
    came_to(plane, requests=1, failed=1)
    assert (histogram_quantile(arm(plane)["latency"], 0.5) or 0) > 90_000


def test_a_retry_hides_nothing(plane, make_backend, connect):
    server = make_backend(first([UNAVAILABLE]))
    plane.publish(all_to(backend(server.url), policy=retry(3, delay=300)))
    assert connect().get().status == 200
    came_to(plane, requests=1, failed=1)
    assert len(server.requests) == 2


def test_failures_of_retries_count_no_more(plane, make_backend, connect):
    server = make_backend(lambda _: UNAVAILABLE)
    plane.publish(all_to(backend(server.url), policy=retry(3)))
    assert connect().get().status == 503
    assert len(server.requests) == 3
    came_to(plane, requests=1, failed=1)


def test_a_failover_hides_nothing(plane, make_backend, connect):
    with nobody() as url:
        members = (backend(url, "b1"), backend(make_backend().url, "b2"))
        plane.publish(all_to(*members, strategy="Direct"))
        assert connect().get().status == 200
    came_to(plane, requests=1, failed=1)


def test_a_pooled_connection_that_was_closed_is_no_failure(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(ok())
        if peer.number == 0:
            peer.read_head()  # and goes away with it

    plane.publish(all_to(backend(make_raw(script).url)))
    client = connect()
    assert [client.get().status, client.get().status] == [200, 200]
    came_to(plane, requests=2)


def test_no_backend_is_listed_apart(plane, make_backend, connect):
    server = make_backend()
    plane.publish(all_to(backend(server.url)))
    plane.node.set_backend_status(server.url, 2)
    assert connect().get().status == 503
    came_to(plane, unavailable=1)


def test_what_a_limit_refused_is_listed_apart(plane, make_backend, connect):
    limit = {"type": "FixedWindow", "requests": 1, "windowMs": 3_600_000, "keyBy": "ClientIP"}
    plane.publish(all_to(backend(make_backend().url), policy={"rateLimit": limit}))
    assert [connect().get().status for _ in range(3)] == [200, 429, 429]
    came_to(plane, requests=1, limited=2)


def test_what_the_gateway_refused_is_listed_apart(plane, make_backend, connect):
    plane.publish(all_to(backend(make_backend().url), maxRequestBody=3))
    assert connect().get(method="POST", body=b"four").status == 413
    client = connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n")
    assert client.read("POST").status == 400
    came_to(plane, refused=2)


@pytest.mark.parametrize("answer", [b"", HALF], ids=["early", "mid"])
def test_a_client_that_left_is_listed_apart(plane, make_raw, connect, answer):
    def script(peer):
        peer.read_head()
        peer.send(answer)
        peer.ended()

    server = make_raw(script)
    plane.publish(all_to(backend(server.url)))
    client = connect()
    client.send(GET)
    if answer:
        assert client.sock.recv(4096)
    eventually(lambda: plane.active(server.url) == 1)
    came_to(plane, active=1)
    client.reset()
    came_to(plane, aborted=1)


def test_a_client_that_left_after_a_failure_takes_nothing_back(plane, make_backend, connect):
    server = make_backend(first([UNAVAILABLE]))
    plane.publish(all_to(backend(server.url), policy=retry(3, delay=2_000)))
    client = connect()
    client.send(GET)
    came_to(plane, requests=1, failed=1, active=1)
    # The duration is the first attempt's: that of the whole is not known yet.
    assert histogram_sum(arm(plane)["latency"]) > 0
    client.reset()
    came_to(plane, requests=1, failed=1)


def test_events_are_judged_by_their_head(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        peer.ended()

    plane.publish(all_to(backend(make_raw(script).url)))
    client = connect()
    client.send(GET)
    assert client.sock.recv(4096)
    came_to(plane, requests=1, active=1)
    client.reset()
    came_to(plane, requests=1)


@pytest.mark.parametrize(("status", "failed"), [(200, 0), (500, 1)])
def test_a_middleware_hides_nothing(make_plane, make_backend, connect, status, failed):
    async def soothe(request, forward):
        await forward(request)
        return Response(200, {}, b"all is well")

    from hotswap_proxy.middleware import Response

    plane = make_plane(middleware={"soothe": soothe})
    server = make_backend(lambda _: ok(status=b"%d X" % status))
    plane.publish(all_to(backend(server.url), policy={"middleware": ["soothe"]}))
    assert connect(plane).get().status == 200
    came_to(plane, requests=1, failed=failed)


def test_the_stable_arm_is_measured_alike(plane, make_backend, connect):
    failing = make_backend(lambda _: ok(status=b"500 No"))
    plane.publish(versions(failing.url, make_backend().url, 0))
    assert connect().get().status == 500
    came_to(plane, "stable", requests=1, failed=1)
    came_to(plane)
