"""The deployments of the store as metrics, on every node: read every two seconds, beside the scrapes, so that
none of these waits for a store.

Each node shows the same; queries take ``max by (deployment, …)``. A deployment is shown until
:data:`SHOWN_AFTER` its end, so that what became of it can be seen and alerted on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection

from hotswap_proxy.deploy.record import UNDER_WAY, ArmFigures, Deployment
from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.observe.exposition import Labels, Sample, family
from hotswap_proxy.store import deployments
from hotswap_proxy.store.times import rfc3339

if TYPE_CHECKING:
    from hotswap_proxy.store import Store

log = logging.getLogger(__name__)

INTERVAL = 2.0
SHOWN_AFTER = timedelta(minutes=15)
SHOWN = 200  # at most; those that have not ended first


class Seen(NamedTuple):
    """``keys``: (deployment, writing of it); ``pieces`` is None when nothing has changed since."""

    keys: tuple[tuple[str, int], ...]
    pieces: list[str] | None


class Rollouts:
    """``pieces``: the text as it was known last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: tuple[tuple[str, int], ...] | None = None
        self.pieces = list(lines([]))

    async def run(self) -> None:
        """Until it is cancelled."""
        failing = False
        while True:
            try:
                await self.look()
                failing = False
            except Exception as error:  # what was known last stays
                if not failing:
                    is_known = isinstance(error, StoreUnavailable)
                    reason = {"reason": str(error)}
                    log.warning(
                        "deployments cannot be read for metrics now",
                        extra=reason,
                        exc_info=None if is_known else error,
                    )
                failing = True
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Read what is new."""
        seen = await self._store.read(self._read)
        if seen.pieces is not None:
            self._keys, self.pieces = seen.keys, seen.pieces

    def _read(self, connection: Connection) -> Seen:
        """In the store's thread, the text too: of 200 deployments it is 3,000 lines."""
        since = rfc3339(datetime.now(UTC) - SHOWN_AFTER)
        keys = tuple(deployments.recent_keys(connection, since, SHOWN))
        if keys == self._keys:
            return Seen(keys, None)
        found = (deployments.get(connection, deployment_id) for deployment_id, _ in keys)
        return Seen(keys, list(lines([stored.deployment for stored in found if stored is not None])))


def lines(records: list[Deployment]) -> Iterator[str]:
    """Of these deployments, in their order."""
    running = sum(1 for record in records if record.status in UNDER_WAY)
    yield from family(
        "deployments_in_progress", "gauge", "Deployments that have begun and not ended.", [({}, running)]
    )
    routes = [record for record in records if record.target_kind == "route"]
    for name, text, samples_of in _FAMILIES:
        samples = (
            (_key(record) | labels, value) for record in routes for labels, value in samples_of(record)
        )
        yield from family(f"gateway_deployment_{name}", "gauge", text, samples)


def _key(record: Deployment) -> Labels:
    return {"deployment": record.deployment_id, "route": record.route_id}


def _info(record: Deployment) -> Iterator[Sample]:
    yield (
        {
            "name": record.route_name,
            "strategy": record.strategy,
            "stable_version": record.stable_version or "",
            "canary_version": record.config_version,
        },
        1,
    )


def _waiting(record: Deployment) -> Iterator[Sample]:
    if record.status == "Pending":
        yield {"reason": "approval"}, 1
    elif record.is_under_way and record.waiting is not None:
        yield {"reason": record.waiting}, 1


def _verdict(record: Deployment) -> Iterator[Sample]:
    if record.verdict is not None:
        yield {"verdict": record.verdict.kind}, 1


def _required(record: Deployment) -> Iterator[Sample]:
    if record.verdict is not None and record.verdict.kind == "Hold" and record.verdict.requests_needed:
        yield {}, record.verdict.requests_needed
    elif record.verdict is not None and record.verdict.kind != "Hold":
        yield {}, 0


def _arms(value_of: Callable[[ArmFigures], float | None]) -> Callable[[Deployment], Iterator[Sample]]:
    def samples(record: Deployment) -> Iterator[Sample]:
        if record.verdict is None:
            return
        for arm, figures in (("stable", record.verdict.stable), ("canary", record.verdict.canary)):
            value = None if figures is None else value_of(figures)
            if value is not None:
                yield {"arm": arm}, value

    return samples


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds / 1000, 6)


def _error_threshold(record: Deployment) -> Iterator[Sample]:
    stable = record.verdict.stable if record.verdict is not None else None
    if stable is not None and stable.error_rate is not None:
        yield {}, round(stable.error_rate + record.thresholds.error_rate_increase / 100, 6)


def _p99_threshold(record: Deployment) -> Iterator[Sample]:
    stable = record.verdict.stable if record.verdict is not None else None
    if stable is not None and stable.p99_latency is not None:
        yield {}, round(stable.p99_latency * (1 + record.thresholds.latency_increase / 100) / 1000, 6)


def _one(value_of: Callable[[Deployment], float]) -> Callable[[Deployment], Iterator[Sample]]:
    return lambda record: iter([({}, value_of(record))])


_FAMILIES: tuple[tuple[str, str, Callable[[Deployment], Iterator[Sample]]], ...] = (
    ("info", "Always 1; what a deployment is about.", _info),
    ("status", "Always 1; what has become of a deployment.", lambda r: iter([({"status": r.status}, 1)])),
    ("verdict", "Always 1; what the judge said last.", _verdict),
    ("waiting", "1 while a deployment waits for its approval, a verdict or somebody's promotion.", _waiting),
    ("phase", "Number of the present phase, from 1.", _one(lambda r: r.current_phase + 1)),
    ("phases", "How many phases there are.", _one(lambda r: len(r.phases))),
    (
        "traffic_ratio",
        "Share of the requests that the canary arm is to get, 0 to 1.",
        _one(lambda r: round(r.traffic_percentage / 100, 6)),
    ),
    ("required_requests", "About how many more requests of the canary arm a verdict needs.", _required),
    ("judged_requests", "Requests of an arm that the last verdict is about.", _arms(lambda a: a.requests)),
    ("error_ratio", "Failed part of an arm's judged requests, 0 to 1.", _arms(lambda a: a.error_rate)),
    ("error_ratio_threshold", "Error ratio from which the canary arm is too bad.", _error_threshold),
    ("p99_seconds", "p99 of an arm's judged requests.", _arms(lambda a: _seconds(a.p99_latency))),
    ("p99_threshold_seconds", "p99 from which the canary arm is too slow.", _p99_threshold),
    (
        "error_margin_ratio",
        "How much more of the requests may fail than of the stable arm's, 0 to 1.",
        _one(lambda r: round(r.thresholds.error_rate_increase / 100, 6)),
    ),
    (
        "p99_margin_ratio",
        "How much longer p99 may be than the stable arm's, 0.5 is half as long again.",
        _one(lambda r: round(r.thresholds.latency_increase / 100, 6)),
    ),
)
