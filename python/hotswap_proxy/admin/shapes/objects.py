"""Routes, their versions, backends, and the configuration as a whole."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from hotswap_proxy.configfile import FileFormat
from hotswap_proxy.model import Backend, Route
from hotswap_proxy.model.base import Version

from .common import Answered, Changes, Count, FieldChange, Milliseconds, Paged, Share, Time
from .history import Counted, Window


class Written(Answered):
    """What the store knows of an object."""

    created_at: Time
    created_by: str
    updated_at: Time
    updated_by: str


class RouteStatistics(Answered):
    total_requests: Count
    failed_requests: Count
    average_latency_ms: Milliseconds | None
    p50_latency_ms: Annotated[Milliseconds | None, Field(alias="p50LatencyMs")] = None
    p95_latency_ms: Annotated[Milliseconds | None, Field(alias="p95LatencyMs")] = None
    p99_latency_ms: Annotated[Milliseconds | None, Field(alias="p99LatencyMs")]
    error_rate: Share | None = None
    requests_per_second: float = Field(0.0, description="this and what has a default: with ?timeWindow")
    arms: dict[str, Counted] = Field({})
    window: Window | None = None


def _as_answered(schema: dict[str, Any]) -> None:
    """An answer has no other name for a field."""
    schema.get("properties", {}).pop("path", None)
    schema.pop("oneOf", None)
    schema["required"] = sorted({*schema.get("required", ()), "pathPattern"})


class RouteDocument(Route):
    """A route as it is stored: what was left out and has no default is not there; secrets are masked."""

    model_config = ConfigDict(json_schema_extra=_as_answered)


class RouteListed(RouteDocument, Written):
    route_id: str


class RoutePage(Paged):
    routes: list[RouteListed]


class RouteShown(RouteListed):
    ETAG: ClassVar[bool] = True

    statistics: RouteStatistics


class RouteWritten(RouteListed):
    ETAG: ClassVar[bool] = True

    config_change_applied: Literal[True] = Field(description="every worker of this node serves it")
    generation: Count


class RouteProposed(RouteDocument):
    """The route as it will be, once the deployment is approved."""

    config_change_applied: Literal[False]
    deployment_id: str


class VersionListed(Answered):
    version: Version
    state: Literal["Live", "Deploying", "Staged", "Previous"]
    description: str | None
    live_at: Time | None = Field(description="when it was live for the first time")
    created_at: Time
    created_by: str


class VersionPage(Paged):
    versions: list[VersionListed]


class VersionShown(VersionListed):
    route_id: str
    route: RouteDocument


class VersionDiff(Answered):
    route_id: str
    from_: Annotated[Version, Field(alias="from")]
    to: Version
    identical: bool
    changes: list[FieldChange]


class CircuitState(Answered):
    state: Literal["Closed", "Open", "HalfOpen"]
    mode: Literal["Auto", "Open", "Closed"] = Field(description="who decides: the policies, or an order")


HealthStatus = Literal["Unknown", "Healthy", "Unhealthy", "Draining"]


class BackendStatistics(Answered):
    active_connections: Count
    total_requests: Count
    failed_requests: Count


class Live(Answered):
    health_status: HealthStatus
    circuit_breaker: CircuitState
    ejected_until: Time | None


class BackendListed(Backend, Written, Live):
    backend_id: str
    statistics: BackendStatistics


class BackendPage(Paged):
    backends: list[BackendListed]


class BackendShown(BackendListed):
    ETAG: ClassVar[bool] = True


class BackendWritten(Backend, Written):
    ETAG: ClassVar[bool] = True

    backend_id: str
    config_change_applied: Literal[True]
    generation: Count


class BackendTold(Answered):
    backend_id: str
    name: str
    url: str


class Probe(Answered):
    at: Time
    result: Literal["Success", "Failure"]
    reason: str | None
    latency_ms: Milliseconds


class CheckReport(Answered):
    health_status: HealthStatus
    since: Time
    consecutive_successes: Count
    consecutive_failures: Count
    total_probes: Count
    failed_probes: Count
    last_probe: Probe | None


class BackendHealth(BackendTold, Live, BackendStatistics):
    is_enabled: bool
    health_check: CheckReport | None


class CheckRun(BackendTold):
    is_enabled: bool
    health_status: HealthStatus
    health_check: CheckReport | None


class CircuitOrdered(BackendTold):
    circuit_breaker: CircuitState


class Applied(Changes):
    dry_run: bool
    config_change_applied: bool
    generation: Count


class Validated(Changes):
    valid: Literal[True]


class Exported(FileFormat):
    """The configuration as a file; secrets are masked."""
