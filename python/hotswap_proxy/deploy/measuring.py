"""What this node has counted of the arms of deployments, into the store: each node, once a second."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from sqlalchemy import Connection

from hotswap_proxy.errors import GatewayError, StoreUnavailable
from hotswap_proxy.observe import histogram
from hotswap_proxy.store import Store, deployments

from .measurement import EXCLUDED, ArmCounts, Measurement

log = logging.getLogger(__name__)

INTERVAL = 1.0
LAST_BEAT = 0.5  # seconds, at the end of the process
AGAIN_AFTER = 3.0  # what has not changed is written again then: it says that nothing is in flight still


class Counting(Protocol):
    """What is needed of ``_core.Node``."""

    def arm_stats(self) -> list[Any]:
        """See ``_core.ArmStats``."""
        ...


def documents(stats: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """``Node.arm_stats`` → what is stored, by deployment: ``Measurement.document`` with ``active``."""
    counts: dict[str, dict[str, ArmCounts]] = {}
    active: dict[str, dict[str, int]] = {}
    for row in stats:
        arms = counts.setdefault(row["deploymentId"], {"stable": ArmCounts(), "canary": ArmCounts()})
        arms[row["arm"]] += arm_counts(row)
        flying = active.setdefault(row["deploymentId"], {"stable": 0, "canary": 0})
        flying[row["arm"]] += row["active"]
    return {
        deployment_id: Measurement(arms["stable"], arms["canary"]).document()
        | {"active": active[deployment_id]}
        for deployment_id, arms in counts.items()
    }


def arm_counts(row: Mapping[str, Any]) -> ArmCounts:
    numbers = histogram.counts(row["latency"])
    latency = {int(bound): count for bound, count in zip(histogram.UPPER, numbers, strict=True) if count}
    excluded = {reason: row[reason] for reason in EXCLUDED if row[reason]}
    return ArmCounts(row["requests"], row["failed"], row["unavailable"], excluded, latency)


class Measuring:
    def __init__(self, store: Store, counting: Counting, node_id: str, boot_id: str) -> None:
        self._store = store
        self._counting = counting
        self._node_id = node_id
        self._boot_id = boot_id
        self._written: dict[str, tuple[float, dict[str, Any]]] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        failing = False
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self.beat()
                failing = False
            except Exception as error:  # what is not stored now is in the next sum
                if not failing:
                    is_known = isinstance(error, StoreUnavailable)
                    reason = {"reason": str(error)}
                    log.error(
                        "measurements of deployments cannot be stored now",
                        extra=reason,
                        exc_info=None if is_known else error,
                    )
                failing = True

    async def finish(self, running: asyncio.Task[None]) -> None:
        """End ``run``; what was counted since its last turn is stored too, if that is quickly done."""
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        with contextlib.suppress(GatewayError, TimeoutError):
            async with asyncio.timeout(LAST_BEAT):
                await self.beat()

    async def beat(self) -> None:
        """Write what is new, all of it in one transaction; nothing without arms."""
        now = asyncio.get_running_loop().time()
        found = documents(self._counting.arm_stats())
        new = {
            deployment_id: document
            for deployment_id, document in found.items()
            if (last := self._written.get(deployment_id)) is None
            or last[1] != document
            or now - last[0] >= AGAIN_AFTER
        }
        if new:
            await self._store.beat(self._write, new)
        self._written = {
            id: (now, document) if id in new else self._written[id] for id, document in found.items()
        }

    def _write(self, connection: Connection, new: Mapping[str, dict[str, Any]]) -> None:
        for deployment_id, document in new.items():
            deployments.measure(connection, deployment_id, self._node_id, self._boot_id, document)
