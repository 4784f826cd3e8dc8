"""Minute roll-ups and anomalies in the store, with both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, event

from hotswap_proxy.store import anomalies, rollups
from hotswap_proxy.store.rollups import ALL, Row
from hotswap_proxy.store.times import now, of_seconds
from tests.gateway import Gateway

pytestmark = pytest.mark.anyio

SERIES = [Row("a", "stable", 5, 1, b"\x00\x05"), Row("a", "canary", 2, 0, b""), Row("b", "stable", 1, 0, b"")]


async def test_rows_are_written_once(gateway: Gateway) -> None:
    store = gateway.store
    for _ in range(2):
        await store.beat(rollups.write, 100, "n1", 1, SERIES)
    await store.beat(rollups.write, 100, "n1", 2, SERIES[:1])
    await store.beat(rollups.write, 100, "n2", 1, [*SERIES, Row(ALL, "", 8, 1, b"")])
    await store.beat(rollups.write, 101, "n2", 1, [])
    found = await store.read(lambda connection: list(rollups.of_minute(connection, 100)))
    assert sorted(found) == sorted([*SERIES, SERIES[0], *SERIES, Row(ALL, "", 8, 1, b"")])
    assert [each[:2] for each in found] == sorted(each[:2] for each in found)
    assert await store.read(rollups.nodes_of, 100) == {"n2"}
    assert await store.read(rollups.nodes_of, 101) == set()


async def test_those_of_a_route(gateway: Gateway) -> None:
    store = gateway.store
    for minute in (9, 10, 11, 30):
        await store.beat(rollups.write, minute, "n1", 1, SERIES)
    found = await store.read(lambda connection: list(rollups.of_route(connection, "a", range(10, 1450))))
    assert [(each.minute, each.arm, each.requests) for each in found] == [
        (minute, arm, requests) for minute in (10, 11, 30) for arm, requests in (("canary", 2), ("stable", 5))
    ]
    assert (found[1].node_id, found[1].part, found[1].failed, found[1].latency) == ("n1", 1, 1, b"\x00\x05")
    assert await store.read(lambda connection: list(rollups.of_route(connection, "a", []))) == []


async def test_old_minutes_go_bit_by_bit(gateway: Gateway) -> None:
    store = gateway.store
    assert await store.read(rollups.oldest) is None
    assert await store.beat(rollups.prune, 1000) is False
    for minute in (*range(100, 110), 900, 5000):
        await store.beat(rollups.write, minute, "n1", 1, SERIES)
    turns = 0
    while await store.beat(rollups.prune, 1000, 895):
        turns += 1
    assert turns == 3, "the future that was none, then five minutes, three at once"
    left = [minute for minute in (*range(100, 110), 900, 5000) if await _has(gateway, minute)]
    assert left == [105, 106, 107, 108, 109, 900]
    assert await store.read(rollups.oldest) == 105


async def test_making_room_does_not_read_the_whole_table(gateway: Gateway) -> None:
    """Each minute, in the thread that also renews leases, with millions of rows."""
    for minute in (100, 900, 5000):
        await gateway.store.beat(rollups.write, minute, "n1", 1, SERIES)

    def plans(connection: Connection) -> list[str]:
        if connection.dialect.name != "sqlite":  # which does it well, and decides anew for each size
            return ["SEARCH rollups"]
        asked: list[tuple[str, Any]] = []
        event.listen(connection, "before_cursor_execute", lambda *about: asked.append(about[2:4]))
        while rollups.prune(connection, 1000, 895):
            pass
        explained = [
            connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", parameters).all()
            for query, parameters in list(asked)
        ]
        return [row[-1] for rows in explained for row in rows]

    found = await gateway.store.beat(plans)
    assert found and all(plan.startswith("SEARCH rollups") for plan in found), found


async def _has(gateway: Gateway, minute: int) -> bool:
    return bool(await gateway.store.read(lambda connection: list(rollups.of_minute(connection, minute))))


def anomaly(name: str, started: str, **more: Any) -> dict[str, Any]:
    about = {"routeId": "a", "kind": "latency", "arm": "stable", "endedAt": None, "endReason": None}
    return {"anomalyId": name, "startedAt": started, **about, **more}


async def test_one_anomaly_of_a_kind_at_a_time(gateway: Gateway) -> None:
    store = gateway.store
    first, start = anomaly("anm-1", of_seconds(1000.0)), of_seconds(2000.0)
    assert await store.write(anomalies.begin, first) is True
    assert await store.write(anomalies.begin, first | {"anomalyId": "anm-2"}) is False
    for more in ({"arm": "canary"}, {"kind": "errorRate"}, {"routeId": "b"}, {"arm": None}):
        other = anomaly(f"anm-{next(iter(more.items()))}", start, **more)
        assert await store.write(anomalies.begin, other) is True
    assert len(await store.read(anomalies.active)) == 5
    assert await store.write(anomalies.end, "latency", "a", "nobody", start, "x") is None
    # A clock that was set back does not end it before it began.
    ended = await store.write(anomalies.end, "latency", "a", "stable", of_seconds(1.0), "recovered")
    assert ended == first | {"endedAt": of_seconds(1000.0), "endReason": "recovered"}
    assert await store.write(anomalies.end, "latency", "a", "stable", start, "recovered") is None
    assert len(await store.read(anomalies.lately, of_seconds(900.0))) == 5
    assert len(await store.read(anomalies.lately, of_seconds(1100.0))) == 4
    found, total = await store.read(anomalies.page, "a", None, 2, 0)
    assert (len(found), total) == (2, 4)
    assert (await store.read(anomalies.page, None, False, 20, 0)) == ([ended], 1)
    assert await store.write(anomalies.begin, first | {"anomalyId": "anm-3"}) is True


async def test_old_anomalies_go(gateway: Gateway) -> None:
    store = gateway.store
    for name, started in (("old", of_seconds(1000.0)), ("new", now())):
        await store.write(anomalies.begin, anomaly(name, started))
        await store.write(anomalies.end, "latency", "a", "stable", started, "recovered")
    await store.write(anomalies.begin, anomaly("active", of_seconds(1000.0)))
    await store.write(anomalies.prune)
    found, _ = await store.read(anomalies.page, None, None, 20, 0)
    assert [each["anomalyId"] for each in found] == ["new", "active"]
