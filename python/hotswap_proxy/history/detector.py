"""When an anomaly begins and ends. No clock and no store: minutes come in, events go out.

What is usual is known of a route as a whole; each arm is judged by it on its own (but for traffic, which a
deployment moves between them). So a new version is measured against its route from its first minute on.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .baseline import KINDS, UNKNOWN, Judgement, Kind, Minute, Ordinary, RouteHistory, judge

BEGIN_AFTER = 2  # anomalous minutes in a row
END_AFTER = 3  # ordinary ones
SILENT_AFTER = 15  # minutes of which nothing can be said
LONGEST = 120  # minutes: then it is how things are now. Of HISTORY, some is from before then
ENTRY = 30  # requests in a minute, for a route to be watched
MAX_ROUTES = 3_000  # that are watched; some 2.5 kB each
REFRESH = 10  # minutes that what is usual is relied on

BY_ARM: tuple[Kind, ...] = ("errorRate", "latency")
NOTHING = Minute(0, 0, None)


class Key(NamedTuple):
    """``arm`` None: both arms together."""

    kind: Kind
    route_id: str
    arm: str | None


class RouteMinute(NamedTuple):
    """What all nodes have counted of a route in a minute."""

    whole: Minute
    arms: Mapping[str, Minute]


class Begun(NamedTuple):
    """``since``: its first minute."""

    key: Key
    since: int
    found: Judgement


class Ended(NamedTuple):
    """``until``: the first minute after it. ``reason``: recovered, noData, newNormal."""

    key: Key
    until: int
    reason: str


@dataclass(slots=True)
class _State:
    since: int
    is_active: bool = False
    anomalous: int = 0
    normal: int = 0
    silent: int = 0


class Detector:
    def __init__(self) -> None:
        self._histories: dict[str, RouteHistory] = {}
        self._usual: dict[tuple[str, Kind], Ordinary] = {}
        self._states: dict[Key, _State] = {}
        self.unwatched = 0  # routes of the last minute, for which there was no room

    @property
    def active(self) -> list[Key]:
        return [key for key, state in self._states.items() if state.is_active]

    def adopt(self, key: Key, since: int) -> None:
        """An anomaly that another process has found and that has not ended."""
        self._states[key] = _State(since, is_active=True)

    def learn(self, routes: Mapping[str, RouteMinute], excluded: Mapping[str, Iterable[Kind]]) -> None:
        """Take a minute into the history without judging it. ``excluded``: of what it is no measure."""
        for route_id, minute in self._all(routes):
            self._histories[route_id].add(minute.whole, excluded.get(route_id, ()))

    def observe(self, minute: int, routes: Mapping[str, RouteMinute]) -> list[Begun | Ended]:
        """Judge a minute; it becomes part of the history. Minutes come in their order; one that is left out
        counts as not judged.
        """
        events: list[Begun | Ended] = []
        for route_id, found in self._all(routes):
            excluded: set[Kind] = set()
            for key, counted in self._keys(route_id, found):
                state = self._states.get(key)
                usual = self._usual_of(minute, key, state)
                judged = UNKNOWN if counted is None else judge(key.kind, counted, usual)
                if event := self._note(key, minute, judged):
                    events.append(event)
                if key in self._states:  # in doubt, or still going on
                    excluded.add(key.kind)
            self._histories[route_id].add(found.whole, excluded)
        for event in events:
            if isinstance(event, Ended) and event.reason == "newNormal":
                self._histories[event.key.route_id].include(event.key.kind)
                self._usual.pop((event.key.route_id, event.key.kind), None)
        return events

    def forget(self, route_id: str) -> None:
        """A route that is there no more, with its anomalies."""
        self._histories.pop(route_id, None)
        for kind in KINDS:
            self._usual.pop((route_id, kind), None)
        for key in [key for key in self._states if key.route_id == route_id]:
            del self._states[key]

    def _all(self, routes: Mapping[str, RouteMinute]) -> list[tuple[str, RouteMinute]]:
        """Those that are watched: with the new ones, without those that nobody uses any more."""
        self.unwatched = 0
        busy = {key.route_id for key in self._states}
        for route_id in [id for id, history in self._histories.items() if id not in routes]:
            history = self._histories[route_id]
            if len(history) and history.is_silent and route_id not in busy:
                self.forget(route_id)
        for route_id, minute in routes.items():
            if route_id not in self._histories:
                if minute.whole.requests < ENTRY and route_id not in busy:
                    continue
                if len(self._histories) >= MAX_ROUTES:
                    self.unwatched += 1
                    continue
                self._histories[route_id] = RouteHistory()
        for route_id in busy:
            self._histories.setdefault(route_id, RouteHistory())
        nothing = RouteMinute(NOTHING, {})
        return [(route_id, routes.get(route_id, nothing)) for route_id in self._histories]

    def _keys(self, route_id: str, found: RouteMinute) -> Iterator[tuple[Key, Minute | None]]:
        for kind in KINDS:
            if kind not in BY_ARM:
                yield Key(kind, route_id, None), found.whole
        going_on = [key for key in self._states if key.route_id == route_id] if self._states else []
        for kind in BY_ARM:
            of_kind: dict[str | None, Minute | None] = {}
            of_kind.update(found.arms.items())
            for key in going_on:
                if key.kind == kind:
                    of_kind.setdefault(key.arm, None)
            for arm, counted in of_kind.items():
                yield Key(kind, route_id, arm), counted

    def _usual_of(self, minute: int, key: Key, state: _State | None) -> Ordinary:
        """Worked out anew now and then, not all routes' in one minute; and not while it is out of the
        ordinary: what was usual before is what it is compared with.
        """
        cached = self._usual.get((key.route_id, key.kind))
        due = (minute + zlib.crc32(key.route_id.encode())) % REFRESH == 0
        if cached is None or (due and state is None):
            cached = self._histories[key.route_id].usual(key.kind)
            self._usual[key.route_id, key.kind] = cached
        return cached

    def _note(self, key: Key, minute: int, judged: Judgement) -> Begun | Ended | None:
        state = self._states.get(key)
        if state is None:
            if not judged.anomalous:
                return None
            state = self._states[key] = _State(minute)
        if not state.is_active:
            return self._suspect(key, state, minute, judged)
        if judged.anomalous is None:
            state.silent += 1
        else:
            state.silent = 0
            state.normal = 0 if judged.anomalous else state.normal + 1
        if state.normal >= END_AFTER:
            return self._end(key, minute - END_AFTER + 1, "recovered")
        if state.silent >= SILENT_AFTER:
            return self._end(key, minute - SILENT_AFTER + 1, "noData")
        if minute - state.since >= LONGEST:
            return self._end(key, minute, "newNormal")
        return None

    def _suspect(self, key: Key, state: _State, minute: int, judged: Judgement) -> Begun | None:
        if not judged.anomalous:
            del self._states[key]
            return None
        if minute != state.since + state.anomalous:  # one in between was not judged
            state.since, state.anomalous = minute, 0
        state.anomalous += 1
        if state.anomalous < BEGIN_AFTER:
            return None
        state.is_active = True
        return Begun(key, state.since, judged)

    def _end(self, key: Key, until: int, reason: str) -> Ended:
        del self._states[key]
        return Ended(key, until, reason)
