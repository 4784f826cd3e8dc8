"""What an answer means: states, thresholds and one table. No clock, no I/O.

New   added and not known yet: takes traffic, its status is Unknown (initialState Up)
Held  added and not trusted yet: the first success lets it in (initialState Hold)
Up    takes traffic
Down  takes none
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class State(enum.IntEnum):
    NEW = 0
    UP = 1
    DOWN = 2
    HELD = 3


class Status(enum.IntEnum):
    """What workers read in shared memory, as far as health checks set it."""

    UNKNOWN = 0
    HEALTHY = 1
    UNHEALTHY = 2


STATUS = {
    State.NEW: Status.UNKNOWN,
    State.UP: Status.HEALTHY,
    State.DOWN: Status.UNHEALTHY,
    State.HELD: Status.UNHEALTHY,
}
INITIAL = {"Up": State.NEW, "Down": State.DOWN, "Hold": State.HELD}


class Thresholds(NamedTuple):
    """How many answers of a kind in a row change the state."""

    unhealthy: int = 3
    healthy: int = 2
    once: int = 1


# (state, the probe succeeded) → (which threshold, next state). What is not here changes nothing.
TABLE: dict[tuple[State, bool], tuple[str, State]] = {
    (State.NEW, True): ("once", State.UP),
    (State.NEW, False): ("unhealthy", State.DOWN),
    (State.HELD, True): ("once", State.UP),
    (State.HELD, False): ("unhealthy", State.DOWN),
    (State.UP, False): ("unhealthy", State.DOWN),
    (State.DOWN, True): ("healthy", State.UP),
}
# Changes worth a log line and an alert. The first success of a New one is what everybody expects, and the
# start of a node with ten thousand backends is no news.
FLIPS = frozenset({(old, new) for (old, _), (_, new) in TABLE.items()} - {(State.NEW, State.UP)})


class Health(NamedTuple):
    """A state and the answers in a row: ``streak`` successes if positive, failures if negative."""

    state: State
    streak: int = 0

    def after(self, success: bool, thresholds: Thresholds) -> Health:
        """The health after one more answer."""
        streak = self.streak
        streak = max(streak, 0) + 1 if success else min(streak, 0) - 1
        if self.state is State.UP and success:  # nearly always, and the table has nothing for it
            return Health(State.UP, streak)
        rule = TABLE.get((self.state, success))
        if rule is not None and abs(streak) >= getattr(thresholds, rule[0]):
            return Health(rule[1], streak)
        return Health(self.state, streak)
