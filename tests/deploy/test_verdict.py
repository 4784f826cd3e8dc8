"""Verdicts: what is said of which counts, and why."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswap_proxy.deploy.judge import judge
from hotswap_proxy.deploy.measurement import ArmCounts, Latency, Measurement
from hotswap_proxy.deploy.record import Thresholds, Verdict

THRESHOLDS = Thresholds()
FAST: Latency = {10_000: 800, 20_000: 150, 30_000: 45, 60_000: 5}  # µs: p99 30 ms


def arm(requests: int, failed: int = 0, unavailable: int = 0, times: float | None = None) -> ArmCounts:
    """``times``: with latencies, that much longer than ``FAST``."""
    latency = {} if times is None else {int(b * times): max(1, n * requests // 1000) for b, n in FAST.items()}
    return ArmCounts(requests, failed, unavailable, latency=latency)


def verdict(
    stable: ArmCounts, canary: ArmCounts, thresholds: Thresholds = THRESHOLDS, **more: object
) -> Verdict:
    measured = Measurement(stable, canary)
    return judge(measured, measured, thresholds, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stable", "canary", "kind", "reason"),
    [
        (arm(0), arm(0), "Hold", "0 of 30 requests"),
        (arm(45), arm(5, 5), "Hold", "5 of 30 requests"),
        (arm(270, 3), arm(29, 29), "Hold", "29 of 30 requests"),
        (arm(12), arm(200, 200), "Hold", "12 of 30 requests of the stable arm"),
        (arm(270, 3), arm(30, 30), "Fail", "error rate 100.0 % against 1.1 %: at least "),
        (arm(270, 3), arm(0, 0, 30), "Fail", "unavailability 100.0 % against 0.0 %: at least "),
        (arm(900, 9), arm(100, 1), "Hold", "not sure yet: error rate 1.0 % against 1.0 %, about "),
        (arm(2700, 27), arm(300, 3), "Pass", "error rate 1.0 % against 1.0 %: within the thresholds"),
        (arm(27_000, 270), arm(3000, 90), "Pass", "error rate 3.0 % against 1.0 %"),
        (arm(450_000, 4500), arm(50_000, 3500), "Fail", "error rate 7.0 % against 1.0 %: at least 5."),
        (arm(9000, 9000), arm(1000, 1000), "Pass", "error rate 100.0 % against 100.0 %"),
        (arm(3000, 3, 0, 1.0), arm(600, 1, 0, 1.0), "Pass", "p99 latency 30 ms against 30 ms"),
        (
            arm(18_000, 18, 0, 1.0),
            arm(2000, 2, 0, 3.0),
            "Fail",
            "p99 latency 90 ms against 30 ms: more than",
        ),
        (arm(3000, 3, 0, 1.0), arm(600, 1, 0, 1.5), "Hold", "not sure yet: p99 latency 45 ms against 30 ms"),
        # 1 ms → 2 ms is no harm.
        (arm(9000, 0, 0, 0.02), arm(3000, 0, 0, 0.05), "Pass", "p99 latency 1.5 ms against 0.6 ms"),
    ],
)
def test_verdicts(stable: ArmCounts, canary: ArmCounts, kind: str, reason: str) -> None:
    said = verdict(stable, canary)
    assert said.kind == kind and reason in said.reason, said.reason
    assert (said.requests_needed is not None) <= (kind == "Hold")


def test_few_requests_say_how_many_more() -> None:
    assert verdict(arm(45), arm(12, 1)).requests_needed == 18
    assert verdict(arm(10), arm(40)).requests_needed == 80  # until stable has 30 at these shares
    assert verdict(arm(0), arm(12), share=50.0).requests_needed == 18


def test_as_many_more_as_it_says_are_enough() -> None:
    said = verdict(arm(900, 9), arm(100, 1))
    assert said.kind == "Hold" and said.requests_needed is not None
    assert said.reason.endswith(f"about {said.requests_needed} more requests")
    factor = (100 + said.requests_needed) / 100
    later = verdict(arm(round(900 * factor), round(9 * factor)), arm(round(100 * factor), round(factor)))
    assert later.kind == "Pass"


def test_at_the_very_threshold_nobody_knows_how_many() -> None:
    said = verdict(arm(1000, 0), arm(1000, 50))
    assert (said.kind, said.requests_needed) == ("Hold", None)
    assert "more requests" not in said.reason


def test_both_arms_numbers_are_told() -> None:
    said = verdict(arm(2700, 27, 0, 1.0), arm(300, 3, 0, 1.0))
    assert said.canary is not None and said.stable is not None
    assert said.canary.error_rate == 0.01 and said.stable.requests == 2700
    assert said.canary.error_rate_low < 0.01 < said.canary.error_rate_high
    assert said.canary.p99_latency == 30.0 and said.p99_latency_delta == 0.0 == said.error_rate_delta


def test_without_traffic_on_stable_what_was_before_counts() -> None:
    said = verdict(arm(0), arm(60, 30), before=arm(1000, 10))
    assert said.kind == "Fail" and "error rate 50.0 % against 1.0 %" in said.reason
    assert said.reason.endswith("compared with the stable version before, as it gets no requests now")
    assert verdict(arm(0), arm(1000, 5), before=arm(1000, 10)).kind == "Pass"
    # Bad before is no better than bad now.
    assert verdict(arm(0), arm(60, 30), before=arm(1000, 500)).kind == "Hold"


def test_late_requests_of_stable_are_not_traffic() -> None:
    assert verdict(arm(2), arm(600, 300), before=arm(1000, 10)).kind == "Fail"
    assert verdict(arm(20), arm(600, 300), before=arm(1000, 10), share=100.0).kind == "Fail"
    assert verdict(arm(20), arm(600, 300), before=arm(1000, 10)).kind == "Hold"  # stable gets one in 30


def test_with_nothing_to_compare_with_errors_are_judged_by_themselves() -> None:
    assert verdict(arm(0), arm(60, 30)).kind == "Fail"
    assert verdict(arm(0), arm(60, 30), before=arm(5)).kind == "Fail"
    passed = verdict(arm(0), arm(600, 3, 0, 1.0))
    assert passed.kind == "Pass" and "nothing to compare with" in passed.reason
    assert passed.stable is None and passed.error_rate_delta is None


def test_a_change_for_the_worse_after_a_long_good_time_is_found_in_the_window() -> None:
    phase = Measurement(arm(1_000_060, 10_000), arm(100_060, 1060))
    window = Measurement(arm(60), arm(60, 60))
    said = judge(phase, window, THRESHOLDS, windows=40, phases=3)
    assert said.kind == "Fail" and said.reason.startswith("in the last 1m: error rate 100.0 %")
    assert judge(phase, phase, THRESHOLDS, windows=40, phases=3).kind == "Pass"


def test_a_window_with_few_requests_condemns_nobody() -> None:
    phase = Measurement(arm(10_000), arm(1000, 5))
    assert judge(phase, Measurement(arm(45), arm(5, 5)), THRESHOLDS).kind == "Pass"


def test_later_phases_and_windows_need_more() -> None:
    stable, canary = arm(270, 3), arm(60, 18)
    assert verdict(stable, canary).kind == "Fail"
    assert verdict(stable, canary, phases=2000, windows=2000).kind == "Hold"


def test_thresholds_are_followed() -> None:
    stable, canary = arm(9000, 90), arm(1000, 150)
    assert verdict(stable, canary).kind == "Fail"
    assert verdict(stable, canary, Thresholds(error_rate_increase=30.0)).kind == "Pass"
    assert verdict(stable, canary, Thresholds(minimum_requests=2000)).kind == "Hold"
    slow = arm(3000, 0, 0, 1.0), arm(600, 0, 0, 3.0)
    assert verdict(*slow, Thresholds(latency_increase=400.0)).kind == "Pass"
    assert verdict(arm(90), arm(30, 10), Thresholds(confidence=0.5)).kind == "Fail"
    assert verdict(arm(90), arm(30, 9), Thresholds(confidence=0.9999)).kind == "Hold"


def test_what_was_not_judged_changes_nothing() -> None:
    canary = dataclasses.replace(arm(300, 3), excluded={"limited": 9000, "aborted": 1, "refused": 5})
    assert verdict(arm(2700, 27), canary) == verdict(arm(2700, 27), arm(300, 3))


counts = st.integers(0, 3000).flatmap(lambda n: st.builds(arm, st.just(n), st.integers(0, n)))


@given(counts, counts)
def test_a_further_failure_of_canary_is_never_good_for_it(stable: ArmCounts, canary: ArmCounts) -> None:
    order = ("Fail", "Hold", "Pass")
    worse = dataclasses.replace(canary, failed=min(canary.requests, canary.failed + 1))
    assert order.index(verdict(stable, worse).kind) <= order.index(verdict(stable, canary).kind)


@given(counts)
def test_the_same_counts_in_both_arms_are_never_condemned(both: ArmCounts) -> None:
    assert verdict(both, both).kind != "Fail"


def left(aborted: int, requests: int = 0, failed: int = 0, **more: float) -> ArmCounts:
    """An arm from which clients went away."""
    return dataclasses.replace(arm(requests, failed, **more), excluded={"aborted": aborted})  # type: ignore[arg-type]


def test_a_version_that_clients_wait_for_in_vain_is_condemned() -> None:
    said = verdict(left(1, 270), left(30))
    assert said.kind == "Fail"
    assert said.reason.startswith("aborted by clients 100.0 % against 0.4 %: at least "), said.reason
    assert verdict(left(1, 270), left(100, 400)).kind == "Fail", "every fifth client"


@pytest.mark.parametrize(
    ("stable", "canary"),
    [
        (left(1, 270), left(29)),  # too few
        (left(0, 29), left(30)),
        (left(270), left(30)),  # clients leave both
        (arm(0), left(500)),  # nothing to compare with
    ],
)
def test_clients_that_leave_prove_nothing_by_themselves(stable: ArmCounts, canary: ArmCounts) -> None:
    assert verdict(stable, canary).kind == "Hold"


def test_without_stable_traffic_aborts_are_compared_with_those_before() -> None:
    assert verdict(arm(0), left(100), before=left(3, 300), share=100.0).kind == "Fail"
    assert verdict(arm(0), left(100), before=left(300, 3), share=100.0).kind == "Hold"
    assert verdict(arm(0), left(100), share=100.0).kind == "Hold"


def test_a_hang_that_begins_late_shows_in_the_window() -> None:
    phase, window = Measurement(arm(900_000), left(300, 100_000)), Measurement(arm(2700), left(300))
    said = judge(phase, window, THRESHOLDS)
    assert said.kind == "Fail" and said.reason.startswith("in the last 1m: aborted by clients"), said.reason


def test_a_pass_waits_for_no_patience() -> None:
    assert verdict(left(9000, 2700, 27), left(1000, 300, 3)).kind == "Pass"


def test_counts_read_in_the_middle_of_a_request_are_judged() -> None:
    """The request was there before its failure was: the difference has one failure more than requests."""
    later, earlier = arm(1031, 1031), arm(1, 0)
    difference = later - earlier
    assert (difference.requests, difference.failed) == (1030, 1030)
    assert verdict(difference, difference).kind == "Pass"
