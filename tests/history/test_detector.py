"""When an anomaly begins and ends, and how often there seems to be one where there is none."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Callable
from statistics import NormalDist

import pytest

from hotswap_proxy.history import detector as module
from hotswap_proxy.history.baseline import (
    HISTORY,
    LEAST,
    Judgement,
    Minute,
    RouteHistory,
    judge,
    ordinary,
    wilson_lower,
)
from hotswap_proxy.history.detector import (
    BEGIN_AFTER,
    END_AFTER,
    LONGEST,
    SILENT_AFTER,
    Begun,
    Detector,
    Ended,
    Key,
    RouteMinute,
)
from hotswap_proxy.observe import histogram


def p99(milliseconds: float) -> int:
    return min(bisect.bisect_left(histogram.UPPER, milliseconds * 1000), histogram.SIZE - 1)


def test_median_and_deviation() -> None:
    assert ordinary([]) == (0, 0, 0, 0, 0)
    assert ordinary([3, 1, 2])[:2] == (3, 2)
    found = ordinary([1, 2, 3, 4, 1000])
    assert (found.median, found.deviation, found.most) == (3, 1.4826, 1000)
    assert ordinary([1, 2, 3, 4]).median == 2.5


def test_wilsons_interval() -> None:
    # E. B. Wilson (1927): the value that the rate would have to have for this to be z deviations off.
    for failed, requests in ((0, 50), (1, 1), (5, 30), (300, 1000), (1000, 1000)):
        low = wilson_lower(failed, requests)
        part = failed / requests
        assert 0 <= low <= part
        if low:
            assert math.isclose((part - low) / math.sqrt(low * (1 - low) / requests), 3.29)


def test_a_history_remembers_some_hours_and_leaves_out_what_was_excluded() -> None:
    history = RouteHistory()
    for _ in range(HISTORY + 5):
        history.add(Minute(1000, 10, p99(20)))
    assert len(history) == HISTORY
    assert history.usual("errorRate").median == 0.01
    assert math.isclose(math.exp(history.usual("latency").median), 20, rel_tol=0.07)
    for _ in range(30):
        history.add(Minute(1000, 500, p99(500)), ["errorRate"])
    assert history.usual("errorRate") == (HISTORY - 30, 0.01, 0, 0.01, 0.01)
    assert history.usual("latency").minutes == HISTORY
    history.include("errorRate")
    assert history.usual("errorRate").most == 0.5
    quiet = RouteHistory()
    for _ in range(50):
        quiet.add(Minute(3, 0, p99(1)))
    assert (quiet.usual("errorRate").minutes, quiet.usual("trafficDrop").minutes) == (0, 50)
    assert not quiet.is_silent


class Route:
    """A route with ordinary minutes behind it."""

    def __init__(self, minutes: int = 60, normal: Minute = Minute(1000, 2, p99(20))) -> None:  # noqa: B008
        self.detector = Detector()
        self.now = 100
        self.normal = normal
        for _ in range(minutes):
            assert self.then(normal) == []

    def then(self, stable: Minute | None, canary: Minute | None = None) -> list[Begun | Ended]:
        arms = {name: each for name, each in (("stable", stable), ("canary", canary)) if each}
        whole = Minute(
            sum(each.requests for each in arms.values()),
            sum(each.failed for each in arms.values()),
            max((each.p99 or 0 for each in arms.values()), default=None),
        )
        self.now += 1
        return self.detector.observe(self.now, {"r": RouteMinute(whole, arms)} if arms else {})


BAD = {
    "errorRate": Minute(1000, 100, p99(20)),
    "latency": Minute(1000, 2, p99(80)),
    "trafficDrop": Minute(20, 0, p99(20)),
    "trafficSpike": Minute(10_000, 20, p99(20)),
}


@pytest.mark.parametrize("kind", BAD)
def test_each_kind_begins_and_ends(kind: str) -> None:
    route = Route()
    for _ in range(BEGIN_AFTER - 1):
        assert route.then(BAD[kind]) == []
    (begun,) = route.then(BAD[kind])
    assert isinstance(begun, Begun)
    arm = "stable" if kind in ("errorRate", "latency") else None
    assert begun[:2] == (Key(kind, "r", arm), route.now - BEGIN_AFTER + 1)  # type: ignore[arg-type]
    assert route.detector.active == [begun.key]
    for _ in range(40):
        assert route.then(BAD[kind]) == [], "told once"
    for _ in range(END_AFTER - 1):
        assert route.then(route.normal) == []
    assert route.then(BAD[kind]) == [], "it was not over"
    for _ in range(END_AFTER - 1):
        assert route.then(route.normal) == []
    assert route.then(route.normal) == [Ended(begun.key, route.now - END_AFTER + 1, "recovered")]
    assert route.detector.active == []


@pytest.mark.parametrize("kind", BAD)
def test_one_minute_is_none_and_too_short_a_history_neither(kind: str) -> None:
    route = Route()
    for _ in range(5):
        assert route.then(BAD[kind]) == []
        assert route.then(route.normal) == []
    route = Route(minutes=LEAST // 2)
    for _ in range(LEAST // 4):
        assert route.then(BAD[kind]) == []


def test_few_requests_say_little() -> None:
    usual = ordinary([0.0] * 60)
    assert judge("errorRate", Minute(29, 29, None), usual) == Judgement(None)
    assert judge("errorRate", Minute(30, 2, None), usual).anomalous is False
    assert judge("errorRate", Minute(30, 6, None), usual).anomalous is True
    assert judge("errorRate", Minute(10_000, 80, None), usual).anomalous is False, "less than a point"
    assert judge("latency", Minute(99, 0, p99(900)), ordinary([1.0] * 60)).anomalous is None
    assert judge("latency", Minute(100, 0, p99(4)), ordinary([0.0] * 60)).anomalous is False, "3 ms more"


def test_a_new_version_is_judged_by_the_history_of_its_route() -> None:
    route = Route()
    canary = Minute(100, 20, p99(20))
    assert route.then(Minute(900, 2, p99(20)), canary) == []
    (begun,) = route.then(Minute(900, 2, p99(20)), canary)
    assert begun.key == Key("errorRate", "r", "canary")
    # Its traffic comes from the other arm, and that is no drop.
    for _ in range(5):
        assert route.then(Minute(10, 0, p99(20)), Minute(990, 200, p99(20))) == []
    for _ in range(SILENT_AFTER - 1):
        assert route.then(route.normal) == [], "rolled back: nothing can be said of it"
    assert route.then(route.normal) == [Ended(begun.key, route.now - SILENT_AFTER + 1, "noData")]


def test_what_lasts_becomes_ordinary() -> None:
    route = Route(minutes=HISTORY)
    bad = BAD["latency"]
    found = [event for _ in range(LONGEST + 1) for event in route.then(bad)]
    assert isinstance(found[0], Begun)
    assert found[1] == Ended(found[0].key, route.now, "newNormal")
    assert all(route.then(bad) == [] for _ in range(30))
    assert route.detector.active == []


def test_a_route_that_nobody_uses_any_more() -> None:
    route = Route()
    assert route.then(None) == []
    (begun,) = route.then(None)
    assert begun.key == Key("trafficDrop", "r", None)
    ended = [event for _ in range(2 * HISTORY) for event in route.then(None)]
    assert [event.reason for event in ended if isinstance(event, Ended)] == ["newNormal"]
    assert not route.detector._histories, "forgotten"


def test_a_minute_that_was_not_judged_is_between() -> None:
    route = Route()
    assert route.then(BAD["errorRate"]) == []
    route.now += 1
    assert route.then(BAD["errorRate"]) == []
    (begun,) = route.then(BAD["errorRate"])
    assert isinstance(begun, Begun)
    assert begun.since == route.now - 1


def test_who_takes_over_ends_what_another_has_begun() -> None:
    route = Route(minutes=0)
    key = Key("errorRate", "r", "stable")
    route.detector.adopt(key, 95)
    for _ in range(60):
        route.detector.learn({"r": RouteMinute(route.normal, {"stable": route.normal})}, {})
    assert [event for _ in range(3) for event in route.then(route.normal)] == [Ended(key, 101, "recovered")]


def test_the_number_of_routes_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROUTES", 3)
    detector = Detector()
    minute = RouteMinute(Minute(100, 0, 5), {})
    detector.observe(1, dict.fromkeys("abcde", minute) | {"quiet": RouteMinute(Minute(5, 0, 5), {})})
    assert (len(detector._histories), detector.unwatched) == (3, 2)


# --- what chance alone does -------------------------------------------------------------------------


class Traffic:
    """A route's minutes: requests by Poisson around a level that moves over the day and, by ``burst``, at
    random; failures by a rate that moves as well; the p99 of so many lognormal durations.
    """

    def __init__(self, seed: int, rate: float, errors: float, sigma: float, burst: float) -> None:
        self._random = random.Random(seed)
        self._rate, self._errors, self._sigma, self._burst = rate, errors, sigma, burst
        self._level = 0.0

    def minute(self, number: int) -> Minute:
        chance = self._random
        self._level = 0.8 * self._level + 0.6 * self._burst * chance.gauss(0, 1)
        day = 1 + 0.5 * math.sin(number / 1440 * 2 * math.pi)
        requests = self._poisson(self._rate * day * math.exp(self._level))
        failed = self._poisson(requests * self._errors * math.exp(chance.gauss(0, self._burst)))
        return Minute(requests, min(failed, requests), self._p99(requests) if requests else None)

    def _p99(self, requests: int) -> int:
        rank = max(1, math.ceil(0.99 * requests))
        part = self._random.betavariate(rank, requests - rank + 1)
        z = NormalDist().inv_cdf(min(max(part, 1e-12), 1 - 1e-12))
        return p99(math.exp(math.log(5) + self._sigma * z))

    def _poisson(self, mean: float) -> int:
        if mean > 60:
            return max(0, round(self._random.gauss(mean, math.sqrt(mean))))
        limit, product, found = math.exp(-mean), self._random.random(), 0
        while product > limit:
            product *= self._random.random()
            found += 1
        return found


def begun(traffic: Traffic, minutes: int, bad: Callable[[int, Minute], Minute] | None = None) -> list[Begun]:
    detector = Detector()
    found = []
    for number in range(minutes):
        minute = traffic.minute(number)
        if bad is not None:
            minute = bad(number, minute)
        events = detector.observe(number, {"r": RouteMinute(minute, {"stable": minute})})
        found += [event for event in events if isinstance(event, Begun)]
    return found


def test_there_are_hardly_any_false_alarms() -> None:
    """docs/history.md has the figures of a longer run of the same."""
    alarms = 0
    for seed, (rate, errors, sigma) in enumerate(
        (rate, errors, sigma) for rate in (60, 600, 20_000) for errors in (0.0, 0.02) for sigma in (0.3, 1.0)
    ):
        alarms += len(begun(Traffic(seed, rate, errors, sigma, 0.3), 1440))
    assert alarms <= 1, "in twelve days of a route"


@pytest.mark.parametrize(
    ("kind", "worse"),
    [
        ("errorRate", lambda minute: minute._replace(failed=minute.requests // 5)),
        ("latency", lambda minute: minute._replace(p99=p99(150))),
        ("trafficDrop", lambda minute: minute._replace(requests=0, failed=0, p99=None)),
        ("trafficSpike", lambda minute: minute._replace(requests=minute.requests * 10)),
    ],
)
def test_what_is_plain_is_found_at_once(kind: str, worse: Callable[[Minute], Minute]) -> None:
    for seed in range(10):
        traffic = Traffic(seed, 300, 0.01, 0.5, 0.2)
        found = begun(traffic, 205, lambda number, minute: worse(minute) if number >= 200 else minute)
        assert [(event.key.kind, event.since) for event in found] == [(kind, 200)]
