"""Compares each minute with what is usual, and tells of what is not: on one node of a fleet, once.

The node that has the lease does it, some seconds after the end of each minute, when the others have written
theirs. What it knows is in the store, so another one can take over.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from hotswap_proxy.deploy.announce import Announce, announce_nothing
from hotswap_proxy.deploy.lease import Leadership
from hotswap_proxy.errors import OutcomeUnknown, StoreUnavailable
from hotswap_proxy.store import Store, anomalies, leases, rollups
from hotswap_proxy.store.anomalies import Anomaly
from hotswap_proxy.store.leases import LeaseLost
from hotswap_proxy.store.rollups import Row
from hotswap_proxy.store.times import of_seconds, seconds_of

from .baseline import HISTORY, LATENCY_REQUESTS, LEAST, Judgement, Kind, Minute
from .detector import REFRESH, Begun, Detector, Ended, Key, RouteMinute
from .encoding import quantile_bucket
from .recorder import MINUTE, Recorder

log = logging.getLogger("hotswap_proxy.history")

LEASE = "anomalies"
TTL = 150.0  # seconds: renewed each minute
DELAY = 20.0  # seconds after the end of a minute
REPORTING = 3  # minutes in which a node that tells of no minute any more is still waited for
MOST_LEARNED = 300_000  # rows, some 30 µs each
CHANGE_WITHIN = 3600.0  # seconds before an anomaly in which a change may be its reason
NOTES: dict[Kind, str] = {
    "errorRate": "{value:.2%} of the requests fail; usual is {expected:.2%}",
    "latency": "the p99 is {value:.1f} ms; usual is {expected:.1f} ms",
    "trafficDrop": "{value:.0f} requests a minute; usual is {expected:.0f}",
    "trafficSpike": "{value:.0f} requests a minute; usual is {expected:.0f}",
}


def routes_of(rows: Iterable[Row]) -> dict[str, RouteMinute]:
    """A minute of all nodes, by route. ``rows`` by route and arm; only those of routes count."""
    found: dict[str, RouteMinute] = {}
    for route_id, of_route in groupby(rows, lambda row: row.route_id):
        if not route_id or route_id in (rollups.ALL, rollups.REMOVED):
            continue
        arms = {arm: _minute(list(of_arm)) for arm, of_arm in groupby(list(of_route), lambda row: row.arm)}
        counted = {arm: minute for arm, (minute, _) in arms.items()}
        if len(arms) == 1:
            (whole,) = counted.values()
        else:
            requests = sum(each.requests for each in counted.values())
            failed = sum(each.failed for each in counted.values())
            whole = Minute(
                requests, failed, _p99(requests, [one for _, each in arms.values() for one in each])
            )
        found[route_id] = RouteMinute(whole, counted)
    return found


def _minute(rows: list[Row]) -> tuple[Minute, list[bytes]]:
    latency = [row.latency for row in rows]
    requests, failed = sum(row.requests for row in rows), sum(row.failed for row in rows)
    return Minute(requests, failed, _p99(requests, latency)), latency


def _p99(requests: int, latency: list[bytes]) -> int | None:
    """None also for what is too little to be judged by."""
    return quantile_bucket(latency, 0.99) if requests >= LATENCY_REQUESTS else None


class AnomalyWatch:
    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        owner: str,
        *,
        announce: Announce = announce_nothing,
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._leadership = Leadership(store, LEASE, owner, ttl=TTL, what="looks for anomalies")
        self._announce = announce
        self._thread = ThreadPoolExecutor(1, "anomalies")
        self._detector: Detector | None = None  # of the one process that has the lease
        self._fencing: int | None = None
        self._next = 0  # the minute to be judged
        self._failing = False
        self.active: list[Anomaly] = []  # as of the last minute, on every node

    def counts(self) -> dict[tuple[str, str], int]:
        """(route, kind) → anomalies that go on."""
        return Counter((each["routeId"], each["kind"]) for each in self.active)

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                await asyncio.sleep(MINUTE - (self._recorder.now() - DELAY) % MINUTE)
                try:
                    await self.turn(int(self._recorder.now() // MINUTE) - 1)
                    self._failing = False
                except Exception as error:
                    self._note(error)
        finally:
            self._thread.shutdown(wait=False)
            try:
                async with asyncio.timeout(0.5):
                    await self._leadership.release()
            except Exception as error:  # it expires by itself
                log.debug("the lease of anomalies is not given back: %s", error)

    def _note(self, error: Exception) -> None:
        if not self._failing:
            is_known = isinstance(error, StoreUnavailable | OutcomeUnknown)
            log.error(
                "anomalies cannot be looked for now",
                extra={"reason": str(error)},
                exc_info=None if is_known else error,
            )
        self._failing = True

    async def turn(self, last: int) -> None:
        """Judge what is new, up to the minute ``last``, if this is the node to do so."""
        fencing = await self._leadership.keep()
        if fencing is None:
            self._detector = None
        else:
            if self._detector is None or fencing != self._fencing:
                await self._begin(last)
                self._fencing = fencing
            try:
                await self._judge(last, fencing)
            except LeaseLost:
                self._leadership.lose()
                self._detector = None
            except Exception:
                # What the detector knows and what is stored may differ now: it begins anew.
                self._detector = None
                raise
        self.active = await self._store.read(anomalies.active)

    async def _begin(self, last: int) -> None:
        """Learn the minutes before, and what others have found."""
        detector = Detector()
        known = await self._store.read(anomalies.lately, of_seconds((last - HISTORY) * MINUTE))
        for each in known:
            if each["endedAt"] is None:
                key = Key(each["kind"], each["routeId"], each["arm"])
                detector.adopt(key, int(seconds_of(each["startedAt"]) // MINUTE))
        for minute in range(last - await self._store.read(self._learned, last), last):
            excluded: dict[str, set[Kind]] = {}
            for each in known:
                if _lasts(each, minute):
                    excluded.setdefault(each["routeId"], set()).add(each["kind"])
            routes = await self._store.read(self._read, minute)
            await self._in_thread(detector.learn, routes, excluded)
        self._detector, self._next = detector, last

    async def _judge(self, last: int, fencing: int) -> None:
        if last < self._next - 1:  # the clock went back: from here on again
            self._next = last
        self._next = max(self._next, last - HISTORY)
        while self._next <= last and self._detector is not None:
            minute = self._next
            if not await self._store.read(self._is_told, minute):
                if minute == last:
                    return  # the next turn waits no longer
                self._next += 1
                continue
            routes = await self._store.read(self._read, minute)
            events = await self._in_thread(self._detector.observe, minute, routes)
            if self._detector.unwatched:
                log.debug("routes are not watched for anomalies: %d", self._detector.unwatched)
            told = await self._store.write(self._write, events, fencing) if events else []
            self._next = minute + 1
            for name, anomaly in told:
                self._tell(name, anomaly)

    @staticmethod
    def _learned(connection: Connection, last: int) -> int:
        """How many minutes to learn: of a large fleet enough to begin with, for reading takes its time."""
        oldest = rollups.oldest(connection)
        if oldest is None:
            return 0
        rows = rollups.rows_of(connection, last - 1)
        enough = max(LEAST + REFRESH, min(HISTORY, MOST_LEARNED // max(rows, 1)))
        return max(0, min(enough, last - oldest))

    @staticmethod
    def _read(connection: Connection, minute: int) -> dict[str, RouteMinute]:
        return routes_of(rollups.of_minute(connection, minute))

    @staticmethod
    def _is_told(connection: Connection, minute: int) -> bool:
        """Whether all nodes have told of a minute: without one of them, traffic would seem to drop."""
        told = rollups.nodes_of(connection, minute)
        before = (rollups.nodes_of(connection, minute - back) for back in range(1, REPORTING + 1))
        return bool(told) and told.issuperset(set().union(*before))

    def _write(
        self, connection: Connection, events: list[Begun | Ended], fencing: int
    ) -> list[tuple[str, Anomaly]]:
        """All events of a minute, in one transaction."""
        leases.check(connection, LEASE, fencing)
        told: list[tuple[str, Anomaly]] = []
        for event in events:
            key = event.key
            if isinstance(event, Ended):
                ended = anomalies.end(connection, *key, of_seconds(event.until * MINUTE), event.reason)
                if ended is not None:
                    told.append(("anomaly.ended", ended))
                continue
            anomaly = _anomaly(connection, event)
            if anomaly is not None and anomalies.begin(connection, anomaly):
                told.append(("anomaly.started", anomaly))
        anomalies.prune(connection)
        return told

    def _tell(self, name: str, anomaly: Anomaly) -> None:
        level = logging.WARNING if name == "anomaly.started" else logging.INFO
        told = {name: anomaly[name] for name in _LOGGED} | {"reason": anomaly["message"]}
        log.log(level, name.replace(".", " "), extra=told)
        self._announce(name, **anomaly)

    async def _in_thread(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


_LOGGED = (
    *("anomalyId", "routeId", "routeName", "kind", "arm"),
    *("deploymentId", "version", "endReason"),
)


def _lasts(anomaly: Anomaly, minute: int) -> bool:
    """Whether a minute is one of an anomaly, or of those that it took to see its end."""
    at = of_seconds(minute * MINUTE)
    until = anomaly["endedAt"]
    return bool(anomaly["startedAt"] <= at and (until is None or at < until)) and (
        anomaly["endReason"] != "newNormal"
    )


def _anomaly(connection: Connection, event: Begun) -> Anomaly | None:
    """The record of what begins; None: the route is gone or disabled, no wonder that its traffic is."""
    kind, route_id, arm = event.key
    found = anomalies.route(connection, route_id)
    if found is None or not found[1]:
        return None
    start = event.since * MINUTE
    until = of_seconds(start + 2 * MINUTE)
    change = anomalies.latest_change(connection, route_id, of_seconds(start - CHANGE_WITHIN), until)
    return {
        "anomalyId": f"anm-{secrets.token_hex(8)}",
        "routeId": route_id,
        "routeName": found[0],
        "kind": kind,
        "arm": arm,
        "startedAt": of_seconds(start),
        "endedAt": None,
        "endReason": None,
        **_numbers(event.found),
        "message": NOTES[kind].format(value=event.found.value, expected=event.found.expected),
        "deploymentId": change.deployment_id if change else None,
        "changedAt": change.at if change else None,
        "version": change.version if change else None,
    }


def _numbers(found: Judgement) -> dict[str, float]:
    return {
        "value": round(found.value, 6),
        "expected": round(found.expected, 6),
        "score": round(found.score, 1),
    }
