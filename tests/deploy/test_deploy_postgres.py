"""What is shown on SQLite elsewhere, on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from deploy.rollout import World, world

from deploy import test_orders, test_rollouts, test_takeover

pytestmark = pytest.mark.anyio

SHOWN: tuple[Callable[[World], Awaitable[None]], ...] = (
    test_orders.test_one_at_a_time_for_each_route,
    test_orders.test_of_many_at_the_same_moment_one_begins,
    test_orders.test_only_the_newest_that_ended_are_kept,
    test_rollouts.test_a_good_canary_completes,
    test_rollouts.test_a_candidate_that_fails_is_rolled_back_in_its_first_phase,
    test_takeover.test_a_lease_is_taken_over_after_it_has_run_out,
    test_takeover.test_an_order_that_is_killed_was_carried_out_or_not,
    test_takeover.test_of_two_engines_only_one_drives,
    test_takeover.test_the_write_of_an_old_holder_is_refused,
)


@pytest.fixture
async def one_on_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> AsyncIterator[World]:
    async with world(tmp_path, monkeypatch, database_url=postgres_url) as made:
        yield made


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.__name__)
async def test_on_postgres(shown: Callable[[World], Awaitable[None]], one_on_postgres: World) -> None:
    await shown(one_on_postgres)
