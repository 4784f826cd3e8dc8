"""Circuit breakers on a running data plane: how many failures pass, who comes back, and by whose order."""

from __future__ import annotations

import select
import threading

import pytest
from harness.backend import ok
from harness.wait import eventually
from harness.worker import backend, route
from proxy.attempts import UNAVAILABLE, breaker, circuit, events, first, nobody, publish, retry


def answered(client) -> bool:
    return bool(select.select([client.sock], [], [], 0)[0])


SOON = 300  # milliseconds a circuit is open where it is to come back


def test_five_failures_and_not_one_more(plane, make_backend, connect):
    server = make_backend(lambda _: UNAVAILABLE)
    publish(plane, server.url, policy=breaker(5))
    client = connect()
    answers = [client.get() for _ in range(12)]
    assert [answer.status for answer in answers] == [503] * 12
    assert [answer.body == b"no" for answer in answers] == [True] * 5 + [False] * 7
    assert len(server.requests) == 5
    assert circuit(plane, server.url) == "Open"
    assert events(plane) == {"circuit_opened": 1}


@pytest.mark.parametrize("status", [b"502 No", b"503 No", b"504 No"])
def test_statuses_that_are_failures(plane, make_backend, connect, status):
    server = make_backend(lambda _: ok(status=status))
    publish(plane, server.url, policy=breaker(2))
    client = connect()
    for _ in range(4):
        client.get()
    assert len(server.requests) == 2


def test_a_success_starts_the_count_anew(plane, make_backend, connect):
    server = make_backend(lambda request: ok() if request.target == "/good" else UNAVAILABLE)
    publish(plane, server.url, policy=breaker(3))
    client = connect()
    for path in ["/bad", "/bad", "/good", "/bad", "/bad", "/good"] * 3:
        client.get(path)
    assert len(server.requests) == 18
    assert circuit(plane, server.url) == "Closed"


@pytest.mark.parametrize("how", ["refused", "closed", "malformed", "silent", "cut"])
def test_what_counts_as_a_failure(plane, make_raw, connect, how):
    def script(peer):
        peer.read_head()
        if how == "malformed":
            peer.send(b"nonsense\r\n\r\n")
        elif how == "silent":
            peer.ended()
        elif how == "cut":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal")

    server = make_raw(script)
    with nobody() as gone:
        url = gone if how == "refused" else server.url
        members = [backend(url, "b", timeouts={"readMs": 100})]
        plane.publish(route("/**", *members, policy=breaker(2)))
        for _ in range(4):
            client = connect()
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            client.read_to_end()
        eventually(lambda: circuit(plane, url) == "Open")
    assert len(server.peers) == (0 if how == "refused" else 2)


def test_other_errors_and_clients_that_leave_do_not_count(plane, make_backend, connect):
    hold = threading.Event()

    def script(request):
        if request.target == "/slow":
            assert hold.wait(10)
        return ok(status=b"500 Oh")

    server = make_backend(script)
    publish(plane, server.url, policy=breaker(2))
    for _ in range(4):
        assert connect().get().status == 500
        client = connect()
        client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: plane.active(server.url) == 1)
        client.reset()
        eventually(lambda: plane.active(server.url) == 0)
    hold.set()
    assert circuit(plane, server.url) == "Closed"


def test_it_comes_back_by_trials(plane, make_backend, connect):
    server = make_backend(first([UNAVAILABLE] * 2))
    publish(plane, server.url, policy=breaker(2, SOON, trials=2))
    client = connect()
    for _ in range(3):
        assert client.get().status == 503
    eventually(lambda: client.get().status == 200)
    assert circuit(plane, server.url) == "HalfOpen"
    assert client.get().status == 200
    assert circuit(plane, server.url) == "Closed"
    assert {client.get().status for _ in range(5)} == {200}


def test_one_failed_trial_opens_it_again(plane, make_backend, connect):
    server = make_backend(first([UNAVAILABLE] * 2 + [ok(), UNAVAILABLE]))
    publish(plane, server.url, policy=breaker(2, SOON, trials=3))
    client = connect()
    for _ in range(3):
        client.get()
    eventually(lambda: client.get().status == 200)
    assert client.get().body == b"no"
    assert circuit(plane, server.url) == "Open"
    assert len(server.requests) == 4
    assert events(plane)["circuit_opened"] == 2


def test_no_more_than_the_trials_pass(plane, make_backend, connect):
    hold = threading.Event()
    server = make_backend(first([UNAVAILABLE] * 2))
    publish(plane, server.url, policy=breaker(2, SOON, trials=2))
    client = connect()
    for _ in range(2):
        client.get()

    def slow(_request):
        assert hold.wait(10)
        return ok()

    server.script = slow
    waiting = []

    def begin() -> bool:
        one = connect()
        one.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        before = len(waiting)
        eventually(lambda: answered(one) or len(server.requests) > 2 + before)
        if len(server.requests) > 2 + before:
            waiting.append(one)
        return len(waiting) == 2

    eventually(begin)
    assert [client.get().status for _ in range(5)] == [503] * 5
    hold.set()
    assert [one.read().status for one in waiting] == [200, 200]
    assert circuit(plane, server.url) == "Closed"
    assert len(server.requests) == 4


def test_a_trial_whose_client_leaves_is_given_back(plane, make_backend, connect):
    server = make_backend(first([UNAVAILABLE] * 2))
    publish(plane, server.url, policy=breaker(2, SOON, trials=1))
    client = connect()
    for _ in range(2):
        client.get()
    hold = threading.Event()

    def slow(_request):
        assert hold.wait(10)
        return ok()

    server.script = slow

    def trial() -> bool:
        one = connect()
        one.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: len(server.requests) == 3 or answered(one))
        if len(server.requests) == 3:
            one.reset()
        return len(server.requests) == 3

    eventually(trial)
    eventually(lambda: plane.active(server.url) == 0)
    hold.set()
    server.script = lambda _: ok()
    assert client.get().status == 200
    assert circuit(plane, server.url) == "Closed"


def test_routes_on_one_backend_share_its_state(plane, make_backend, connect):
    server = make_backend(lambda _: UNAVAILABLE)
    member = backend(server.url)
    plane.publish(route("/a", member, policy=breaker(3)), route("/b", member))
    client = connect()
    for _ in range(3):
        client.get("/a")
    assert client.get("/b").body != b"no"
    assert len(server.requests) == 3


def test_it_survives_every_change(plane, make_backend, connect):
    server = make_backend(lambda _: UNAVAILABLE)
    for _ in range(3):
        publish(plane, server.url, policy=breaker(3))
        connect().get()
    publish(plane, server.url, policy=breaker(3), timeoutMs=1234)
    assert connect().get().body != b"no"
    assert circuit(plane, server.url) == "Open"
    publish(plane, make_backend().url)
    eventually(lambda: plane.node.reclaim() >= 0 and len(plane.node.backend_stats()) == 2)
    publish(plane, server.url, policy=breaker(3))
    assert connect().get().body == b"no"  # who comes back later begins anew


@pytest.mark.parametrize(
    "strategy", ["RoundRobin", "WeightedRoundRobin", "LeastConnections", "IPHash", "Direct"]
)
def test_an_open_circuit_is_passed_over(plane, make_backend, connect, strategy):
    bad, good = make_backend(lambda _: UNAVAILABLE), make_backend()
    publish(plane, bad.url, good.url, policy=breaker(2), strategy=strategy)
    client = connect()
    statuses = [client.get().status for _ in range(20)]
    assert statuses.count(503) == len(bad.requests) <= 2
    plane.node.order_circuit(good.url, "Open")
    plane.node.order_circuit(bad.url, "Open")
    assert client.get().body not in (b"no", b"hello")


def test_shares_stay_exact_with_breakers(plane, make_backend, connect):
    servers = [make_backend(), make_backend()]
    members = [backend(server.url, f"b{n}", weight=(90, 10)[n]) for n, server in enumerate(servers)]
    policy = breaker(5) | retry(3)
    plane.publish(route("/**", *members, policy=policy, strategy="WeightedRoundRobin"))
    client = connect()
    for _ in range(200):
        assert client.get().status == 200
    assert [len(server.requests) for server in servers] == [180, 20]


def test_a_retry_passes_an_open_circuit_over(plane, make_backend, connect):
    bad, good = make_backend(lambda _: UNAVAILABLE), make_backend()
    publish(plane, bad.url, good.url, policy=breaker(3) | retry(3))
    client = connect()
    assert {client.get().status for _ in range(10)} == {200}
    assert len(bad.requests) == 3


def test_orders_outrank_what_happens(plane, make_backend, connect):
    server = make_backend()
    publish(plane, server.url, policy=breaker(2))
    client = connect()
    assert plane.node.order_circuit(server.url, "Open") == "HeldOpen"
    assert client.get().status == 503
    assert plane.node.order_circuit(server.url, "Closed") == "HeldClosed"
    server.script = lambda _: UNAVAILABLE
    assert [client.get().body for _ in range(5)] == [b"no"] * 5
    assert plane.node.order_circuit(server.url, "Auto") == "Closed"
    assert [client.get().body == b"no" for _ in range(4)] == [True, True, False, False]
    assert plane.node.order_circuit("http://elsewhere:1", "Open") is None
    with pytest.raises(ValueError, match="Open, Closed or Auto"):
        plane.node.order_circuit(server.url, "Ajar")
