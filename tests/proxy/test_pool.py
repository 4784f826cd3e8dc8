"""Connections to backends: how many, whose turn, how long they are kept, and never another backend's."""

from __future__ import annotations

import threading

from harness.backend import ok
from harness.wait import eventually
from harness.worker import backend, route

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def pool(url, backend_id="b1", **values):
    return backend(url, backend_id, pool={"minSize": 1} | values)


def idle(plane) -> int:
    return sum(lane["upstream_idle"] for lane in plane.node.lane_stats())


def test_one_connection_serves_a_queue_in_order(plane, make_raw, connect):
    def script(peer):
        while True:
            head = peer.read_head()
            order.append(head.split()[1])
            assert go_on.wait(10)
            peer.send(ok(order[-1]))

    order: list[bytes] = []
    go_on = threading.Event()
    server = make_raw(script)
    plane.publish(route("/**", pool(server.url, maxSize=1)))
    clients = [connect() for _ in range(5)]
    for n, client in enumerate(clients):
        client.send(GET.replace(b" /", b" /%d" % n, 1))
        eventually(lambda n=n: plane.totals()["inflight"] == n + 1)
    go_on.set()
    assert [client.read().body for client in clients] == [b"/%d" % n for n in range(5)]
    assert order == [b"/%d" % n for n in range(5)]
    assert len(server.peers) == 1


def test_a_queued_upload_is_whole(plane, make_backend, make_raw, connect):
    go_on = threading.Event()

    def script(peer):
        peer.read_head()
        assert go_on.wait(10)
        peer.send(ok())
        peer.read_head()
        peer.send(ok(b"%d" % len(peer.read(300_000))))

    server = make_raw(script)
    plane.publish(route("/**", pool(server.url, maxSize=1)))
    first, second = connect(), connect()
    first.send(GET)
    eventually(lambda: plane.totals()["inflight"] == 1)
    second.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + bytes(100_000))
    eventually(lambda: plane.totals()["inflight"] == 2)
    go_on.set()
    second.send(bytes(200_000))
    assert first.read().status == 200
    assert second.read("POST").body == b"300000"


def test_waiting_too_long_is_a_503(plane, make_raw, connect):
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", pool(server.url, maxSize=1, waitMs=100)))
    first, second = connect(), connect()
    first.send(GET)
    eventually(lambda: plane.totals()["inflight"] == 1)
    answer = second.get("/", "Accept: application/json")
    assert answer.status == 503
    assert b"in use" in answer.body
    assert second.get().status == 503


def test_a_queue_that_is_full_is_a_503_at_once(make_plane, make_raw, connect):
    plane = make_plane(max_waiting=1)
    server = make_raw(lambda peer: (peer.read_head(), peer.ended()))
    plane.publish(route("/**", pool(server.url, maxSize=1, waitMs=60_000)))
    clients = [connect(plane) for _ in range(3)]
    for n, client in enumerate(clients[:2]):
        client.send(GET)
        eventually(lambda n=n: plane.totals()["inflight"] == n + 1)
    assert clients[2].get().status == 503


def test_a_queue_is_tried_again_when_connecting_fails(plane, make_raw, connect):
    """The backend is gone: everybody who waits gets to know it, one after another."""

    def script(peer):
        peer.read_head()
        assert gone.wait(10)

    gone = threading.Event()
    server = make_raw(script)
    plane.publish(route("/**", pool(server.url, maxSize=1, waitMs=60_000)))
    clients = [connect() for _ in range(4)]
    for n, client in enumerate(clients):
        client.send(GET)
        eventually(lambda n=n: plane.totals()["inflight"] == n + 1)
    server.listener.close()
    server.close()
    gone.set()
    assert [client.read().status for client in clients] == [502] * 4


def test_a_queue_profits_from_a_raised_limit(plane, make_raw, connect):
    def script(peer):
        while True:
            peer.read_head()
            assert go_on.wait(10)
            peer.send(ok())

    go_on = threading.Event()
    server = make_raw(script)
    plane.publish(route("/**", pool(server.url, maxSize=1, waitMs=60_000)))
    clients = [connect() for _ in range(4)]
    for n, client in enumerate(clients[:3]):
        client.send(GET)
        eventually(lambda n=n: plane.totals()["inflight"] == n + 1)
    plane.publish(route("/**", pool(server.url, maxSize=10)))
    clients[3].send(GET)
    server.wait(lambda: len(server.peers) == 4)
    go_on.set()
    assert [client.read().status for client in clients] == [200] * 4


def test_a_lowered_limit_is_reached(plane, make_raw, connect):
    barrier = threading.Barrier(4)

    def script(peer):
        while True:
            head = peer.read_head()
            if b"/all" in head:
                barrier.wait(10)
            peer.send(ok())

    server = make_raw(script)
    plane.publish(route("/**", pool(server.url, maxSize=10)))
    clients = [connect() for _ in range(4)]
    for client in clients:
        client.send(GET.replace(b" /", b" /all", 1))
    assert [client.read().status for client in clients] == [200] * 4
    assert len(server.peers) == 4
    plane.publish(route("/**", pool(server.url, maxSize=2)))
    for client in clients:
        assert client.get().status == 200
    server.wait(lambda: server.ended == 2)


def test_idle_connections_expire_down_to_the_minimum(plane, make_raw, connect):
    barrier = threading.Barrier(4)

    def script(peer):
        peer.read_head()
        barrier.wait(10)
        peer.send(ok())
        peer.ended()

    server = make_raw(script)
    plane.publish(route("/**", pool(server.url, minSize=1, maxIdleMs=300)))
    clients = [connect() for _ in range(4)]
    for client in clients:
        client.send(GET)
    assert [client.read().status for client in clients] == [200] * 4
    eventually(lambda: idle(plane) == 4)
    server.wait(lambda: server.ended == 3)
    eventually(lambda: idle(plane) == 1)


def test_the_last_used_connection_is_used_first(plane, make_backend, connect):
    server = make_backend()
    plane.publish(route("/**", backend(server.url)))
    for _ in range(20):
        with connect() as client:
            assert client.get().status == 200
    assert server.connections == 1


def test_connections_of_a_removed_backend_are_closed(plane, make_backend, connect):
    server, other = make_backend(), make_backend()
    plane.publish(route("/**", backend(server.url)))
    client = connect()
    assert client.get().status == 200
    plane.publish(route("/**", backend(other.url, "b2")))
    plane.node.reclaim()
    server.wait(lambda: server.closed == 1)
    assert client.get().status == 200
    assert len(other.requests) == 1


def test_a_slot_that_changes_hands_takes_no_connection_along(plane, make_backend, connect):
    """Backends come and go through one slot of the state: each gets its own requests and nothing else."""
    servers = [make_backend(lambda _, n=n: ok(b"%d" % n)) for n in range(4)]
    client = connect()
    for turn in range(24):
        n = turn % len(servers)
        plane.publish(route("/**", backend(servers[n].url, f"b{n}")))
        plane.node.reclaim()
        assert client.get().body == b"%d" % n
    slots = [row for row in plane.node.backend_stats() if row["address"]]
    assert len(slots) <= 2
    assert sum(len(server.requests) for server in servers) == 24


def test_many_backends(plane, make_backend, connect):
    servers = [make_backend(lambda _, n=n: ok(b"%d" % n)) for n in range(60)]
    plane.publish(*(route(f"/{n}", backend(server.url, f"b{n}")) for n, server in enumerate(servers)))
    client = connect()
    for _ in range(2):
        for n in range(60):
            assert client.get(f"/{n}").body == b"%d" % n
    assert all(server.connections == 1 for server in servers)


def test_backends_of_one_address_have_the_larger_pool(plane, make_raw, connect):
    def script(peer):
        while True:
            peer.read_head()
            assert go_on.wait(10)
            peer.send(ok())

    go_on = threading.Event()
    server = make_raw(script)
    plane.publish(
        route("/small", pool(server.url, maxSize=1)), route("/large", pool(server.url, "b2", maxSize=4))
    )
    clients = [connect() for _ in range(4)]
    for client, path in zip(clients, [b"/large", b"/large", b"/large", b"/small"], strict=True):
        client.send(GET.replace(b"/", path, 1))
    server.wait(lambda: len(server.peers) == 4)
    go_on.set()
    assert [client.read().status for client in clients] == [200] * 4
    assert clients[0].get("/small").status == 200
    eventually(lambda: idle(plane) == 4)
    assert server.ended == 0


def test_leaving_a_queue_newest_first_keeps_its_order(plane, make_raw, connect):
    def script(peer):
        while True:
            order.append(peer.read_head().split()[1])
            assert go_on.wait(10)
            peer.send(ok(order[-1]))

    order: list[bytes] = []
    go_on = threading.Event()
    server = make_raw(script)
    plane.publish(route("/**", pool(server.url, maxSize=1, waitMs=60_000)))
    clients = [connect() for _ in range(100)]
    for n, client in enumerate(clients):
        client.send(GET.replace(b" /", b" /%d" % n, 1))
        eventually(lambda n=n: plane.totals()["inflight"] == n + 1)
    stay = [0, *range(1, 50, 7), 98]
    leave = [n for n in reversed(range(100)) if n not in stay]
    for n in leave:
        clients[n].reset()
    eventually(lambda: plane.totals()["aborted"] == len(leave))
    go_on.set()
    paths = [b"/%d" % n for n in stay]
    assert [clients[n].read().body for n in stay] == paths
    assert order == paths
    assert len(server.peers) == 1
