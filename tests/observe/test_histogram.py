"""Reading the log-linear histograms."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswap_proxy.observe import histogram as hist


def index_of(value: int) -> int:
    """Where a worker counts a value, written down independently: by linear search over the steps."""
    for index in range(hist.SIZE):
        octave, step = divmod(index, 16)
        if value < (64 << octave) + (step + 1) * (4 << octave):
            return index
    return hist.SIZE - 1


def filled(values: list[int]) -> list[int]:
    counts = [0] * hist.SIZE
    for value in values:
        counts[index_of(value)] += 1
    return counts


@given(st.lists(st.integers(64, 2**28 - 1), min_size=1, max_size=50), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_a_step_of_the_exact_one(values: list[int], q: float) -> None:
    ordered = sorted(values)
    rank = max(
        1, -(-int(q * 1000) * len(values) // 1000)
    )  # the smallest value that a share q does not exceed
    exact = ordered[rank - 1]
    found = hist.quantile(filled(values), q)
    assert found is not None
    assert exact < found <= exact * (1 + 1 / 16) + 1


@given(st.lists(st.integers(64, 2**28 - 1), max_size=50))
def test_sum_is_within_three_percent_and_buckets_are_exact(values: list[int]) -> None:
    counts = filled(values)
    assert hist.total_units(counts) == pytest.approx(sum(values), rel=0.032)
    expected = [sum(value < bound for value in values) for bound in hist.LE]
    assert hist.cumulative(counts) == expected


def test_bounds_double_and_have_another_between_where_thresholds_are() -> None:
    assert (hist.LE[0], hist.LE[-1], len(hist.LE)) == (256, 2**25, 30)
    ends = [256 << octave for octave in range(18)]
    middles = [1536 << octave for octave in range(12)]  # 1.5 ms … 3.1 s
    assert list(hist.LE) == sorted(ends + middles)


def test_nothing_counted_is_not_zero_latency() -> None:
    empty = [0] * hist.SIZE
    assert hist.milliseconds(empty) == {"p50": None, "p95": None, "p99": None, "average": None}


def test_histograms_are_merged_whatever_they_come_as() -> None:
    one = filled([100, 2000])
    assert hist.merge([array("Q", one).tobytes(), one, b""]) == [2 * count for count in one]
