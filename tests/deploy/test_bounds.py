"""Evidence and intervals: against exact enumeration, and properties."""

from __future__ import annotations

from collections import defaultdict
from math import exp, inf, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswap_proxy.deploy.judge.bounds import (
    Rate,
    evidence_above,
    evidence_against,
    evidence_below,
    hedged,
    interval,
)
from hotswap_proxy.deploy.judge.comparison import (
    Limit,
    Slowness,
    least_evidence,
    not_slower,
    rate_difference,
    rate_exceeds,
    rate_within,
    slower,
)

rates = st.integers(0, 400).flatmap(lambda n: st.builds(Rate, st.integers(0, n), st.just(n)))
probabilities = st.floats(0.001, 0.999)
levels = st.floats(log(2), log(1e6))
latencies = st.dictionaries(st.sampled_from([1000, 2000, 5000, 9000, 20_000, 90_000]), st.integers(1, 3000))


def probabilities_of_counts(p: float, n: int) -> list[float]:
    row = [1.0]
    for _ in range(n):
        row = [
            (row[k] if k < len(row) else 0.0) * (1 - p) + (row[k - 1] * p if k else 0.0)
            for k in range(len(row) + 1)
        ]
    return row


@pytest.mark.parametrize("p", [0.01, 0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_the_ratio_is_a_fair_bet_at_the_true_rate(p: float, n: int) -> None:
    expected = sum(
        weight * exp(evidence_against(Rate(k, n), p))
        for k, weight in enumerate(probabilities_of_counts(p, n))
    )
    assert expected == pytest.approx(1.0)


@pytest.mark.parametrize("p", [0.02, 0.2, 0.5])
def test_looking_after_each_request_the_true_rate_is_left_out_as_seldom_as_promised(p: float) -> None:
    alpha, missed = 0.1, 0.0
    alive = {0: 1.0}  # count → probability that it is reached and the true rate was never left out
    for n in range(1, 121):
        following: dict[int, float] = defaultdict(float)
        for count, weight in alive.items():
            following[count] += weight * (1 - p)
            following[count + 1] += weight * p
        out = {k for k in following if evidence_against(Rate(k, n), p) >= log(1 / alpha)}
        missed += sum(following.pop(k) for k in out)
        alive = following
    assert 0.0 < missed <= alpha


@pytest.mark.parametrize(("before", "after"), [(0.1, 0.1), (0.02, 0.02)])
def test_two_equal_arms_are_told_apart_as_seldom_as_promised(before: float, after: float) -> None:
    alpha = 0.2
    alive, missed = {(0, 0): 1.0}, 0.0
    for n in range(1, 41):
        following: dict[tuple[int, int], float] = defaultdict(float)
        for (stable, canary), weight in alive.items():
            for s, c in ((0, 0), (0, 1), (1, 0), (1, 1)):
                chance = (before if s else 1 - before) * (after if c else 1 - after)
                following[stable + s, canary + c] += weight * chance
        for stable, canary in list(following):
            if rate_exceeds(Rate(canary, n), Rate(stable, n), 0.0, log(1 / alpha)):
                missed += following.pop((stable, canary))
        alive = following
    assert missed <= alpha


@given(rates, st.floats(0.001, 0.3))
def test_an_interval_has_the_estimate_in_it_and_ends_where_the_evidence_is_enough(
    rate: Rate, alpha: float
) -> None:
    low, high = interval(rate, alpha)
    assert 0.0 <= low <= rate.estimate <= high <= 1.0
    for end in (low, high):
        if 0.0 < end < 1.0:
            assert evidence_against(rate, end) == pytest.approx(log(1 / alpha), abs=1e-4)


@given(rates, probabilities)
def test_hits_and_misses_are_symmetric(rate: Rate, p: float) -> None:
    mirrored = Rate(rate.trials - rate.hits, rate.trials)
    assert evidence_above(rate, p) == pytest.approx(evidence_below(mirrored, 1 - p), abs=1e-6)


@given(rates, probabilities)
def test_more_hits_are_more_evidence_for_a_higher_rate(rate: Rate, p: float) -> None:
    if rate.hits < rate.trials and rate.estimate >= p:
        more = Rate(rate.hits + 1, rate.trials)
        assert evidence_above(more, p) >= evidence_above(rate, p) - 1e-9


@given(st.floats(-1e4, 1e4))
def test_a_hedged_bet_loses_at_most_half(evidence: float) -> None:
    assert max(0.0, evidence) - log(2) - 1e-12 <= hedged(evidence) <= max(0.0, evidence) + 1e-12


def test_a_rate_that_the_counts_rule_out_has_all_evidence_against_it() -> None:
    assert evidence_against(Rate(1, 10), 0.0) == inf == evidence_against(Rate(9, 10), 1.0)
    assert interval(Rate(0, 0), 0.01) == (0.0, 1.0)


@given(rates, rates, st.floats(-0.9, 0.9))
def test_the_least_evidence_is_that_of_a_fine_grid(canary: Rate, stable: Rate, margin: float) -> None:
    low, high = max(0.0, -margin), min(1.0, 1.0 - margin)
    grid = (low + (high - low) * step / 400 for step in range(401))
    on_grid = min(
        hedged(evidence_against(stable, p)) + hedged(evidence_against(canary, min(1.0, max(0.0, p + margin))))
        for p in grid
    )
    least = least_evidence(canary, stable, margin)
    assert least <= on_grid + 1e-6
    assert least >= on_grid - 2.0  # between two points of the grid


@given(rates, rates, st.floats(0.0, 0.5), levels)
def test_never_both_certain(canary: Rate, stable: Rate, margin: float, enough: float) -> None:
    assert not (rate_exceeds(canary, stable, margin, enough) and rate_within(canary, stable, margin, enough))
    assert not (rate_exceeds(canary, None, margin, enough) and rate_within(canary, None, margin, enough))


@given(rates, rates, st.floats(0.0, 0.5), levels)
def test_a_further_failure_never_takes_certainty_of_harm_away(
    canary: Rate, stable: Rate, margin: float, enough: float
) -> None:
    if canary.hits < canary.trials and rate_exceeds(canary, stable, margin, enough):
        assert rate_exceeds(Rate(canary.hits + 1, canary.trials), stable, margin, enough)


@given(rates, rates, levels)
def test_a_difference_has_what_was_seen_in_it_and_mirrors(canary: Rate, stable: Rate, enough: float) -> None:
    low, high = rate_difference(canary, stable, enough)
    observed = canary.estimate - stable.estimate
    assert -1.0 <= low <= observed + 1e-9 and observed - 1e-9 <= high <= 1.0
    mirrored = rate_difference(stable, canary, enough)
    assert (-mirrored[1], -mirrored[0]) == pytest.approx((low, high), abs=1e-4)


@given(latencies, latencies, levels)
def test_latency_is_never_both_certain(canary: dict[int, int], stable: dict[int, int], enough: float) -> None:
    arms = Slowness(canary), Slowness(stable)
    limit = Limit(1.5, 2000)
    assert not (slower(*arms, limit, 0.01, enough) and not_slower(*arms, limit, 0.01, 0.01, enough))


def test_a_histogram_counts_what_is_above_and_not_below() -> None:
    slowness = Slowness({1000: 95, 2000: 4, 9000: 1})
    assert slowness.above(1000) == Rate(5, 100) and slowness.not_below(1000) == Rate(100, 100)
    assert slowness.above(1500) == Rate(5, 100) == slowness.not_below(1500)
    assert slowness.above(9000) == Rate(0, 100) and slowness.not_below(9001) == Rate(0, 100)
    assert (slowness.quantile(0.5), slowness.quantile(0.99), slowness.quantile(0.999)) == (1000, 2000, 9000)
    assert Slowness({}).quantile(0.5) is None
    assert slowness.scaled(2.5).above(1000) == Rate(12.5, 250)


def test_the_true_quantile_is_left_out_as_seldom_as_promised() -> None:
    # Values 1000 (95 %), 5000 (4.5 %) and 90,000: the p99 is 5000. Left out above: more than 1 % beyond it.
    alpha, p = 0.1, 0.005
    alive, missed = {0: 1.0}, 0.0
    for n in range(1, 301):
        following: dict[int, float] = defaultdict(float)
        for count, weight in alive.items():
            following[count] += weight * (1 - p)
            following[count + 1] += weight * p
        for count in list(following):
            if evidence_above(Rate(count, n), 0.01) >= log(1 / alpha):
                missed += following.pop(count)
        alive = following
    assert missed <= alpha
