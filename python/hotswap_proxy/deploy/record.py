"""The record of a deployment: all that is known of it, as it is stored, answered and worked on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from hotswap_proxy.model.base import Duration, Environment, Identifier, Model, Name, Version

Status = Literal["Pending", "Approved", "InProgress", "Paused", "Completed", "Failed", "RolledBack"]
ApprovalStatus = Literal["Pending", "Approved", "Rejected", "NotRequired"]
PhaseStatus = Literal["Pending", "InProgress", "Completed", "Failed", "Skipped"]
Strategy = Literal["Canary", "BlueGreen", "Rolling", "Direct", "ABTest"]
VerdictKind = Literal["Pass", "Fail", "Hold"]
TargetKind = Literal["route", "config"]

ACTIVE: frozenset[Status] = frozenset({"Pending", "Approved", "InProgress", "Paused"})
UNDER_WAY: frozenset[Status] = frozenset({"InProgress", "Paused"})

# Percent with two decimals; what a route's arms are split by.
Percentage = Annotated[float, Field(ge=0, le=100)]


class Part(Model):
    """A part of the record; unlike a caller's document it is also made by attribute names."""

    # In answers nothing is left out, whatever has a default.
    model_config = ConfigDict(validate_by_name=True, json_schema_serialization_defaults_required=True)


class Person(Part):
    """Who did something: a user, by id where there is one."""

    username: str
    user_id: str | None = None


class Phase(Part):
    """One step of exposure."""

    name: Name
    traffic_percentage: Percentage
    duration: Duration | None = Field(None, description="none: held until somebody promotes or ends it")
    status: PhaseStatus = "Pending"
    started_at: str | None = None
    completed_at: str | None = None


class Thresholds(Part):
    """When the canary arm is condemned, and how sure one has to be of it."""

    error_rate_increase: float = Field(5.0, ge=0, le=100, description="percentage points over stable")
    latency_increase: float = Field(50.0, ge=0, le=10_000, description="percent of p99 over stable")
    minimum_requests: int = Field(30, ge=1, le=1_000_000, description="of each arm before any verdict")
    confidence: float = Field(0.99, ge=0.5, le=0.9999, description="over the whole deployment")
    window: Duration = Field("1m", description="how far back a change for the worse is looked for by itself")


class SmokeTest(Part):
    """One request to each backend of the candidate version, before it gets traffic."""

    method: Literal["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] = "GET"
    path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=1024)] = "/"
    headers: dict[str, str] | None = None
    expected_status_code: int = Field(200, ge=100, le=599)
    expected_response_body: str | None = Field(None, max_length=1024, description="a part of it")
    timeout: Duration = "5s"


class ArmFigures(Part):
    """What the judge saw of one arm. Rates are 0–1, latencies milliseconds; the true error rate is between
    low and high with the thresholds' confidence, at whatever moment one looks.
    """

    requests: int
    failed: int
    unavailable: int
    error_rate: float | None = None
    error_rate_low: float
    error_rate_high: float
    p99_latency: float | None = None


class Verdict(Part):
    """What the judge says of the measurements, and why. Rates are 0–1, latencies milliseconds."""

    kind: VerdictKind
    reason: str
    requests_needed: int | None = Field(None, description="of the canary arm, about; for Hold")
    error_rate_delta: float | None = None
    p99_latency_delta: float | None = Field(None, description="milliseconds")
    canary: ArmFigures | None = None
    stable: ArmFigures | None = Field(None, description="or what canary was compared with in its place")


class Event(Part):
    """One transition, for people: what happened, when, by whom."""

    at: str
    event: str
    status: Status
    message: str
    by: Person | None = None


class Deployment(Part):
    """One deployment. ``traffic_percentage`` is the canary arm's share now; for Rolling it is that of the
    nodes in ``nodes_done``. ``baseline`` and ``window_baseline`` are measurements (``Measurement.document``)
    at the beginning of the present phase and window. ``before`` is the stable arm while it had traffic last:
    what the canary arm is compared with when it has all of it. ``measured`` is the whole of it, written at
    the end. ``revision`` is what a node has to have reached to serve what the record says.
    """

    deployment_id: Identifier
    target_kind: TargetKind = "route"
    route_id: str
    route_name: str
    stable_version: Version | None
    config_version: Version
    strategy: Strategy
    environment: Environment | None = None
    description: str | None = None
    status: Status
    approval_status: ApprovalStatus
    message: str = Field("", description="what is going on, one sentence")
    assignment: str = "Random"
    salt: str = Field(description="16 hexadecimal digits; decides who is in the canary arm")
    phases: list[Phase]
    current_phase: int = Field(0, description="index")
    traffic_percentage: Percentage = 0.0
    auto_promote: bool = True
    thresholds: Thresholds = Field(default_factory=Thresholds)
    smoke_tests: list[SmokeTest] | None = None
    keep_stable: Duration | None = Field(None, description="BlueGreen: how long the way back stays warm")
    drain_timeout: Duration = "30s"
    nodes: list[str] | None = Field(None, description="Rolling: in their order")
    nodes_done: list[str] | None = None
    verdict: Verdict | None = Field(None, description="as it was noted last")
    verdict_at: str | None = None
    waiting: Literal["verdict", "promotion"] | None = Field(
        None, description="what the phase waits for, its time being over"
    )
    baseline: dict[str, Any] | None = None
    window_baseline: dict[str, Any] | None = None
    window_started_at: str | None = None
    windows: int = 0
    before: dict[str, Any] | None = None
    measured: dict[str, Any] | None = None
    revision: int = 0
    paused_at: str | None = None
    paused_seconds: float = Field(0.0, description="of the present phase, before paused_at")
    created_by: Person
    created_at: str
    approved_by: Person | None = None
    started_at: str | None = None
    completed_at: str | None = None
    events: list[Event] = Field(default_factory=list)

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def is_under_way(self) -> bool:
        """Begun and not ended."""
        return self.status in UNDER_WAY

    @property
    def phase(self) -> Phase:
        return self.phases[self.current_phase]

    @property
    def is_last_phase(self) -> bool:
        return self.current_phase == len(self.phases) - 1
