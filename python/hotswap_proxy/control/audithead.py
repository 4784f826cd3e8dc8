"""Tells the head of the audit log now and then, to the log and to the webhooks: noted in a place that an
attacker of the store does not reach, it shows later whether the log was rewritten as a whole.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from hotswap_proxy.store import Store
from hotswap_proxy.store.audit_chain import Head, read_head

log = logging.getLogger("hotswap_proxy.control")

LOOK_INTERVAL = 60.0  # seconds
TELL_INTERVAL = 3600.0


class AuditHeadTeller:
    """Call ``look`` each ``LOOK_INTERVAL``. It tells a head that is new: the first at once, later
    ones at most each ``TELL_INTERVAL``.
    """

    def __init__(
        self, store: Store, event: Callable[..., None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._event = event
        self._clock = clock
        self._told: Head | None = None
        self._not_before = clock()

    async def look(self) -> None:
        if self._clock() < self._not_before:
            return
        head = await self._store.read(read_head)
        if head is None:
            log.error("the audit log has lost its head")
        elif head != self._told:
            told = head.answer()
            log.info("audit head", extra={"audit_id": head.audit_id, "hash": head.hash, "count": head.count})
            self._event("audit.head", **told)
            self._told = head
            self._not_before = self._clock() + TELL_INTERVAL
