"""``deployments simulate``: what a rollout would be like. It needs no gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotswap_proxy.cli.options import EXIT_INVALID, CommandError, Output, OutputFormat, command, show
from hotswap_proxy.cli.phases import read_phase

if TYPE_CHECKING:
    from hotswap_proxy.model.simulation import SimulationRequest

_ROLLOUT, _CONDEMNED, _ASSUMED = "The rollout", "When it is condemned", "What is assumed"
HARM_COLUMNS = ("harm", "found", "completed", "seconds", "requests exposed", "users exposed", "failed")
PHASE_COLUMNS = ("phase", "for", "held longer")


@command
def simulate(
    rate: Annotated[float, typer.Option("--rate", metavar="N", help="Requests a second of the route.")],
    error_rate: Annotated[
        float, typer.Option("--error-rate", metavar="PERCENT", help="Of the stable version.")
    ] = 1.0,
    p50: Annotated[
        float | None, typer.Option("--p50", metavar="MS", help="Latency of the stable version; with --p99.")
    ] = None,
    p99: Annotated[float | None, typer.Option("--p99", metavar="MS", help="With --p50.")] = None,
    phase: Annotated[
        list[str] | None,
        typer.Option(
            "--phase",
            metavar="PERCENT:FOR",
            help="One phase, repeatable.  [default: 10:5m 50:5m 100:5m]",
            rich_help_panel=_ROLLOUT,
        ),
    ] = None,
    requests_per_user: Annotated[
        float, typer.Option("--requests-per-user", metavar="N", help="During the rollout.")
    ] = 1.0,
    error_rate_increase: Annotated[
        float,
        typer.Option("--error-rate-increase", metavar="POINTS", rich_help_panel=_CONDEMNED),
    ] = 5.0,
    latency_increase: Annotated[
        float, typer.Option("--latency-increase", metavar="PERCENT", rich_help_panel=_CONDEMNED)
    ] = 50.0,
    minimum_requests: Annotated[
        int, typer.Option("--minimum-requests", metavar="N", rich_help_panel=_CONDEMNED)
    ] = 30,
    confidence: Annotated[float, typer.Option("--confidence", rich_help_panel=_CONDEMNED)] = 0.99,
    window: Annotated[str, typer.Option("--window", metavar="DURATION", rich_help_panel=_CONDEMNED)] = "1m",
    harm: Annotated[
        list[float] | None,
        typer.Option(
            "--harm",
            metavar="POINTS",
            help="A fault: so many points more errors; repeatable.  [default: 6 100]",
            rich_help_panel=_ASSUMED,
        ),
    ] = None,
    slower: Annotated[
        list[float] | None,
        typer.Option(
            "--slower",
            metavar="PERCENT",
            help="A fault: all requests so much slower; repeatable; with --p50 and --p99.",
            rich_help_panel=_ASSUMED,
        ),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", help="Simulated rollouts of each kind.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same answer.")] = 1,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Forecast a rollout: how long it takes, how many are exposed to a fault, how likely a false alarm."""
    thresholds = {
        "errorRateIncrease": error_rate_increase,
        "latencyIncrease": latency_increase,
        "minimumRequests": minimum_requests,
        "confidence": confidence,
        "window": window,
    }
    document: dict[str, Any] = {
        "requestsPerSecond": rate,
        "errorRate": error_rate,
        "thresholds": thresholds,
        "requestsPerUser": requests_per_user,
        "runs": runs,
        "seed": seed,
    }
    if (p50 is None) != (p99 is None):
        raise CommandError(["--p50 and --p99 belong together"], EXIT_INVALID)
    if p50 is not None:
        document["latency"] = {"p50": p50, "p99": p99}
    if phase:
        document["phases"] = [read_phase(text, "10:5m") for text in phase]
    if harm or slower:
        document["harms"] = [{"errorRateIncrease": points} for points in harm or ()]
        document["harms"] += [{"latencyIncrease": percent} for percent in slower or ()]
    request = _checked(document)
    from hotswap_proxy.deploy.judge.forecast import forecast  # it takes a while, as all that uses models

    answer = forecast(request).model_dump(by_alias=True)
    if output is OutputFormat.JSON:
        show(answer, output)
    else:
        _tell(answer)


def _checked(document: dict[str, Any]) -> SimulationRequest:
    from pydantic import ValidationError

    from hotswap_proxy.errors import from_pydantic
    from hotswap_proxy.model.simulation import SimulationRequest

    try:
        return SimulationRequest.model_validate(document)
    except ValidationError as error:
        found = from_pydantic(error)
        lines = [f"{detail.field}: {detail.message}" for detail in found.details]
        raise CommandError(lines, EXIT_INVALID) from None


def _tell(answer: dict[str, Any]) -> None:
    summary = {
        "a healthy candidate": f"completes in {_percent(answer['completed'])} of {answer['runs']} rollouts",
        "it takes": f"{_spread(answer['seconds'])} s, planned are {answer['plannedSeconds']:g} s",
        "a false alarm": _percent(answer["falseAlarm"]),
        "is guaranteed below": _percent(answer["falseAlarmLimit"]),
    }
    show(summary, OutputFormat.TABLE)
    print()
    phases = [
        {
            "phase": f"{phase['trafficPercentage']:g} %",
            "for": phase["duration"],
            "held longer": "" if phase["chanceHeld"] is None else _percent(phase["chanceHeld"]),
        }
        for phase in answer["phases"]
    ]
    show(phases, OutputFormat.TABLE, PHASE_COLUMNS)
    print()
    harms = [
        {
            "harm": _harm(harm),
            "found": _percent(harm["chanceFound"]),
            "completed": _percent(harm["chanceCompleted"]),
            "seconds": _spread(harm["seconds"]),
            "requests exposed": _spread(harm["exposedRequests"]),
            "users exposed": _spread(harm["exposedUsers"]),
            "failed": _spread(harm["failedRequests"]),
        }
        for harm in answer["harms"]
    ]
    show(harms, OutputFormat.TABLE, HARM_COLUMNS)
    print("\nTwo numbers: the median, and what 95 % of the simulated rollouts did not exceed.")


def _harm(harm: dict[str, Any]) -> str:
    parts = []
    if harm["errorRateIncrease"]:
        parts.append(f"{harm['errorRateIncrease']:+g} points of errors")
    if harm["latencyIncrease"]:
        parts.append(f"{harm['latencyIncrease']:+g} % latency")
    return ", ".join(parts)


def _percent(part: float) -> str:
    return f"{100 * part:.3g} %"


def _spread(spread: dict[str, float] | None) -> str:
    return "" if spread is None else f"{spread['median']:,.0f} / {spread['p95']:,.0f}"
