"""Bounds how often passwords may be tried."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from hotswap_proxy.errors import RateLimited


class AttemptLimit:
    """At most ``attempts`` in ``window`` seconds for each key. Keeps the latest ``capacity`` keys."""

    def __init__(
        self,
        attempts: int,
        window: float = 60.0,
        capacity: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempts = attempts
        self._window = window
        self._capacity = capacity
        self._clock = clock
        self._made: OrderedDict[str, list[float]] = OrderedDict()

    def count(self, key: str) -> None:
        """Count an attempt before it is made, so that many at once do not slip through. RateLimited: too
        many.
        """
        now = self._clock()
        recent = [moment for moment in self._made.pop(key, []) if moment > now - self._window]
        self._made[key] = recent
        if len(recent) >= self._attempts:
            wait = math.ceil(recent[0] + self._window - now)
            raise RateLimited(f"too many attempts; try again in {wait} seconds", max(1, wait))
        recent.append(now)
        while len(self._made) > self._capacity:
            self._made.popitem(last=False)

    def forget(self, key: str) -> None:
        """The attempt succeeded: begin anew."""
        self._made.pop(key, None)
