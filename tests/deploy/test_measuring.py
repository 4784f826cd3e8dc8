"""What a node counts of the arms gets into the store: once a second, only what is new, never in the way."""

from __future__ import annotations

from typing import Any

import pytest
from deploy.rollout import ANN, World

from hotswap_proxy import _core
from hotswap_proxy.deploy.measurement import ArmCounts, Measurement
from hotswap_proxy.deploy.measuring import Measuring, arm_counts, documents
from hotswap_proxy.observe import histogram
from hotswap_proxy.store import deployments

pytestmark = pytest.mark.anyio


def row(deployment_id: str, arm: str, **fields: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("requests", "failed", "unavailable", "limited", "aborted", "refused", "active"), 0)
    return {"deploymentId": deployment_id, "arm": arm, "latency": b"", **empty, **fields}


class Counting:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def arm_stats(self) -> list[dict[str, Any]]:
        return self.rows


def test_the_rows_of_a_real_node_are_understood() -> None:
    assert documents(_core.Node(1).arm_stats()) == {}


def test_counts_and_buckets() -> None:
    latency = [0] * histogram.SIZE
    latency[0], latency[17] = 2, 5
    counts = arm_counts(row("d", "canary", requests=7, failed=1, limited=3, latency=latency))
    assert counts == ArmCounts(
        7, 1, 0, {"limited": 3}, {int(histogram.UPPER[0]): 2, int(histogram.UPPER[17]): 5}
    )


async def test_what_is_new_is_written_and_nothing_else(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await one.create()
    counting = Counting()
    measuring = Measuring(one.store, counting, "n1", "boot-1")
    writes = 0
    real = one.store.beat

    async def beat(*args: Any, **more: Any) -> Any:
        nonlocal writes
        writes += 1
        return await real(*args, **more)

    monkeypatch.setattr(one.store, "beat", beat)
    await measuring.beat()
    assert writes == 0, "no arms"
    counting.rows = [
        row(made.deployment_id, "stable", requests=90, failed=1, active=2),
        row(made.deployment_id, "canary", requests=10),
        row("dep-unknown", "canary", requests=1),
    ]
    for _ in range(3):
        await measuring.beat()
    assert writes == 1
    total = await one.store.read(deployments.total, made.deployment_id)
    assert total == Measurement(ArmCounts(90, 1), ArmCounts(10))
    (found,) = await one.store.read(deployments.measured, made.deployment_id)
    assert (found.node_id, found.boot_id, found.active["stable"]) == ("n1", "boot-1", 2)
    assert await one.store.read(deployments.measured, "dep-unknown") == []

    # Another run of the node counts from zero: both are in the sum.
    again = Measuring(one.store, counting, "n1", "boot-2")
    await again.beat()
    assert (await one.store.read(deployments.total, made.deployment_id)).stable.requests == 180

    await one.orders.roll_back(made.deployment_id, ANN, "no")
    await measuring.beat()
    counting.rows[0]["requests"] = 91  # the last requests of the arm end
    await measuring.beat()
    assert await one.store.read(deployments.measured, made.deployment_id) == []
    assert (await one.store.read(deployments.total, made.deployment_id)).stable.requests == 180


async def test_what_could_not_be_written_is_written_with_the_next(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await one.create()
    counting = Counting()
    counting.rows = [row(made.deployment_id, "stable", requests=5)]
    measuring = Measuring(one.store, counting, "n1", "boot-1")

    async def away(*_args: Any) -> None:
        raise OSError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(one.store, "beat", away)
        with pytest.raises(OSError, match="away"):
            await measuring.beat()
    await measuring.beat()
    assert (await one.store.read(deployments.total, made.deployment_id)).stable.requests == 5
