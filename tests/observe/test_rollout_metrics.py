"""Deployments of a real store as metrics, on either database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection

from hotswap_proxy.deploy.record import ArmFigures, Deployment, Verdict
from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.observe import rollouts
from hotswap_proxy.observe.rollouts import Rollouts
from hotswap_proxy.store import deployments
from tests.gateway import Gateway, anyio_backend, gateway
from tests.rollouts import begin, order, staged

__all__ = ["anyio_backend", "gateway"]
pytestmark = pytest.mark.anyio


def samples(shown: Rollouts) -> dict[str, dict[tuple[str, ...], float]]:
    """Metric → values of the labels that are no ids → value."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families("".join(shown.pieces)):
        for sample in family.samples:
            labels = tuple(
                value for name, value in sample.labels.items() if name not in ("deployment", "route")
            )
            found.setdefault(sample.name.removeprefix("gateway_deployment_"), {})[labels] = sample.value
    return found


async def test_without_deployments_there_is_a_nought(gateway: Gateway) -> None:
    shown = Rollouts(gateway.store)
    before = samples(shown)
    await shown.look()
    assert before == samples(shown) == {"deployments_in_progress": {(): 0}}


async def change(gateway: Gateway, made: dict[str, Any], **fields: Any) -> None:
    """Write the record as the engine would."""

    def write(connection: Connection) -> None:
        stored = deployments.get(connection, made["deploymentId"])
        assert stored is not None
        deployments.save(connection, stored, stored.deployment.model_copy(update=fields))

    await gateway.store.write(write)


def figures(failed: int, p99: float | None) -> ArmFigures:
    return ArmFigures(
        requests=200,
        failed=failed,
        unavailable=0,
        error_rate=failed / 200,
        error_rate_low=0,
        error_rate_high=1,
        p99_latency=p99,
    )


async def test_a_deployment_is_shown_with_both_arms_and_the_line(gateway: Gateway) -> None:
    made = await begin(gateway, await staged(gateway))
    shown = Rollouts(gateway.store)
    verdict = Verdict(
        kind="Hold", reason="too few", requests_needed=700, canary=figures(6, 30.0), stable=figures(2, 20.0)
    )
    fields = {"status": "InProgress", "verdict": verdict, "waiting": "verdict", "traffic_percentage": 10.0}
    await change(gateway, made, **fields)
    await shown.look()
    assert samples(shown) == {
        "deployments_in_progress": {(): 1},
        "info": {("users", "Canary", "1.0", "1.1"): 1},
        "status": {("InProgress",): 1},
        "verdict": {("Hold",): 1},
        "waiting": {("verdict",): 1},
        "phase": {(): 1},
        "phases": {(): 3},
        "traffic_ratio": {(): 0.1},
        "required_requests": {(): 700},
        "judged_requests": {("stable",): 200, ("canary",): 200},
        "error_ratio": {("stable",): 0.01, ("canary",): 0.03},
        "error_ratio_threshold": {(): 0.06},
        "p99_seconds": {("stable",): 0.02, ("canary",): 0.03},
        "p99_threshold_seconds": {(): 0.03},
        "error_margin_ratio": {(): 0.05},
        "p99_margin_ratio": {(): 0.5},
    }
    passed = verdict.model_copy(update={"kind": "Pass", "stable": figures(0, None)})
    await change(gateway, made, verdict=passed, waiting=None)
    await shown.look()
    found = samples(shown)
    assert found["required_requests"] == {(): 0} and "waiting" not in found
    assert "p99_threshold_seconds" not in found, "stable has no p99"


async def test_one_that_has_ended_is_shown_for_a_while(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await begin(gateway, await staged(gateway))
    assert (await order(gateway, made, "rollback", {"reason": "test"})).status_code == 200
    shown = Rollouts(gateway.store)
    await shown.look()
    assert samples(shown)["status"] == {("RolledBack",): 1}
    assert samples(shown)["deployments_in_progress"] == {(): 0}
    monkeypatch.setattr(rollouts, "SHOWN_AFTER", timedelta(seconds=-1))
    await shown.look()
    assert samples(shown) == {"deployments_in_progress": {(): 0}}


async def test_many_are_bounded_those_that_go_on_first(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [
        await begin(gateway, await staged(gateway, name=f"r{number}", pathPattern=f"/r{number}"))
        for number in range(3)
    ]
    await order(gateway, made[2], "rollback", {"reason": "test"})
    monkeypatch.setattr(rollouts, "SHOWN", 2)
    shown = Rollouts(gateway.store)
    await shown.look()
    assert {name for name, *_ in samples(shown)["info"]} == {"r0", "r1"}


async def test_what_has_not_changed_is_not_read_again_and_a_store_that_is_away_changes_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await begin(gateway, await staged(gateway))
    shown = Rollouts(gateway.store)
    await shown.look()
    pieces = shown.pieces

    def unexpected(*_: Any) -> Deployment:
        raise AssertionError("it was read again")

    with monkeypatch.context() as patched:
        patched.setattr(deployments, "get", unexpected)
        await shown.look()

    async def away(*_: Any) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(shown, "_store", type("Away", (), {"read": away})())
        with pytest.raises(StoreUnavailable):
            await shown.look()
    assert shown.pieces is pieces
    await change(gateway, made, status="Paused")
    await shown.look()
    assert samples(shown)["status"] == {("Paused",): 1}
