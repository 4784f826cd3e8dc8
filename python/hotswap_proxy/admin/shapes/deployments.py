"""Deployments, what they have counted, and what one would be like."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from hotswap_proxy.admin.deployments import INTERNAL
from hotswap_proxy.deploy import record
from hotswap_proxy.deploy.record import Status, VerdictKind
from hotswap_proxy.model import simulation

from .common import Answered, Count, Milliseconds, Paged, Share, Time
from .history import ArmsWindow


def _without(schema: dict[str, Any], names: set[str]) -> None:
    for name in names:
        schema["properties"].pop(name, None)
    schema["required"] = [name for name in schema["required"] if name not in names]


def _as_shown(schema: dict[str, Any]) -> None:
    aliases = {record.Deployment.model_fields[name].alias or name for name in INTERNAL}
    _without(schema, aliases | {"metrics"})


def _as_listed(schema: dict[str, Any]) -> None:
    _as_shown(schema)
    _without(schema, {"events"})


def _as_got(schema: dict[str, Any]) -> None:
    shown = dict(schema["properties"])
    _as_shown(schema)
    schema["properties"]["metrics"] = shown["metrics"]


class _Shown(record.Deployment):
    trace_id: str | None = Field(
        None, description="of its trace, which has its phases as they end; null while tracing is off"
    )


class Ordered(_Shown):
    """A deployment. What is not set is null."""

    model_config = ConfigDict(json_schema_extra=_as_shown)


class Rehearsed(Ordered):
    """The deployment as it would be; nothing was changed."""

    dry_run: Literal[True]


class DeploymentListed(_Shown):
    """A deployment without its events."""

    model_config = ConfigDict(json_schema_extra=_as_listed)


class DeploymentPage(Paged):
    deployments: list[DeploymentListed]


class Excluded(Answered):
    """What is counted, but says nothing about a version."""

    limited: Count = 0
    aborted: Count = 0
    refused: Count = 0


class ArmCounts(Answered):
    request_count: Count = Field(description="first attempts that came to an end: what is judged")
    failed: Count
    error_rate: Share | None
    unavailable: Count = Field(description="answered 503 because none of the arm's backends took requests")
    excluded: Excluded
    p50_latency: Milliseconds | None = Field(alias="p50Latency")
    p95_latency: Milliseconds | None = Field(alias="p95Latency")
    p99_latency: Milliseconds | None = Field(alias="p99Latency")


class NodeArm(ArmCounts):
    active: int


class BothArms(Answered):
    stable: ArmCounts
    canary: ArmCounts


class NodeArms(Answered):
    node_id: str
    measured_at: Time
    stable: NodeArm
    canary: NodeArm


class Comparison(Answered):
    error_rate_delta: float | None
    p99_latency_delta: float | None = Field(alias="p99LatencyDelta")
    verdict: VerdictKind | None
    reason: str
    should_rollback: bool
    requests_needed: int | None


class DeploymentMetrics(BothArms):
    """Of the present phase, which is what is judged; ``total``: since the beginning."""

    deployment_id: str
    status: Status
    traffic_percentage: float
    measured_percentage: float | None
    total: BothArms
    comparison: Comparison
    nodes: list[NodeArms]
    window: ArmsWindow | None = Field(None, description="with ?timeWindow")


class Deployment(_Shown):
    """A deployment. What is not set is null."""

    model_config = ConfigDict(json_schema_extra=_as_got)

    metrics: DeploymentMetrics | None = Field(None, description="with ?include=metrics")


class SimulationAnswer(simulation.SimulationAnswer):
    """A forecast. Chances are 0–1."""


__all__ = ["Deployment", "DeploymentMetrics", "DeploymentPage", "Ordered", "Rehearsed", "SimulationAnswer"]
