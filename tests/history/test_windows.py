"""Answers about spans of time, against the list of all requests."""

from __future__ import annotations

import math
import random

import pytest
from history.counting import START, Clock, Counts
from sqlalchemy import Connection

from hotswap_proxy.history.encoding import add, encode, pairs, quantile_bucket
from hotswap_proxy.history.recorder import Recorder
from hotswap_proxy.history.windows import ALL, History, series, total
from hotswap_proxy.observe import histogram
from hotswap_proxy.store import Store, rollups
from hotswap_proxy.store.times import of_seconds

pytestmark = pytest.mark.anyio

Request = tuple[int, str, str, bool, float]  # minute, route, arm, failed, milliseconds


def test_encoding_there_and_back() -> None:
    numbers = random.Random(5)
    for _ in range(200):
        counts = [0] * histogram.SIZE
        for _ in range(numbers.randrange(40)):
            counts[numbers.randrange(histogram.SIZE)] = numbers.choice([1, 127, 128, 70_000, 2**61])
        encoded = encode(counts)
        back = [0] * histogram.SIZE
        add(back, encoded)
        assert back == counts
        for cut in range(len(encoded)):
            assert all(bucket < histogram.SIZE for bucket, _ in pairs(encoded[:cut] + b"\xff\x7f"))
        if any(counts):
            bucket = quantile_bucket([encoded], 0.99)
            assert bucket is not None
            assert histogram.UPPER[bucket] == histogram.quantile(counts, 0.99)
    assert quantile_bucket([b"", b""], 0.99) is None


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


async def test_windows_of_a_fleet_against_all_requests(store: Store) -> None:
    numbers = random.Random(11)
    clock = Clock()
    fleet = [
        (counts := Counts(), Recorder(counts, store, name, f"boot-{name}", clock=clock, store_clock=clock))
        for name in ("n1", "n2", "n3")
    ]
    asked = History(store, fleet[0][1])
    every: list[Request] = []
    for minute in range(40):
        for node, (counts, _) in enumerate(fleet):
            for _ in range(numbers.randrange(12)):
                route, arm = numbers.choice("ab"), numbers.choice(["stable", "stable", "canary"])
                failed, took = numbers.random() < 0.1, numbers.lognormvariate(2, 1)
                counts.serve(route, arm, took, failed=failed)
                if minute < 39 or node == 0:  # of the others the minute that is not over is not known
                    every.append((minute, route, arm, failed, took))
        if minute < 39:
            clock.now += 60
            for _, recorder in fleet:
                await recorder.turn()
    clock.now += 30
    for minutes in (1, 5, 15, 30, 60, 1440):
        for route in ("a", "b", "nobody", ALL):
            window = await asked.window(route, "w", minutes)
            of = [one for one in every if one[0] >= 39 - minutes and (route in (one[1], ALL))]
            _compare(of, window.arms(), by_arm=route != ALL)
            assert window.start == START + max(0, 39 - minutes) * 60
            assert window.end == START + 39 * 60 + 30
            over = [one for one in of if one[0] < 39]
            assert window.per_second() == round(len(over) / (39 * 60 + START - window.start), 2)
    for step in (1, 5, 15):
        window = await asked.window("a", "30m", 30, step=step)
        points = series(window)
        first = int(START // 60) + 9
        begins = list(range(first - first % step, int(START // 60) + 40, step))
        assert [point["minute"] for point in points] == [of_seconds(begin * 60) for begin in begins]
        for begin, point in zip(begins, points, strict=True):
            of = [
                one
                for one in every
                if one[1] == "a" and one[0] >= 9 and begin <= one[0] + int(START // 60) < begin + step
            ]
            assert point["requests"] == len(of)
            assert point["failed"] == sum(one[3] for one in of)
            assert {arm: shown["requests"] for arm, shown in point["arms"].items()} == {
                arm: sum(one[2] == arm for one in of) for arm in sorted({one[2] for one in of})
            }
    early = await asked.window("a", "1h", 60, since=START + 600, until=START + 899)
    assert (early.start, early.end) == (START + 600, START + 900)
    _compare([one for one in every if one[1] == "a" and 10 <= one[0] < 15], early.arms())


def _compare(of: list[Request], arms: dict[str, object], *, by_arm: bool = True) -> None:
    for arm, counts in arms.items():
        mine = [one for one in of if not by_arm or one[2] == arm]
        shown = counts.answer()  # type: ignore[attr-defined]
        assert (shown["requests"], shown["failed"]) == (len(mine), sum(one[3] for one in mine))
        assert shown["errorRate"] == (round(shown["failed"] / len(mine), 6) if mine else None)
        for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            exact = quantile([one[4] for one in mine], q) if mine else None
            assert (shown[name] is None) == (exact is None)
            if exact is not None:
                assert exact <= shown[name] * 1.001 <= exact * 1.07, (
                    "to the end of its sixteenth of an octave"
                )
    assert sum(counts.answer()["requests"] for counts in arms.values()) == len(of)  # type: ignore[attr-defined]


async def test_a_node_that_has_just_begun(store: Store) -> None:
    clock = Clock(START + 20)
    counts = Counts()
    recorder = Recorder(counts, store, "n1", "b1", clock=clock, store_clock=clock)
    clock.now += 10
    for _ in range(30):
        counts.serve("r")
    window = await History(store, recorder).window("r", "5m", 5)
    assert (window.start, window.end, window.per_second()) == (START + 20, START + 30, 3.0)


async def test_quarters_of_hours_tell_what_their_minutes_told(store: Store) -> None:
    numbers = random.Random(13)
    clock = Clock()
    fleet = [
        (counts := Counts(), Recorder(counts, store, name, f"boot-{name}", clock=clock, store_clock=clock))
        for name in ("n1", "n2")
    ]
    first, length = int(START // 60), 5 * 60 + 40
    every: list[Request] = []
    for minute in range(length):
        for counts, _ in fleet:
            for _ in range(numbers.randrange(4)):
                route, arm = numbers.choice("ab"), numbers.choice(["stable", "canary"])
                failed, took = numbers.random() < 0.1, numbers.lognormvariate(2, 1)
                counts.serve(route, arm, took, failed=failed)
                every.append((minute, route, arm, failed, took))
        clock.now += 60
        for _, recorder in fleet:
            await recorder.turn()
    now = first + length
    asked = History(store, fleet[0][1])
    for minutes in (5, 240, 241, 300, 1440):
        for route in ("a", ALL):
            window = await asked.window(route, "w", minutes)
            begin = max(now - minutes, first)
            if minutes > 240:
                assert window.step == 15
                begin = max(begin - begin % 15, first)
            of = [one for one in every if first + one[0] >= begin and route in (one[1], ALL)]
            assert window.start == begin * 60
            _compare(of, window.arms(), by_arm=route != ALL)
            assert window.per_second() == round(len(of) / ((now - begin) * 60), 2)
            points = [point["requests"] for point in series(window)]
            assert sum(points) == len(of)
            assert len(points) == -(-now // window.step) - begin // window.step
    early = await asked.window("b", "24h", 1440, since=(first + 40) * 60, until=(first + 50) * 60)
    begin, end = (first + 40) // 15 * 15, (first + 50) // 15 * 15 + 15
    assert (early.start, early.end) == (begin * 60, end * 60)
    _compare([one for one in every if one[1] == "b" and begin <= first + one[0] < end], early.arms())

    def left(connection: Connection) -> set[int]:
        found = range(first, now - 240 - 17)
        return {minute % 15 for minute in found for row in rollups.of_minute(connection, minute)}

    assert await store.read(left) == {0}


async def test_a_quarter_that_is_added_up_again_stays_as_it_is(store: Store) -> None:
    """Of a node that was away; and of one that ends in between, or has written some of it late."""
    clock = Clock()
    counts = Counts()
    recorder = Recorder(counts, store, "n1", "b1", clock=clock, store_clock=clock)
    for _ in range(45):
        counts.serve("r")
        clock.now += 60
        await recorder.turn()
    clock.now += 6 * 3600
    late = rollups.Row("r", "stable", 1, 0, encode([1] + [0] * (histogram.SIZE - 1)))
    for boot in ("b2", "b3"):
        again = Recorder(Counts(), store, "n1", boot, clock=clock, store_clock=clock)
        for _ in range(3 if boot == "b2" else 1):  # the others need no turn of their own
            await again.turn()
        window = await History(store, again).window("r", "24h", 1440)
        assert total(window.arms().values()).requests == (45 if boot == "b2" else 46)
        assert sum(window.arms()["stable"].latency) == (45 if boot == "b2" else 46)
        left = {row[0] for row in await store.read(_of_route, "r")}
        assert left == {START // 60, START // 60 + 15, START // 60 + 30}
        await store.beat(rollups.write, int(START // 60) + 33, "n1", 7, [late])


def _of_route(connection: Connection, route_id: str) -> list[rollups.Counted]:
    return list(rollups.of_route(connection, route_id, range(int(START // 60), int(START // 60) + 60)))
