"""What a scrape tells of besides the statistics in shared memory: put together when it begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Row = Mapping[str, Any]


class Statistics(Protocol):
    """What is read of ``_core.Node``."""

    @property
    def generation(self) -> int: ...
    def ledger(self) -> Sequence[Row]: ...
    def backend_stats(self) -> Sequence[Row]: ...
    def series_stats(self, route_id: str | None = None) -> Sequence[Row]: ...
    def arm_stats(self) -> Sequence[Row]: ...
    def lane_stats(self) -> Sequence[Row]: ...
    def troubled(self) -> Sequence[Row]: ...


class Scrape(Protocol):
    """``_core.Scrape``: what there may be thousands of."""

    def lines(self, name: str, what: str, /) -> Iterable[bytes]: ...


@dataclass(slots=True)
class NodeFigures:
    """What a scrape needs besides the node's statistics."""

    node_id: str = ""
    version: str = ""
    environment: str = ""
    started: float = 0.0  # Unix seconds
    routes: int = 0
    backends: int = 0
    workers: int = 0  # as they were asked for
    workers_ready: int = 0
    replaced_workers: int = 0
    backends_healthy: int = 0
    backends_unhealthy: int = 0
    health_checks: Mapping[str, int] = field(default_factory=dict)  # result → probes
    health_flips: Mapping[str, int] = field(default_factory=dict)  # new status → flips
    refused: Mapping[str, bool] = field(default_factory=dict)  # source → refused the last time
    certificates: Mapping[str, int] = field(default_factory=dict)  # names → end of validity, Unix seconds
    outliers: int = 0  # backends ejected by comparison with their peers
    limit_nodes: int = 0  # nodes that share the rate limits; 0: there is no fleet
    limits_apart: bool = False
    limit_exchanges: Mapping[str, int] = field(default_factory=dict)  # result → messages
    revision: int = 0  # of the store, that is served
    behind: bool = False
    fleet: Mapping[str, int] = field(default_factory=dict)  # status → nodes
    store_up: bool | None = None
    redis_up: bool | None = None  # None: without one
    anomalies: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (route, kind) → that go on
    deployments: Sequence[str] = ()  # pieces of text about those in the store, see ``rollouts``
    journal: Iterable[str] = ()  # pieces of text of its metrics
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)  # role → CPU time
    processes: Mapping[str, int] = field(default_factory=dict)  # name ("control", "worker-0" …) → pid
