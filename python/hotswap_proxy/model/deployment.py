"""What callers give about deployments: a new one, orders to one, and a version that is only staged."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from hotswap_proxy.deploy.record import SmokeTest, Strategy, Thresholds

from .base import Duration, Environment, Identifier, Model, Name, Version, problem, whole
from .health import ProbeHeaders

# Names of headers and cookies are tokens: RFC 9110 section 5.6.2.
_ASSIGNMENT = re.compile(r"Random|ClientIP|(?:Header|Cookie):[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")


def _check_share(percentage: float) -> float:
    if abs(percentage * 100 - round(percentage * 100)) > 1e-6:
        raise problem("percentage", f"{percentage} has more than two decimals")
    return percentage


def _check_assignment(assignment: str) -> str:
    if not _ASSIGNMENT.fullmatch(assignment):
        raise problem("assignment", f"{assignment!r} is not Random, ClientIP, Header:<name> or Cookie:<name>")
    return assignment


Share = Annotated[float, Field(gt=0, le=100), AfterValidator(_check_share)]
Assignment = Annotated[str, Field(max_length=160), AfterValidator(_check_assignment), whole(_ASSIGNMENT)]
Sentence = Annotated[str, Field(min_length=1, max_length=1000)]


class PhaseGiven(Model):
    """One step of exposure. Without a duration it is held until somebody promotes or ends it."""

    name: Name | None = None
    traffic_percentage: Share
    duration: Duration | None = None


class ThresholdsGiven(Thresholds):
    """``Thresholds``, by the names of the wire alone."""

    model_config = ConfigDict(validate_by_name=False)


class SmokeTestGiven(SmokeTest):
    """``SmokeTest``, by the names of the wire alone."""

    model_config = ConfigDict(validate_by_name=False)

    headers: ProbeHeaders | None = None


# Fields that only some strategies have a use for; given with another one they are a mistake to point out.
_BELONGS_TO: dict[str, tuple[Strategy, ...]] = {
    "phases": ("Canary", "ABTest"),
    "canary_percentage": ("Canary", "ABTest"),
    "assignment": ("Canary", "ABTest"),
    "smoke_tests": ("BlueGreen",),
    "keep_stable": ("BlueGreen",),
    "drain_timeout": ("Rolling",),
}


def _one_route(schema: dict[str, Any]) -> None:
    schema["oneOf"] = [{"required": ["routeId"]}, {"required": ["routeName"]}]


class DeploymentCreate(Model):
    """A new deployment of a version that there is already, staged or once live. What its phases have to be
    like, ``deploy.plan`` says.
    """

    model_config = ConfigDict(json_schema_extra=_one_route)

    route_id: Identifier | None = None
    route_name: Name | None = Field(None, description="instead of routeId")
    config_version: Version = Field(description="the version to go to")
    strategy: Strategy
    environment: Environment | None = Field(None, description="when left out, the route's or else the node's")
    phases: list[PhaseGiven] | None = None
    canary_percentage: Share | None = Field(
        None, description="instead of phases: one phase with this share before the last one"
    )
    assignment: Assignment = Field("Random", description="Random, ClientIP, Header:<name> or Cookie:<name>")
    auto_promote: bool | None = Field(None, description="go on by itself when a phase has passed")
    thresholds: ThresholdsGiven | None = None
    smoke_tests: list[SmokeTestGiven] | None = Field(None, max_length=10)
    keep_stable: Duration | None = Field(None, description="BlueGreen: how long the way back stays warm")
    drain_timeout: Duration | None = Field(None, description="Rolling: of each node")
    description: Sentence | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> DeploymentCreate:
        if (self.route_id is None) == (self.route_name is None):
            raise problem("route", "give routeId or routeName, one of them")
        if self.phases is not None and self.canary_percentage is not None:
            raise problem("phases", "canaryPercentage is short for phases; give one of them")
        for field, strategies in _BELONGS_TO.items():
            if field in self.model_fields_set and self.strategy not in strategies:
                raise _misplaced(type(self).model_fields[field].alias or field, self.strategy, strategies)
        return self


def _misplaced(field: str, strategy: str, strategies: tuple[Strategy, ...]) -> PydanticCustomError:
    return problem("strategy", f"{field} is for {' and '.join(strategies)}, not for {strategy}")


class Promotion(Model):
    target_percentage: Share | None = Field(None, description="to this share; the next phase when left out")


class RollbackOrder(Model):
    reason: Sentence


class Rejection(Model):
    reason: Sentence | None = None
