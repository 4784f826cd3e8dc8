"""A connection that cannot be made is another backend's turn, at once and for any method; and who is never
there is left out for a while.
"""

from __future__ import annotations

import socket

import pytest
from harness.backend import ok
from harness.wait import eventually
from harness.worker import backend, route
from proxy.attempts import events, nobody, publish, recovered, retry

STRATEGIES = ("RoundRobin", "WeightedRoundRobin", "LeastConnections", "IPHash", "Direct")


def ejected(plane) -> list[str]:
    return [row["address"] for row in plane.node.troubled() if row["ejectedUntil"]]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_backend_is_there(plane, make_backend, connect, strategy, method):
    good = make_backend()
    with nobody() as gone:
        publish(plane, gone, good.url, strategy=strategy)
        client = connect()
        for _ in range(6):
            answer = client.get(method=method, body=b"body" if method == "POST" else None)
            assert (answer.status, answer.body) == (200, b"hello")
    assert len(good.requests) == 6
    assert all(request.body == (b"body" if method == "POST" else b"") for request in good.requests)
    eventually(lambda: recovered(plane) == events(plane).get("failover", 0))


def test_a_body_that_is_still_coming_goes_to_the_other(plane, make_backend, connect):
    good = make_backend()
    with nobody() as gone:
        publish(plane, gone, good.url, strategy="Direct")
        client = connect()
        body = b"x" * 500_000
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + body)
        assert client.read().status == 200
        assert good.requests[0].body == body
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n")
        good.wait(lambda: good.connections == 1)
        client.send(b"0\r\n\r\n")
        assert client.read().status == 200
        assert good.requests[1].body == b"wiki"


def test_a_header_rule_falls_back_to_its_default(plane, make_backend, connect):
    good = make_backend()
    with nobody() as gone:
        rules = {"headerName": "X-Tier", "routingRules": {"gold": "gold"}, "defaultBackend": "rest"}
        members = backend(gone, "gold"), backend(good.url, "rest")
        plane.publish(route("/**", *members, strategy="HeaderBased", headerRules=rules))
        assert connect().get("/", "X-Tier: gold").status == 200
    assert events(plane)["failover"] == 1


def test_a_connection_not_made_in_time_is_tried_elsewhere(plane, make_backend, connect):
    """A full queue drops what would be a third: connecting to it takes for ever."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    try:
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        good = make_backend()
        members = [
            backend(f"http://127.0.0.1:{full.getsockname()[1]}", "b0", timeouts={"connectMs": 200}),
            backend(good.url, "b1"),
        ]
        plane.publish(route("/**", *members, strategy="Direct"))
        assert connect().get(method="POST", body=b"x").status == 200
        assert events(plane)["failover"] == 1
    finally:
        for sock in (*fillers, full):
            sock.close()


def test_when_nobody_is_there_each_was_asked_once(plane, connect):
    with nobody() as a, nobody() as b:
        publish(plane, a, b)
        assert connect().get().status == 502
        eventually(lambda: [row["failed"] for row in plane.node.backend_stats()][:2] == [1, 1])
        assert events(plane) == {"failover": 1}


def test_with_a_policy_they_are_asked_again(plane, make_backend, connect):
    with nobody() as a, nobody() as b:
        publish(plane, a, b, policy=retry(2, delay=1))
        assert connect().get().status == 502
        counted = events(plane)
    assert counted["connect"] == 1
    assert counted["failover"] == 2


def test_one_request_goes_to_four_backends_at_most(plane, connect):
    with nobody() as a, nobody() as b, nobody() as c, nobody() as d, nobody() as e:
        publish(plane, a, b, c, d, e)
        assert connect().get().status == 502
        eventually(lambda: sum(row["requests"] for row in plane.node.backend_stats()) == 4)


def test_who_is_never_there_is_left_out(plane, make_backend, connect):
    good = make_backend()
    with nobody() as gone:
        publish(plane, gone, good.url)
        client = connect()
        assert {client.get().status for _ in range(20)} == {200}
        assert ejected(plane) == [gone]
        assert events(plane) == {"failover": 3, "ejected": 1}


def test_the_only_backend_is_never_left_out(plane, connect):
    with nobody() as gone:
        publish(plane, gone)
        client = connect()
        assert [client.get().status for _ in range(6)] == [502] * 6
        assert ejected(plane) == []


def test_one_that_is_left_out_elsewhere_still_serves_the_route_it_is_alone_on(plane, make_backend, connect):
    good = make_backend()
    publish(plane, good.url)
    assert plane.node.eject(good.url)
    assert not plane.node.eject(good.url)
    assert connect().get().status == 200


def test_half_of_the_backends_stay_whatever_happens(plane, make_backend, connect):
    servers = [make_backend(lambda _, n=n: ok(b"%d" % n)) for n in range(4)]
    publish(plane, *(server.url for server in servers))
    for server in servers:
        assert plane.node.eject(server.url)
    client = connect()
    assert sorted({client.get().body for _ in range(20)}) == [b"2", b"3"]


def test_it_can_be_turned_off(make_plane, make_backend, connect):
    plane = make_plane(core={"outlierEjection": False})
    with nobody() as gone:
        publish(plane, gone, make_backend().url)
        client = connect(plane)
        assert {client.get().status for _ in range(20)} == {200}
        assert ejected(plane) == []
        assert events(plane)["failover"] == 10


def test_a_checked_backend_is_judged_by_its_check(plane, make_backend, connect):
    with nobody() as gone:
        publish(plane, gone, make_backend().url)
        plane.node.set_backend_status(gone, 1)
        client = connect()
        assert {client.get().status for _ in range(20)} == {200}
        assert ejected(plane) == []
