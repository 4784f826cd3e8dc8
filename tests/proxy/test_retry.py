"""Retries by a route's policy: which requests, when, how often, and what the backends get to see."""

from __future__ import annotations

import threading
import time

import pytest
from harness.backend import ok
from harness.wait import eventually
from harness.worker import backend, route
from proxy.attempts import UNAVAILABLE, events, first, ids, publish, recovered, retry, said

IDEMPOTENT = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE")


@pytest.mark.parametrize("method", IDEMPOTENT)
def test_a_retryable_status_is_tried_again(plane, make_backend, connect, method):
    server = make_backend(first([UNAVAILABLE if method != "HEAD" else UNAVAILABLE[:-2]], ok(b"")))
    publish(plane, server.url, policy=retry())
    client = connect()
    assert client.get("/x", method=method).status == 200
    assert [request.method for request in server.requests] == [method, method]
    assert ids(server)[0] and len(set(ids(server))) == 1
    assert client.get("/x", method=method).status == 200
    eventually(lambda: recovered(plane) == 1)
    assert events(plane) == {"status": 1}


@pytest.mark.parametrize("how", ["status", "close", "half a head"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_is_not_idempotent_is_never_sent_twice(plane, make_raw, connect, how, method):
    def script(peer):
        peer.read_head()
        peer.read(4)
        peer.send({"status": UNAVAILABLE, "close": b"", "half a head": b"HTTP/1.1 200 OK\r\nX: "}[how])

    servers = [make_raw(script), make_raw(script)]
    publish(plane, *(server.url for server in servers), policy=retry())
    assert connect().get(method=method, body=b"once").status == (503 if how == "status" else 502)
    assert sum(len(peer.heads) for server in servers for peer in server.peers) == 1
    assert events(plane) == {}


def test_a_post_on_a_connection_that_dies_is_not_sent_twice(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(ok())
        peer.read_head()  # and goes away with it

    server = make_raw(script)
    publish(
        plane, server.url, server.url.replace("127.0.0.1", "127.0.0.2"), policy=retry(), strategy="Direct"
    )
    client = connect()
    assert client.get().status == 200
    assert client.get(method="POST", body=b"once").status == 502
    assert [len(peer.heads) for peer in server.peers] == [2]


@pytest.mark.parametrize("how", ["close", "half a head", "reset"])
def test_a_premature_close_is_tried_again_elsewhere(plane, make_raw, make_backend, connect, how):
    def script(peer):
        peer.read_head()
        if how == "reset":
            peer.reset()
        elif how == "half a head":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")

    bad, good = make_raw(script), make_backend()
    publish(plane, bad.url, good.url, policy=retry(), strategy="Direct")
    client = connect()
    assert client.get().body == b"hello"
    assert [len(peer.heads) for peer in bad.peers] == [1]
    assert events(plane) == {"closed": 1}


def test_a_body_at_hand_goes_with_every_attempt(plane, make_backend, connect):
    servers = [make_backend(lambda _: UNAVAILABLE), make_backend(lambda _: UNAVAILABLE)]
    publish(plane, *(server.url for server in servers), policy=retry(3))
    assert connect().get(method="PUT", body=b"x" * 3000).status == 503
    got = [request for server in servers for request in server.requests]
    assert len(got) == 3
    assert {said(request) for request in got} == {("PUT", b"x" * 3000)}


def test_a_chunked_body_that_came_later_goes_with_every_attempt(plane, make_backend, connect):
    server = make_backend(first([UNAVAILABLE]))
    publish(plane, server.url, policy=retry())
    client = connect()
    client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    server.wait(lambda: server.connections == 1)
    client.send(b"5\r\nhello\r\n0\r\n\r\n")
    assert client.read().status == 200
    assert [request.body for request in server.requests] == [b"hello", b"hello"]


def test_a_body_too_large_to_keep_is_sent_once(plane, make_backend, connect):
    server = make_backend(first([UNAVAILABLE]))
    publish(plane, server.url, policy=retry())
    assert connect().get(method="PUT", body=b"x" * 100_000).status == 503
    assert len(server.requests) == 1


def test_the_last_answer_is_passed_on_as_it_is(plane, make_backend, connect):
    numbers = iter(range(9))
    body = b"x" * 50_000
    server = make_backend(
        lambda _: ok(body, b"X-Attempt: %d" % next(numbers), status=b"503 Service Unavailable")
    )
    publish(plane, server.url, policy=retry(3))
    answer = connect().get()
    assert (answer.status, answer.header("x-attempt"), answer.body) == (503, "2", body)
    assert len(server.requests) == 3


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_large_answer_that_is_held_back_is_dropped(plane, make_raw, make_backend, connect, framing):
    body = b"x" * 300_000
    head = b"HTTP/1.1 503 No\r\n"

    def script(peer):
        peer.read_head()
        if framing == "length":
            peer.send(head + b"Content-Length: 300000\r\n\r\n" + body)
        elif framing == "chunked":
            peer.send(head + b"Transfer-Encoding: chunked\r\n\r\n493e0\r\n" + body + b"\r\n0\r\n\r\n")
        else:
            peer.send(head + b"\r\n" + body)

    publish(plane, make_raw(script).url, make_backend().url, policy=retry(), strategy="Direct")
    client = connect()
    for _ in range(3):
        answer = client.get()
        assert (answer.status, answer.body) == (200, b"hello")


def test_a_connection_whose_answer_was_read_whole_is_kept(plane, make_backend, connect):
    server = make_backend(first([UNAVAILABLE, UNAVAILABLE]))
    publish(plane, server.url, policy=retry())
    assert connect().get().status == 200
    assert [request.connection for request in server.requests] == [0, 0, 0]


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_after_one_that_was_held_back(plane, make_backend, connect, status):
    held = b"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nsorry"
    server = make_backend(first([held], b"HTTP/1.1 %d X\r\n\r\n" % status))
    publish(plane, server.url, policy=retry())
    client = connect()
    for _ in range(2):  # the first is over, and the connection is as before
        assert client.get().status == status


def test_other_statuses_are_not_tried_again(plane, make_backend, connect):
    server = make_backend(lambda _: ok(status=b"500 Oh"))
    publish(plane, server.url, policy=retry())
    assert connect().get().status == 500
    assert len(server.requests) == 1


def test_a_silent_backend_is_given_up_for_another(plane, make_raw, make_backend, connect):
    silent = make_raw(lambda peer: peer.read_head() and peer.ended())
    good = make_backend()
    members = [
        backend(server.url, f"b{n}", timeouts={"readMs": 200}) for n, server in enumerate((silent, good))
    ]
    plane.publish(route("/**", *members, policy=retry(), strategy="Direct"))
    assert connect().get().status == 200
    assert events(plane) == {"timeout": 1}


def test_all_attempts_together_end_at_the_routes_timeout(plane, make_raw, connect):
    silent = make_raw(lambda peer: peer.read_head() and peer.ended())
    publish(plane, silent.url, policy=retry(10), timeoutMs=500)
    started = time.monotonic()
    assert connect().get().status == 504
    assert time.monotonic() - started > 0.5
    assert len(silent.peers) == 1


def test_no_retry_is_begun_for_which_no_time_is_left(plane, make_backend, connect):
    server = make_backend(lambda _: UNAVAILABLE)
    publish(plane, server.url, policy=retry(10, delay=60_000, maxDelayMs=60_000), timeoutMs=1)
    assert connect().get().status in (503, 504)
    assert len(server.requests) <= 1


def test_an_interim_answer_is_an_answer(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        peer.send(UNAVAILABLE)

    server = make_raw(script)
    publish(plane, server.url, policy=retry())
    answer = connect().get()
    assert (answer.status, answer.interim) == (503, [103])
    assert len(server.peers) == 1


def test_the_budget_bounds_retries(make_plane, make_backend, connect):
    """20 % of the requests and 3 a second are what the backend may get more."""
    plane = make_plane()
    server = make_backend(lambda _: UNAVAILABLE)
    publish(plane, server.url, policy=retry(10))
    client = connect(plane)
    started = time.monotonic()
    for _ in range(200):
        assert client.get().status == 503
    seconds = int(time.monotonic() - started) + 2
    assert 200 + 40 <= len(server.requests) <= 200 + 40 + 3 * seconds
    assert events(plane)["budget_exhausted"] > 0


def test_without_a_budget_there_are_no_retries(make_plane, make_backend, connect):
    plane = make_plane(core={"retryBudget": 0})
    server = make_backend(first([UNAVAILABLE]))
    publish(plane, server.url, policy=retry())
    assert connect(plane).get().status == 503
    assert len(server.requests) == 1


def test_a_client_that_leaves_during_the_wait_costs_no_attempt(plane, make_backend, connect):
    server = make_backend(lambda _: UNAVAILABLE)
    publish(plane, server.url, policy=retry(2, delay=60_000, maxDelayMs=60_000), timeoutMs=300_000)
    client = connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: events(plane) == {"status": 1})
    assert plane.active(server.url) == 0
    client.reset()
    eventually(lambda: plane.totals()["aborted"] == 1)
    assert len(server.requests) == 1


def test_a_request_that_waits_finishes_on_its_own_configuration(plane, make_backend, connect):
    old, new = make_backend(first([UNAVAILABLE])), make_backend(lambda _: ok(b"new"))
    publish(plane, old.url, policy=retry(2, delay=700))
    client = connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: events(plane) == {"status": 1})
    publish(plane, new.url)
    assert connect().get().body == b"new"
    assert client.read().body == b"hello"
    assert len(old.requests) == 2
    assert client.get().body == b"new"


def test_attempts_go_round_the_backends_and_then_again(plane, make_backend, connect):
    servers = [make_backend(lambda _: UNAVAILABLE) for _ in range(3)]
    publish(plane, *(server.url for server in servers), policy=retry(4))
    assert connect().get().status == 503
    assert sorted(len(server.requests) for server in servers) == [1, 1, 2]


def test_requests_that_came_meanwhile_are_served_in_order(plane, make_backend, connect):
    server = make_backend(first([UNAVAILABLE], ok(b"late")))
    publish(plane, server.url, policy=retry(2, delay=300))
    client = connect()
    client.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [client.read().status for _ in range(2)] == [200, 200]
    assert [request.target for request in server.requests] == ["/1", "/1", "/2"]


def test_a_host_of_the_backends_own_is_written_anew(plane, make_backend, connect):
    """HTTP/1.0 without Host: each backend gets its own name."""
    servers = [make_backend(lambda _: UNAVAILABLE), make_backend()]
    publish(plane, *(server.url for server in servers), policy=retry(), strategy="Direct")
    client = connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert b"hello" in client.read_to_end()
    for server in servers:
        assert server.requests[0].header("host") == server.url.removeprefix("http://")


def test_many_at_once_leave_nothing_behind(plane, make_backend, connect):
    flaky = make_backend(lambda request: UNAVAILABLE if int(request.target[1:]) % 3 else ok())
    publish(plane, flaky.url, make_backend().url, policy=retry(2, delay=50))
    statuses: list[int] = []

    def load():
        client = connect()
        statuses.extend(client.get(f"/{number}").status for number in range(40))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 320 and set(statuses) <= {200, 503}
