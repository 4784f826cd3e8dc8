"""Spans of time: what was counted in them, and what of it was out of the ordinary."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .common import Answered, Count, Milliseconds, Paged, Share, Time


class Window(Answered):
    time_window: str
    since: Time = Field(alias="from", description="what is covered: the history may begin later than asked")
    until: Time = Field(alias="to")


class Counted(Answered):
    requests: Count
    failed: Count
    error_rate: Share | None
    p50: Milliseconds | None
    p95: Milliseconds | None
    p99: Milliseconds | None


class ArmsWindow(Window):
    """Of a deployment: all requests as clients saw them, retries included."""

    stable: Counted
    canary: Counted


class Point(Counted):
    minute: Time = Field(description="its begin")
    arms: dict[str, Counted]


class RouteHistory(Window):
    route_id: str
    step: str
    points: list[Point]


class Anomaly(Answered):
    anomaly_id: str
    route_id: str
    route_name: str
    kind: Literal["errorRate", "latency", "trafficDrop", "trafficSpike"]
    arm: str | None = Field(description="null: of both arms together")
    started_at: Time
    ended_at: Time | None
    end_reason: Literal["recovered", "noData", "newNormal"] | None
    value: float = Field(description="when it was found: failed part, p99 in ms, or requests a minute")
    expected: float = Field(description="the median of the hours before")
    score: float = Field(description="how many deviations they are apart")
    message: str
    deployment_id: str | None = Field(
        description="what the route was changed by last, within the hour before"
    )
    changed_at: Time | None
    version: str | None


class AnomalyPage(Paged):
    anomalies: list[Anomaly]
