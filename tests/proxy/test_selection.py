"""Which backend gets a request, end to end."""

from __future__ import annotations

import threading
from collections import Counter

from harness.backend import ok
from harness.wait import eventually
from harness.worker import backend, route

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def named(make_backend, *names):
    return {name: make_backend(lambda _, name=name: ok(name.encode())) for name in names}


def test_weighted_shares_are_exact(plane, make_backend, connect):
    servers = named(make_backend, "a", "b")
    plane.publish(
        route(
            "/**",
            backend(servers["a"].url, "a", weight=90),
            backend(servers["b"].url, "b", weight=10),
            strategy="WeightedRoundRobin",
        )
    )
    clients = [connect() for _ in range(4)]
    got = [clients[n % 4].get().body for n in range(200)]
    assert Counter(got) == {b"a": 180, b"b": 20}
    assert all(Counter(got[at : at + 10]) == {b"a": 9, b"b": 1} for at in range(0, 200, 10))


def test_round_robin_takes_turns_through_a_change(plane, make_backend, connect):
    servers = named(make_backend, "a", "b", "c")
    backends = [backend(server.url, name) for name, server in servers.items()]
    plane.publish(route("/**", *backends))
    client = connect()
    got = []
    for n in range(30):
        if n == 16:
            plane.publish(route("/**", *backends), route("/other", *backends))
        got.append(client.get().body)
    assert all(set(got[at : at + 3]) == {b"a", b"b", b"c"} for at in range(28))


def test_least_connections_avoids_a_stuck_backend(plane, make_backend, make_raw, connect):
    def script(peer):
        peer.read_head()
        assert go_on.wait(10)
        peer.send(ok(b"stuck"))

    go_on = threading.Event()
    stuck, quick = make_raw(script), make_backend(lambda _: ok(b"quick"))
    plane.publish(route("/**", backend(stuck.url, "a"), backend(quick.url, "b"), strategy="LeastConnections"))
    waiting = []
    while plane.active(stuck.url) == 0:
        waiting.append(connect())
        waiting[-1].send(GET)
        accepted = len(waiting)
        eventually(lambda accepted=accepted: plane.totals()["accepted"] == accepted)
    client = connect()
    assert {client.get().body for _ in range(50)} == {b"quick"}
    go_on.set()
    assert [c.read().body for c in waiting].count(b"stuck") == 1
    assert {client.get().body for _ in range(10)} == {b"quick", b"stuck"}


def test_ip_hash_is_stable_and_falls_to_another(plane, make_backend, connect):
    servers = named(make_backend, "a", "b", "c", "d")
    backends = {name: backend(server.url, name) for name, server in servers.items()}
    plane.publish(route("/**", *backends.values(), strategy="IPHash"))
    own = {connect().get().body.decode() for _ in range(20)}
    assert len(own) == 1
    (mine,) = own
    others = [document for name, document in backends.items() if name != mine]
    plane.publish(route("/**", *others, strategy="IPHash"))
    second = {connect().get().body.decode() for _ in range(20)}
    assert len(second) == 1
    assert second != own
    plane.publish(route("/**", *backends.values(), strategy="IPHash"))
    assert {connect().get().body.decode() for _ in range(20)} == own


def test_a_header_decides(plane, make_backend, connect):
    servers = named(make_backend, "gold", "rest")
    rules = {"headerName": "X-Tier", "routingRules": {"gold": "gold"}, "defaultBackend": "rest"}
    backends = [backend(server.url, name) for name, server in servers.items()]
    plane.publish(route("/**", *backends, strategy="HeaderBased", headerRules=rules))
    client = connect()
    assert client.get("/", "X-Tier: gold").body == b"gold"
    assert client.get("/", "x-tier:   gold  ").body == b"gold"
    assert client.get("/", "X-Tier: silver").body == b"rest"
    assert client.get().body == b"rest"


def test_direct_takes_the_first_that_is_available(plane, make_backend, connect):
    servers = named(make_backend, "a", "b")
    backends = [backend(server.url, name) for name, server in servers.items()]
    plane.publish(route("/**", *backends, strategy="Direct"))
    client = connect()
    assert {client.get().body for _ in range(10)} == {b"a"}
    plane.node.set_backend_status(plane.node.backend_stats()[0]["address"], 2)
    answers = {client.get().body for _ in range(10)}
    assert len(answers) == 1


def test_unhealthy_everywhere_is_a_503(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    address = plane.node.backend_stats()[0]["address"]
    client = connect()
    assert client.get().status == 200
    plane.node.set_backend_status(address, 2)
    assert client.get().status == 503
    plane.node.set_backend_status(address, 1)
    assert client.get().status == 200
