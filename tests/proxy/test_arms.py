"""The two arms of a route: who is in which, and what stays as it is when shares change."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from harness.backend import Backend, ok
from harness.client import Client
from harness.wait import eventually
from harness.worker import Plane, backend, route
from proxy.arms import SALT, arm, assigned, came_to, split, versions
from proxy.test_protocol_upgrade import SWITCH, UPGRADE
from proxy.test_swap import GET, Hammer

from hotswap_proxy._core import assignment_bucket


@pytest.fixture
def old(make_backend: Callable[..., Backend]) -> Backend:
    return make_backend(lambda _: ok(b"old"))


@pytest.fixture
def new(make_backend: Callable[..., Backend]) -> Backend:
    return make_backend(lambda _: ok(b"new"))


def expected(key: str, share: int) -> bytes:
    inside = assignment_bucket(SALT, key.encode()) < share * 2**64 // 10_000
    return b"new" if inside else b"old"


@pytest.mark.parametrize("share", [100, 1_000, 5_000, 9_000])
def test_shares_are_exact_over_all_workers(make_plane, connect, old, new, share):
    plane = make_plane()
    beside = make_plane(beside=plane)
    plane.publish(versions(old.url, new.url, share))
    clients = [connect(plane), connect(beside)]
    turns = [clients[n % 2].get().body == b"new" for n in range(600)]
    windows = {sum(turns[start : start + 100]) for start in range(501)}
    assert windows <= {share // 100 - 1, share // 100, share // 100 + 1}
    assert sum(turns) == 6 * share // 100
    came_to(plane, requests=sum(turns))
    came_to(plane, "stable", requests=600 - sum(turns))
    by_arm = {row["arm"]: row["requests"] for row in plane.node.series_stats("/**")}
    assert by_arm == {"canary": sum(turns), "stable": 600 - sum(turns)}


@pytest.mark.parametrize("by", [assigned("Random"), assigned("ClientIP")])
def test_nothing_and_everything(plane, connect, old, new, by):
    client = connect()
    for share, body in ((0, b"old"), (10_000, b"new"), (0, b"old")):
        plane.publish(versions(old.url, new.url, share, by=by))
        assert {client.get().body for _ in range(20)} == {body}
        assert [row["share"] for row in plane.node.arm_stats()] == [10_000 - share, share]


def test_a_client_stays_by_its_address_and_growth_takes_nobody_out(plane, connect, old, new):
    addresses = [f"127.0.0.{n}" for n in range(2, 42)]
    clients = {address: connect(source=address) for address in addresses}
    inside: set[str] = set()
    for share in (1_000, 2_500, 6_000):
        plane.publish(versions(old.url, new.url, share, by=assigned("ClientIP")))
        for address, client in clients.items():
            assert {client.get().body for _ in range(2)} == {expected(address, share)}
        now = {address for address in addresses if expected(address, share) == b"new"}
        assert inside < now
        inside = now


@pytest.mark.parametrize(
    ("by", "line"),
    [
        (assigned("Header", "X-User"), "x-user: {}"),
        (assigned("Cookie", "sid"), "Cookie: a=b; sid={}; sid=other"),
        (assigned("Cookie", "sid"), "Cookie: SID=x\r\nCookie: sid={};c=d"),
    ],
    ids=["header", "cookie", "second cookie field"],
)
def test_a_client_stays_by_what_it_says(plane, connect, old, new, by, line):
    plane.publish(versions(old.url, new.url, 3_000, by=by))
    client = connect(source="127.0.0.77")
    for n in range(40):
        assert client.get("/", line.format(f"user-{n}")).body == expected(f"user-{n}", 3_000)
    # Who does not say it stays by its address; empty is nothing said.
    for headers in ([], [line.format("").replace("sid=other", "")]):
        assert client.get("/", *headers).body == expected("127.0.0.77", 3_000)


def test_the_arms_have_policies_of_their_own_and_one_rate_limit(plane, connect, old, new):
    limit = {"rateLimit": {"type": "FixedWindow", "requests": 10, "windowMs": 3_600_000, "keyBy": "ClientIP"}}
    stable = route("/**", backend(old.url, "old"), policy=limit)
    canary = route("/**", backend(new.url, "new"), policy=limit, maxRequestBody=3)
    plane.publish(split(stable, canary))
    # What is too large is not counted; stable's three are.
    assert Counter(connect().get(method="POST", body=b"four").status for _ in range(6)) == {200: 3, 413: 3}
    assert Counter(connect().get().status for _ in range(10)) == {200: 7, 429: 3}


def test_a_preflight_has_stables_rules_as_long_as_it_takes_requests(plane, connect, old, new):
    def shares(origin: str) -> dict:
        return {"cors": {"allowOrigins": [origin]}}

    stable = route("/**", backend(old.url, "old"), policy=shares("https://old.example"))
    canary = route("/**", backend(new.url, "new"), policy=shares("https://new.example"))
    ask = ("Origin: https://new.example", "Access-Control-Request-Method: GET")
    for share, status in ((9_999, 403), (10_000, 204), (0, 403)):
        plane.publish(split(stable, canary, share))
        assert connect().get("/", *ask, method="OPTIONS").status == status
    came_to(plane)


def test_shares_change_under_load_and_nothing_is_lost(plane, old, new):
    plane.publish(versions(old.url, new.url, 0))
    hammer = Hammer(plane.port, 6, ["/"])
    for share in [100, 1_000, 5_000, 10_000, 0, 2_500] * 5:
        hammer.wait_for(20)
        plane.publish(versions(old.url, new.url, share))
    hammer.end()
    assert hammer.failures == []
    answers = Counter(hammer.answers)
    came_to(plane, requests=answers[b"new"])
    came_to(plane, "stable", requests=answers[b"old"])


def test_a_request_on_the_canary_finishes_after_a_rollback(plane, make_raw, connect, old):
    def script(peer):
        peer.read_head()
        assert go_on.wait(10)
        peer.send(ok(b"new"))

    go_on = threading.Event()
    slow = make_raw(script)
    plane.publish(versions(old.url, slow.url, 10_000))
    client = connect()
    client.send(GET)
    eventually(lambda: plane.active(slow.url) == 1)
    plane.publish(route("/**", backend(old.url, "old")))
    row = arm(plane)
    assert (row["share"], row["active"], row["requests"]) == (None, 1, 0)
    assert connect().get().body == b"old"
    go_on.set()
    assert client.read().body == b"new"
    eventually(lambda: plane.node.reclaim() >= 0 and plane.node.arm_stats() == [])
    assert client.get().body == b"old"


def test_an_upgraded_connection_outlives_a_rollback(plane, make_raw, connect, old):
    def script(peer):
        peer.read_head()
        peer.send(SWITCH)
        while True:
            peer.send(peer.read(4).upper())

    new = make_raw(script)
    plane.publish(versions(old.url, new.url, 10_000))
    client = connect()
    client.send(UPGRADE)
    assert client.sock.recv(4096).startswith(b"HTTP/1.1 101 ")
    came_to(plane, requests=1, active=1)  # judged by its head, not by how long it lasts
    plane.publish(route("/**", backend(old.url, "old")))
    for word in (b"ping", b"pong"):
        client.send(word)
        assert client.sock.recv(4096) == word.upper()
    assert arm(plane)["active"] == 1


def test_a_deployment_that_comes_after_another_begins_at_nothing(plane, connect, old, new):
    plane.publish(versions(old.url, new.url, 10_000))
    assert connect().get().body == b"new"
    came_to(plane, requests=1)
    eventually(lambda: plane.totals()["inflight"] == 0)
    plane.publish(versions(old.url, new.url, 10_000, deployment="d2"))
    plane.node.reclaim()
    assert [row["deploymentId"] for row in plane.node.arm_stats()] == ["d2", "d2"]
    came_to(plane)


WORKER = """
import asyncio, sys
import uvloop
from hotswap_proxy import _core, _wire
from hotswap_proxy.worker.codec import MAX_HEAD, factories

async def main(codec, state, arena, listener):
    worker = _core.Worker(int(state), int(arena), 1)
    loop = asyncio.get_running_loop()
    server = _wire.Server(worker, loop, {}, factories(MAX_HEAD) if codec == "httptools" else None, None)
    server.listen(int(listener), False)
    await asyncio.Event().wait()

uvloop.run(main(*sys.argv[1:]))
"""


@contextlib.contextmanager
def second_process(plane: Plane, codec: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A second worker of the node, in a process of its own, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptors = (plane.node.state_fd, plane.node.arena_fd, listener.fileno())
        arguments = [sys.executable, "-c", WORKER, codec, *map(str, descriptors)]
        process = subprocess.Popen(arguments, pass_fds=descriptors)
        try:
            yield listener.getsockname()[1], process
        finally:
            process.kill()
            process.wait(10)


def test_a_killed_worker_takes_no_counts_along(codec, make_raw, old):
    def script(peer):
        while b"/slow" not in peer.read_head():
            peer.send(ok(b"new"))
        peer.ended()

    new = make_raw(script)
    with contextlib.closing(Plane(codec)) as plane, second_process(plane, codec) as (port, process):
        plane.publish(versions(old.url, new.url, 10_000))
        with Client(port) as client, Client(plane.port) as other:
            for _ in range(3):
                assert client.get().body == b"new"
            client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            came_to(plane, requests=3, active=1)
            process.kill()
            process.wait(10)
            assert plane.node.reset_lane(1) == 1
            came_to(plane, requests=3)
            assert other.get().body == b"new"
            came_to(plane, requests=4)
