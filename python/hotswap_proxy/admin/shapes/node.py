"""The nodes: health, figures, and who belongs to the fleet."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hotswap_proxy.model import Environment

from .common import Answered, Count, Milliseconds, Share, Time
from .history import Window
from .objects import CircuitState, HealthStatus

Status = Literal["Healthy", "Degraded", "Unhealthy", "Draining"]
Percent = Annotated[float, Field(ge=0)]


class Trouble(Answered):
    reason: Literal["store", "redis", "configuration", "lastKnownGood", "nodeId"]
    since: Time | None


class Health(Answered):
    """CPU and memory are shares of the machine, in percent."""

    status: Status
    ready: bool
    version: str
    node_id: str
    uptime: Annotated[float, Field(ge=0, description="seconds")]
    generation: Count
    revision: Count
    workers: Count
    active_connections: Count
    routes_configured: Count
    backends_healthy: Count
    backends_unhealthy: Count
    backends_total: Count
    requests_per_second: float
    cpu_usage: Percent
    memory_usage: Percent
    memory_bytes: Count
    last_config_update: Time | None
    config_error: bool
    geoip_error: bool
    degraded: list[Trouble]


class Latency(Answered):
    p50: Milliseconds | None
    p95: Milliseconds | None
    p99: Milliseconds | None
    average: Milliseconds | None


class BackendFigures(Answered):
    address: str
    active_connections: Count
    total_requests: Count
    failed_requests: Count
    health_status: HealthStatus
    circuit_breaker: CircuitState
    ejected_until: Time | None


class CircuitCounts(Answered):
    closed: Count
    open: Count
    half_open: Count


class GenerationRow(Answered):
    generation: Count
    accepted: Count
    completed: Count
    aborted: Count
    lost: Count
    inflight: Count
    pinned: Count
    bytes: Count = Field(description="of its snapshot")


class Ledger(Answered):
    """accepted = completed + aborted + lost + inFlight"""

    accepted: Count
    completed: Count
    aborted: Count
    lost: Count
    in_flight: Count
    generations: list[GenerationRow]


class Summary(Answered):
    total_requests: Count
    failed_requests: Count
    error_rate: Share
    requests_per_second: float
    active_connections: Count
    latency: Latency
    backends: list[BackendFigures]
    circuit_breakers: CircuitCounts
    generation: Count
    ledger: Ledger
    window: Window | None = Field(None, description="with ?timeWindow: what totals, rates and latency are of")


class Shared(Answered):
    """Of what nodes share: whether it can be reached."""

    up: bool
    since: Time
    error: str | None = None


class Regions(Answered):
    file: str
    loaded: bool
    database_type: str | None
    built: str | None
    error: str | None


class Certificate(Answered):
    file: str
    names: list[str]
    not_before: Time
    not_after: Time


class Violation(Answered):
    kind: Literal["route", "backend"]
    id: str
    name: str
    url: str
    rule: str
    message: str


class Worker(Answered):
    worker: Count
    pid: int
    status: Literal["Starting", "Healthy", "Draining"]


class Node(Answered):
    """Of the others what they told last; the last fields are told of the node that is asked alone."""

    node_id: str
    environment: Environment
    version: str | None
    status: str
    generation: Count | None
    revision: Count
    behind: bool = False
    last_seen: Time | None = None
    started_at: Time
    last_config_update: Time | None
    drives_deployments: bool
    config_error: str | None = None
    geoip: Regions | None = None
    certificates: list[Certificate] = Field([])
    url_violations: list[Violation] = Field([])
    workers: list[Worker] = Field([])
    degraded: list[Trouble] = Field([])
    store: Shared | None = None
    redis: Shared | None = None


class Nodes(Answered):
    nodes: list[Node]
