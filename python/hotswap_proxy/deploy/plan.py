"""A strategy and what was asked for → phases.

Two rules hold for all of them. At a share of 0 % the candidate version's backends are tested, nothing is
judged. A phase without a duration is held until somebody promotes or ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hotswap_proxy.errors import Detail, ValidationFailed

from .record import Phase, Strategy

if TYPE_CHECKING:
    from hotswap_proxy.model.deployment import DeploymentCreate

DEFAULT_SHARES = (10.0, 50.0, 100.0)
DEFAULT_DURATION = "5m"
DEFAULT_SPLIT = 50.0  # of an A/B test
KEEP_STABLE = "10m"
DRAIN_TIMEOUT = "30s"
MAX_PHASES = 20


def phases_of(request: DeploymentCreate, members: Sequence[str]) -> list[Phase]:
    """The phases of a new deployment. ``members``: who gets it one after the other with Rolling, in order.

    ValidationFailed: the phases given make no sense.
    """
    return _PLANS[request.strategy](request, members)


def share_name(share: float) -> str:
    return f"{share:g} %"


def _phase(share: float, duration: str | None, name: str | None = None) -> Phase:
    return Phase(name=name or share_name(share), traffic_percentage=share, duration=duration)


def _canary(request: DeploymentCreate, _members: Sequence[str]) -> list[Phase]:
    if request.phases is not None:
        phases = [_phase(one.traffic_percentage, one.duration, one.name) for one in request.phases]
        _check(phases)
        return phases
    shares: Sequence[float] = DEFAULT_SHARES
    if request.canary_percentage is not None:
        shares = sorted({request.canary_percentage, 100.0})
    return [_phase(share, DEFAULT_DURATION) for share in shares]


def _check(phases: Sequence[Phase]) -> None:
    shares = [phase.traffic_percentage for phase in phases]
    if not 1 <= len(phases) <= MAX_PHASES:
        _refuse("phases", "length", f"a deployment has 1 to {MAX_PHASES} phases, not {len(phases)}")
    for index, (before, after) in enumerate(zip([0.0, *shares], shares, strict=False)):
        if after <= before:
            _refuse(
                f"phases[{index}].trafficPercentage",
                "increasing",
                f"{after:g} is not more than {before:g} of the phase before",
            )
    if shares[-1] != 100:
        _refuse(
            f"phases[{len(shares) - 1}].trafficPercentage",
            "last_phase",
            f"the last phase of a Canary has 100 %, not {shares[-1]:g}; an ABTest is held at a split",
        )


def _refuse(field: str, rule: str, message: str) -> None:
    raise ValidationFailed.of([Detail(field, rule, message)])


def _blue_green(request: DeploymentCreate, _members: Sequence[str]) -> list[Phase]:
    return [_phase(0.0, None, "smoke test"), _phase(100.0, request.keep_stable or KEEP_STABLE, "switch")]


def _rolling(_request: DeploymentCreate, members: Sequence[str]) -> list[Phase]:
    shares = [round(100 * (index + 1) / len(members), 2) for index in range(len(members))]
    return [
        _phase(share, None, f"node {member}"[:120]) for share, member in zip(shares, members, strict=True)
    ]


def _direct(_request: DeploymentCreate, _members: Sequence[str]) -> list[Phase]:
    return [_phase(100.0, None, "everywhere at once")]


def _ab_test(request: DeploymentCreate, _members: Sequence[str]) -> list[Phase]:
    if request.phases is not None:
        if len(request.phases) != 1:
            _refuse("phases", "length", "an ABTest is held at one split; give one phase")
        one = request.phases[0]
        return [_phase(one.traffic_percentage, None, one.name or "A/B test")]
    return [_phase(request.canary_percentage or DEFAULT_SPLIT, None, "A/B test")]


_PLANS: Mapping[Strategy, Callable[[DeploymentCreate, Sequence[str]], list[Phase]]] = {
    "Canary": _canary,
    "BlueGreen": _blue_green,
    "Rolling": _rolling,
    "Direct": _direct,
    "ABTest": _ab_test,
}
