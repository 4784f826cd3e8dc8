"""Being the one process that drives: take the lease, renew it, and stop in time when that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from hotswap_proxy.store import Store, leases

log = logging.getLogger(__name__)

TTL = 6.0  # seconds; with the next try of another process, a take-over takes less than ten
RENEWAL = 2.0
MARGIN = 0.5  # the two clocks may run differently; who holds it stops earlier than another may begin


class Leadership:
    """``owner`` names this run of this process; ``what`` it does with the lease is for the log. The lease's
    times are the database's; whether it can still be relied on is decided by this process's own monotonic
    clock, from before each question.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        owner: str,
        *,
        ttl: float = TTL,
        what: str = "drives the deployments",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._name = name
        self._owner = owner
        self._ttl = ttl
        self._what = what
        self._clock = clock
        self._fencing: int | None = None
        self._until = 0.0

    @property
    def fencing(self) -> int | None:
        """The number to write with; None: this process must not drive (any more)."""
        return self._fencing if self._clock() < self._until else None

    async def keep(self) -> int | None:
        """Take or renew the lease. Errors of the store are raised; what was held runs out by itself."""
        asked = self._clock()
        lease = await self._store.beat(leases.take, self._name, self._owner, self._ttl)
        before = self._fencing
        self._fencing = lease.fencing if lease is not None else None
        self._until = asked + self._ttl - MARGIN
        if lease is not None and before != lease.fencing:
            log.info(f"this process {self._what}", extra={"fencing": lease.fencing})
        elif lease is None and before is not None:
            log.warning(f"another process {self._what} now")
        return self.fencing

    def lose(self) -> None:
        """Somebody else has it, as a write has found out."""
        self._fencing = None

    async def release(self) -> None:
        """Let another process have it at once."""
        if self._fencing is not None:
            self._fencing = None
            await self._store.beat(leases.release, self._name, self._owner)
