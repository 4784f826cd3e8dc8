"""Anomalies of a fleet: found once, by one node, told, stored, and with what was changed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from history.counting import Counts, bucket

from hotswap_proxy.admin.shapes.history import AnomalyPage
from hotswap_proxy.history.encoding import encode
from hotswap_proxy.history.recorder import Recorder
from hotswap_proxy.history.watch import LEASE, AnomalyWatch, routes_of
from hotswap_proxy.observe import histogram
from hotswap_proxy.store import leases, rollups
from hotswap_proxy.store.rollups import ALL, Row
from hotswap_proxy.store.times import seconds_of
from tests.gateway import Gateway

pytestmark = pytest.mark.anyio

ANOMALIES = "/api/v1/gateway/anomalies"
GOOD, BAD = (500, 1, 20.0), (500, 200, 20.0)


def row(route_id: str, arm: str, requests: int, failed: int, milliseconds: float) -> Row:
    counts = [0] * histogram.SIZE
    counts[bucket(milliseconds)] = requests
    return Row(route_id, arm, requests, failed, encode(counts))


class Fleet:
    """Nodes that write minutes, and processes that look for anomalies in them."""

    def __init__(self, gateway: Gateway, *watches: str) -> None:
        self.store = gateway.store
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.watches = {name: self.watch(name) for name in watches}
        self.minute = int(time.time() // 60) - 80

    def watch(self, name: str) -> AnomalyWatch:
        def announce(event: str, /, **fields: Any) -> None:
            self.told.append((name, event, fields))

        recorder = Recorder(Counts(), self.store, name, name)
        return AnomalyWatch(self.store, recorder, f"{name}:boot", announce=announce)

    async def write(
        self,
        arms: Mapping[tuple[str, str], tuple[int, int, float]],
        nodes: tuple[str, ...] = ("n1", "n2"),
        minute: int | None = None,
    ) -> None:
        for node in nodes:
            rows = [row(*key, *counts) for key, counts in arms.items()] + [Row(ALL, "", 0, 0, b"")]
            await self.store.beat(rollups.write, minute or self.minute, node, 1, rows)

    async def then(self, *arms: Mapping[tuple[str, str], tuple[int, int, float]]) -> None:
        """Minutes in which both nodes have counted this, each looked at by all watches."""
        for each in arms:
            self.minute += 1
            await self.write(each)
            await self.look()

    async def look(self) -> None:
        for watch in self.watches.values():
            await watch.turn(self.minute)

    @property
    def events(self) -> list[str]:
        return [event for _, event, _ in self.told]


def test_a_minute_of_several_nodes_and_arms() -> None:
    rows = sorted(
        [
            *(row("a", "stable", 100, 1, 10), row("a", "stable", 50, 2, 10)),
            *(row("a", "canary", 3, 1, 900), row("b", "stable", 1, 0, 1)),
            *(row("", "", 7, 0, 1), row(ALL, "", 7, 0, 1), row(rollups.REMOVED, "", 7, 0, 1)),
        ]
    )
    found = routes_of(rows)
    assert set(found) == {"a", "b"}
    assert found["a"].arms == {"stable": (150, 3, bucket(10)), "canary": (3, 1, None)}
    assert found["a"].whole == (153, 4, bucket(900)), "of all requests of both"
    assert found["b"].whole == found["b"].arms["stable"] == (1, 0, None)


async def test_one_event_for_each_begin_and_end(gateway: Gateway) -> None:
    made = await gateway.add_route(routeId="rt-1")
    fleet = Fleet(gateway, "n1", "n2")
    good, bad = {("rt-1", "stable"): GOOD}, {("rt-1", "stable"): BAD}
    await fleet.then(*[good] * 50)
    assert fleet.told == []
    await fleet.then(bad, bad, bad)
    ((name, event, anomaly),) = fleet.told
    assert (name, event) == ("n1", "anomaly.started")
    assert anomaly["anomalyId"].startswith("anm-")
    shown = {key: anomaly[key] for key in ("routeId", "routeName", "kind", "arm", "endedAt", "endReason")}
    assert shown == {
        "routeId": "rt-1",
        "routeName": "users",
        "kind": "errorRate",
        "arm": "stable",
        "endedAt": None,
        "endReason": None,
    }
    assert (anomaly["value"], anomaly["expected"]) == (0.4, 0.002)
    assert anomaly["message"] == "40.00% of the requests fail; usual is 0.20%"
    assert seconds_of(anomaly["startedAt"]) == (fleet.minute - 2) * 60
    for watch in fleet.watches.values():
        assert watch.counts() == {("rt-1", "errorRate"): 1}, "every node knows"
    answer = (await gateway.client.get(f"{ANOMALIES}?active=true&routeId=rt-1")).json()
    assert (answer["anomalies"], answer["total"]) == ([anomaly], 1)
    AnomalyPage.model_validate(answer)
    assert made["version"] == "1.0"

    await fleet.then(good, good, good, good)
    assert fleet.events == ["anomaly.started", "anomaly.ended"]
    ended = fleet.told[1][2]
    assert ended == anomaly | {"endedAt": ended["endedAt"], "endReason": "recovered"}
    assert seconds_of(ended["endedAt"]) == (fleet.minute - 3) * 60
    assert [watch.counts() for watch in fleet.watches.values()] == [{}, {}]
    assert (await gateway.client.get(f"{ANOMALIES}?active=true")).json()["total"] == 0
    assert (await gateway.client.get(f"{ANOMALIES}?active=false")).json()["anomalies"] == [ended]
    assert (await gateway.client.get(f"{ANOMALIES}?routeId=other")).json()["anomalies"] == []


async def test_another_node_takes_over(gateway: Gateway) -> None:
    await gateway.add_route(routeId="rt-1")
    fleet = Fleet(gateway, "n1", "n2")
    good, bad = {("rt-1", "stable"): GOOD}, {("rt-1", "stable"): BAD}
    await fleet.then(*[good] * 40, bad, bad)
    assert fleet.events == ["anomaly.started"]
    first = fleet.watches.pop("n1")
    await first._leadership.release()
    await fleet.then(bad, bad)
    assert fleet.events == ["anomaly.started"], "it goes on"
    await fleet.then(good, good, good)
    assert [(name, event) for name, event, _ in fleet.told[1:]] == [("n2", "anomaly.ended")]
    await fleet.then(bad, bad)
    assert fleet.events[2:] == ["anomaly.started"], "what the other has learned it has read"


async def test_who_lost_the_lease_unknowingly_tells_nothing(gateway: Gateway) -> None:
    await gateway.add_route(routeId="rt-1")
    fleet = Fleet(gateway, "n1")
    good, bad = {("rt-1", "stable"): GOOD}, {("rt-1", "stable"): BAD}
    await fleet.then(*[good] * 40, bad)
    watch = fleet.watches["n1"]
    real = watch._leadership.keep

    async def and_then_loses_it() -> int | None:
        fencing = await real()
        await fleet.store.beat(leases.release, LEASE, "n1:boot")
        await fleet.store.beat(leases.take, LEASE, "other:boot", 150.0)
        return fencing

    watch._leadership.keep = and_then_loses_it  # type: ignore[method-assign]
    await fleet.then(bad)
    assert fleet.told == []
    assert (await gateway.client.get(ANOMALIES)).json()["total"] == 0


async def test_a_minute_that_a_node_has_not_told_of_is_waited_for(gateway: Gateway) -> None:
    await gateway.add_route(routeId="rt-1")
    fleet = Fleet(gateway, "n1")
    good = {("rt-1", "stable"): GOOD}
    await fleet.then(*[good] * 40)
    for _ in range(3):  # one has all the traffic, and the store does not hear of it
        fleet.minute += 1
        await fleet.write({}, nodes=("n1",))
        await fleet.look()
    assert fleet.told == [], "that is no drop"
    for back in (2, 1, 0):
        await fleet.write(good, nodes=("n2",), minute=fleet.minute - back)
    await fleet.then(good)
    for _ in range(6):  # now it is gone for good
        fleet.minute += 1
        await fleet.write({}, nodes=("n1",))
        await fleet.look()
    assert fleet.events == ["anomaly.started"]
    assert fleet.told[0][2]["kind"] == "trafficDrop"


async def test_what_was_changed_is_named(gateway: Gateway) -> None:
    await gateway.add_route(routeId="rt-1")
    await gateway.add_route(routeId="rt-2", name="shop", pathPattern="/shop/**")
    fleet = Fleet(gateway, "n1")
    good = {("rt-1", "stable"): GOOD, ("rt-2", "stable"): GOOD}
    bad = {("rt-1", "stable"): BAD, ("rt-2", "stable"): GOOD, ("rt-2", "canary"): (100, 50, 5.0)}
    fleet.minute += 40
    await fleet.then(*[good] * 40)
    routes = "/api/v1/gateway/routes/rt-2/versions"
    url = "http://127.0.0.1:9002"
    answer = await gateway.client.post(
        routes, json={"version": "2.0", "backends": [{"name": "users-1", "url": url}]}
    )
    assert answer.status_code == 201, answer.text
    order = {"routeId": "rt-2", "configVersion": "2.0", "strategy": "Canary"}
    deployment = (await gateway.client.post("/api/v1/gateway/deployments", json=order)).json()
    await fleet.then(bad, bad)
    told = {fields["routeId"]: fields for _, _, fields in fleet.told}
    assert set(told) == {"rt-1", "rt-2"}
    assert (told["rt-1"]["version"], told["rt-1"]["deploymentId"]) == ("1.0", None)
    assert (told["rt-2"]["version"], told["rt-2"]["arm"]) == ("2.0", "canary")
    assert told["rt-2"]["deploymentId"] == deployment["deploymentId"]
    assert deployment["createdAt"] <= told["rt-2"]["changedAt"]


async def test_what_was_changed_long_ago_is_not_the_reason(gateway: Gateway) -> None:
    await gateway.add_route(routeId="rt-1")
    fleet = Fleet(gateway, "n1")
    fleet.minute += 200
    good, bad = {("rt-1", "stable"): GOOD}, {("rt-1", "stable"): BAD}
    await fleet.then(*[good] * 40, bad, bad)
    ((_, _, anomaly),) = fleet.told
    assert (anomaly["version"], anomaly["changedAt"], anomaly["deploymentId"]) == (None, None, None)


async def test_a_route_that_is_gone_has_no_anomaly(gateway: Gateway) -> None:
    await gateway.add_route(routeId="rt-1")
    fleet = Fleet(gateway, "n1")
    await fleet.then(*[{("rt-1", "stable"): GOOD}] * 40)
    await gateway.client.delete("/api/v1/gateway/routes/rt-1")
    await fleet.then({}, {}, {})
    assert fleet.told == []
