"""Bounds how often something may be tried."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from hotswap_proxy.errors import RateLimited


def client_key(address: str | None) -> str:
    """Whom an address stands for: of IPv6 a /64, for that is what one customer gets."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return str(address)
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


class AttemptLimit:
    """At most ``attempts`` in ``window`` seconds for each key. Keeps the latest ``capacity`` keys."""

    def __init__(
        self,
        attempts: int,
        window: float = 60.0,
        capacity: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        what: str = "too many attempts",
    ) -> None:
        self._attempts = attempts
        self._what = what
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
            raise RateLimited(f"{self._what}; try again in {wait} seconds", max(1, wait))
        recent.append(now)
        while len(self._made) > self._capacity:
            self._made.popitem(last=False)

    def allows(self, key: str) -> bool:
        """``count``, with an answer instead of an error."""
        try:
            self.count(key)
        except RateLimited:
            return False
        return True

    def forget(self, key: str) -> None:
        """The attempt succeeded: begin anew."""
        self._made.pop(key, None)


class BackOff:
    """After ``free`` failures in a row of one key, each further attempt waits twice as long as the last.

    A key that is left alone for ``MEMORY`` seconds begins anew. Keeps the latest ``capacity`` keys.
    """

    LONGEST = 60.0
    MEMORY = 3600.0

    def __init__(
        self, free: int, capacity: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._free = free
        self._capacity = capacity
        self._clock = clock
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()  # failures, the last of them

    def count(self, key: str) -> None:
        """Count an attempt as a failure until ``forget`` says otherwise. RateLimited: it is too early."""
        now = self._clock()
        failures, last = self._failed.get(key, (0, now))
        if now - last > self.MEMORY:
            failures = 0
        if failures >= self._free:
            wait = last + min(2.0 ** (failures - self._free), self.LONGEST) - now
            if wait > 0:
                seconds = math.ceil(wait)
                raise RateLimited(f"too many failed attempts; try again in {seconds} seconds", seconds)
        self._failed[key] = (min(failures + 1, self._free + 10), now)
        self._failed.move_to_end(key)
        while len(self._failed) > self._capacity:
            self._failed.popitem(last=False)

    def forget(self, key: str) -> None:
        """The attempt succeeded: begin anew."""
        self._failed.pop(key, None)


class LoginLimits:
    """What is held against guessing: by address, by account and address, and by account from everywhere.

    The last would let anybody lock an account out. So it does not hold for addresses from which the account
    was logged in before.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._by_client = AttemptLimit(60, clock=clock)
        self._by_pair = AttemptLimit(10, clock=clock)
        self._by_account = BackOff(20, clock=clock)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._told = AttemptLimit(30, clock=clock)
        self._told_of_limit = AttemptLimit(1, clock=clock)

    def count(self, username: str, address: str | None) -> None:
        """Before an attempt; RateLimited when there were too many."""
        client = client_key(address)
        self._by_client.count(client)
        self._by_pair.count(f"{username} {client}")
        if (username, client) not in self._known:
            self._by_account.count(username)

    def succeeded(self, username: str, address: str | None) -> None:
        client = client_key(address)
        self._by_pair.forget(f"{username} {client}")
        self._by_account.forget(username)
        self._known[username, client] = None
        self._known.move_to_end((username, client))
        if len(self._known) > 1000:
            self._known.popitem(last=False)

    def worth_telling(self, username: str, *, limited: bool) -> bool:
        """Whether a failure gets an audit row: 30 a minute, and over a limit one a minute and account."""
        return (not limited or self._told_of_limit.allows(username)) and self._told.allows("")
