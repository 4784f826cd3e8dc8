"""Configurations change under load: nothing fails, nothing is closed, nothing is left behind."""

from __future__ import annotations

import threading

import pytest
from harness.backend import ok
from harness.client import Client
from harness.wait import eventually
from harness.worker import backend, route

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Hammer:
    """Keep-alive clients that ask without a pause, each in its thread."""

    def __init__(self, port: int, clients: int, paths: list[str]) -> None:
        self.stop = threading.Event()
        self.failures: list[str] = []
        self.answers: list[bytes] = []
        self.threads = [
            threading.Thread(target=self._run, args=(port, paths[n % len(paths)])) for n in range(clients)
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, port: int, path: str) -> None:
        try:
            with Client(port) as client:  # one connection all along: a closed one is a failure
                while not self.stop.is_set():
                    answer = client.get(path)
                    self.answers.append(answer.body)
                    if answer.status != 200:
                        self.failures.append(f"{path}: {answer.status} {answer.body!r}")
        except Exception as error:
            self.failures.append(f"{path}: {error!r}")

    def wait_for(self, answers: int) -> None:
        """Until there are so many more answers."""
        wanted = len(self.answers) + answers
        eventually(lambda: len(self.answers) >= wanted or bool(self.failures))

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(20)


def live(plane) -> list[dict]:
    return [row for row in plane.node.ledger() if row["generation"] is not None]


def test_a_request_finishes_on_the_backend_it_started_on(plane, make_raw, make_backend, connect):
    def script(peer):
        peer.read_head()
        assert go_on.wait(10)
        peer.send(ok(b"old"))

    go_on = threading.Event()
    old, new = make_raw(script), make_backend(lambda _: ok(b"new"))
    plane.publish(route("/**", backend(old.url)))
    slow, quick = connect(), connect()
    slow.send(GET)
    eventually(lambda: plane.active(old.url) == 1)
    plane.publish(route("/**", backend(new.url, "b2")))
    assert quick.get().body == b"new"
    assert [row["inflight"] for row in live(plane)] == [1, 0]
    go_on.set()
    assert slow.read().body == b"old"
    assert slow.get().body == b"new"


@pytest.mark.parametrize(("publishes", "answers_between"), [(60, 24), (1000, 0)])
def test_changes_under_load(plane, make_backend, publishes, answers_between):
    servers = [make_backend(lambda _, n=n: ok(b"%d" % n)) for n in range(3)]
    stable = [route(f"/r{n}", backend(servers[0].url, f"x{n}")) for n in range(40)]
    plane.publish(*stable, route("/swapped/**", backend(servers[1].url)))
    plane.node.reclaim()
    size = live(plane)[0]["bytes"]
    hammer = Hammer(plane.port, 24, ["/swapped/a", "/swapped/b", "/r1", "/r39"])
    for turn in range(publishes):
        # One of the routes moves to the other backend; the rest is compiled anew, and the same.
        chosen = servers[1 + turn % 2]
        plane.publish(route("/swapped/**", backend(chosen.url, f"b{turn % 2}")), reset=False)
        plane.node.reclaim()
        hammer.wait_for(answers_between)
    hammer.wait_for(100)
    hammer.end()
    assert hammer.failures == []
    assert answers_between == 0 or set(hammer.answers) == {b"0", b"1", b"2"}
    eventually(lambda: plane.totals()["inflight"] == 0)
    plane.node.reclaim()
    rows = live(plane)
    assert len(rows) == 1
    assert rows[0]["bytes"] <= size + 64
    totals = plane.totals()
    assert totals["completed"] == totals["accepted"] == len(hammer.answers)
    assert plane.totals()["lost"] == 0


@pytest.mark.parametrize("change", ["untouched", "removed", "disabled", "backend disabled"])
def test_a_long_stream_survives_a_change(plane, make_raw, make_backend, connect, change):
    def script(peer):
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in iter(parts.pop, None):
            peer.send(b"%x\r\n%b\r\n" % (len(part), part))
            sent.release()
            assert wanted.acquire(timeout=10)
        peer.send(b"0\r\n\r\n")

    parts: list[bytes | None] = [None, *(b"part %d;" % n for n in reversed(range(50)))]
    sent, wanted = threading.Semaphore(0), threading.Semaphore(0)
    server, other = make_raw(script), make_backend()
    plane.publish(route("/stream", backend(server.url)), route("/x", backend(other.url, "b2")))
    client, second = connect(), connect()
    client.send(GET.replace(b" /", b" /stream", 1))
    for turn in range(50):
        assert sent.acquire(timeout=10)
        if turn == 10 and change == "removed":
            plane.publish(reset=False, removeRoutes=["/stream"])
        elif turn == 10 and change == "disabled":
            plane.publish(route("/stream", backend(server.url), isEnabled=False), reset=False)
        elif turn == 10 and change == "backend disabled":
            plane.publish(route("/stream", backend(server.url, isEnabled=False)), reset=False)
        elif turn > 10:
            plane.publish(route("/x", backend(other.url, f"b{turn}")), reset=False)
        plane.node.reclaim()
        if turn > 10:
            assert len(live(plane)) <= 2  # a stream holds no memory of the configurations that it has seen
            assert second.get("/x").status == 200
            gone = {"untouched": 0, "removed": 404, "disabled": 404, "backend disabled": 503}[change]
            assert not gone or second.get("/stream").status == gone
        wanted.release()
    assert client.read().body == b"".join(b"part %d;" % n for n in range(50))


def test_disabling_a_backend_takes_it_out_of_rotation(plane, make_raw, make_backend, connect):
    def script(peer):
        while True:
            peer.read_head()
            assert go_on.wait(10)
            peer.send(ok(b"slow"))

    go_on = threading.Event()
    slow, quick = make_raw(script), make_backend(lambda _: ok(b"quick"))
    both = [backend(slow.url, "b1"), backend(quick.url, "b2")]
    plane.publish(route("/**", *both))
    clients = [connect() for _ in range(2)]
    for n, client in enumerate(clients):
        client.send(GET)
        eventually(lambda n=n: plane.totals()["accepted"] == n + 1)
    eventually(lambda: plane.active(slow.url) == 1)
    both[0]["isEnabled"] = False
    plane.publish(route("/**", *both))
    other = connect()
    assert {other.get().body for _ in range(10)} == {b"quick"}
    go_on.set()
    assert {client.read().body for client in clients} == {b"slow", b"quick"}
    both[0]["isEnabled"] = True
    plane.publish(route("/**", *both))
    assert {other.get().body for _ in range(10)} == {b"slow", b"quick"}


def test_deleting_a_route_leaves_a_request_in_flight_alone(plane, make_raw, connect):
    def script(peer):
        peer.read_head()
        body = peer.read(100_000)
        peer.send(ok(b"%d" % len(body)))

    server = make_raw(script)
    plane.publish(route("/a", backend(server.url)))
    client = connect()
    client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
    eventually(lambda: plane.active(server.url) == 1)
    plane.publish(reset=False, removeRoutes=["/a"])
    plane.node.reclaim()
    assert connect().get("/a").status == 404
    client.send(bytes(50_000))
    assert client.read("POST").body == b"100000"
    assert client.get("/a").status == 404
