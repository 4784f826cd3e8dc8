"""The judge's error rates, by simulation; and the forecast that is made of it."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from statistics import mean, pvariance
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hotswap_proxy.deploy.judge.chance import Buckets, binomial, bucket, coarse, log_normal, longer
from hotswap_proxy.deploy.judge.comparison import Slowness
from hotswap_proxy.deploy.judge.forecast import forecast, spread
from hotswap_proxy.deploy.judge.simulate import Rollout, Step, Version, roll_out
from hotswap_proxy.deploy.judge.tables import ALARMS, HARMS, HELD, PASSES, SLOW, Row, outcomes, part
from hotswap_proxy.deploy.record import Thresholds
from hotswap_proxy.model.simulation import SimulationRequest

DOCS = Path(__file__).parents[2] / "docs" / "judge.md"


# --- chance -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trials", "p"), [(10, 0.3), (1000, 0.01), (1000, 0.4), (5000, 0.97), (10**6, 0.5)])
def test_binomial_counts_have_the_right_mean_and_variance(trials: int, p: float) -> None:
    random = Random(7)
    drawn = [binomial(random, trials, p) for _ in range(2000)]
    deviation = (trials * p * (1 - p)) ** 0.5
    assert abs(mean(drawn) - trials * p) < 5 * deviation / 2000**0.5
    assert 0.8 < pvariance(drawn) / deviation**2 < 1.2


@given(st.integers(-1, 10_000), st.floats(0, 1), st.integers(0, 2**32))
def test_a_binomial_count_is_a_count(trials: int, p: float, seed: int) -> None:
    assert 0 <= binomial(Random(seed), trials, p) <= max(0, trials)


def test_a_histogram_is_drawn_in_its_proportions() -> None:
    drawn = Buckets({1000: 70, 2000: 25, 5000: 5}).draw(Random(3), 100_000)
    assert sum(drawn.values()) == 100_000
    assert abs(drawn[1000] - 70_000) < 1000 and abs(drawn[5000] - 5000) < 400


def test_a_log_normal_histogram_has_its_quantiles() -> None:
    slowness = Slowness(log_normal(20_000, 60_000))
    assert slowness.quantile(0.5) == bucket(20_000) and slowness.quantile(0.99) == bucket(60_000)
    assert Slowness(coarse(log_normal(20_000, 60_000))).quantile(0.99) == bucket(60_000)
    slower = Slowness(longer(log_normal(20_000, 60_000), 2.0)).quantile(0.99)
    assert slower is not None and 0.9 < slower / 120_000 < 1.15


# --- error rates --------------------------------------------------------------------------------------


def few(row: Row, runs: int) -> Row:
    return row._replace(runs=runs, growth=max(row.growth, 0.02))


@pytest.mark.parametrize("row", [*ALARMS[:5], ALARMS[8]], ids=lambda row: f"{row.stable}-{row.canary}")
def test_equal_arms_and_harms_below_the_threshold_are_let_through(row: Row) -> None:
    found = outcomes(few(row, 20))
    assert part(found, "Failed") <= 0.05 and part(found, "Completed") >= 0.9


def test_even_at_little_confidence_false_alarms_are_below_what_is_promised() -> None:
    # Half of all rollouts may be condemned; many arms that are exactly at the threshold are the worst case.
    row = Row(200, 0.1, 0.15, 60, None, (Step(0.5, 600.0),), 0.02, 600.0, confidence=0.5)
    assert part(outcomes(row), "Failed") <= 0.5


@pytest.mark.parametrize(
    ("row", "within"),
    [(HARMS[2], 1200.0), (HARMS[7], 120.0), (HARMS[12], 20.0), (HARMS[13], 5.0), (SLOW[5], 30.0)],
    ids=lambda value: str(value),
)
def test_harms_are_found(row: Row, within: float) -> None:
    """``within``: simulated seconds, several times what the table has as the median."""
    found = outcomes(few(row, 10))
    assert part(found, "Failed") == 1.0
    assert max(outcome.seconds for outcome in found) <= within


def test_a_rollout_without_traffic_is_held() -> None:
    rollout = Rollout(0.01, HELD, Thresholds(), growth=0.05, horizon=1800.0)
    outcome = roll_out(Random(1), rollout, Version(0.0), Version(1.0))
    assert outcome.kind == "Open" and outcome.exposed < 30


def test_a_candidate_that_passes_needs_no_more_requests_than_the_table_says() -> None:
    found = outcomes(few(PASSES[2], 20))
    assert part(found, "Completed") == 1.0
    assert max(outcome.exposed for outcome in found) < 1500


def test_the_page_has_the_tables_that_the_command_writes() -> None:
    text = DOCS.read_text()
    assert "python -m hotswap_proxy.deploy.judge.tables" in text
    rows = [line for line in text.splitlines() if re.match(r"\| (\d+\.\d%|\d+% fail|latency ×) ", line)]
    assert len(rows) == sum(map(len, (ALARMS, HARMS, SLOW, PASSES)))
    for line in rows[: len(ALARMS)]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert float(cells[6].rstrip("%")) / 100 <= 1 - float(cells[4]), line
    for line in rows[len(ALARMS) : len(ALARMS) + len(HARMS) + len(SLOW)]:
        assert " 100% " in line, line


# --- the forecast -------------------------------------------------------------------------------------


def request(**fields: Any) -> SimulationRequest:
    return SimulationRequest.model_validate({"requestsPerSecond": 100, "runs": 20} | fields)


def test_a_forecast_says_how_long_and_how_many() -> None:
    answer = forecast(request(harms=[{"errorRateIncrease": 100.0}], requestsPerUser=10))
    assert answer.planned_seconds == 900.0
    assert answer.seconds is not None and answer.seconds.median >= 900.0
    assert answer.completed == 1.0 and answer.false_alarm == 0.0 and answer.false_alarm_limit == 0.01
    assert [phase.chance_held for phase in answer.phases] == [0.0, 0.0, 0.0]
    (harm,) = answer.harms
    assert harm.chance_found == 1.0 and harm.chance_completed == 0.0
    assert harm.seconds is not None and harm.seconds.p95 <= 10
    assert harm.exposed_requests is not None and harm.exposed_requests.median == 30
    assert harm.exposed_users is not None and harm.exposed_users.median == 3
    assert harm.failed_requests is not None and harm.failed_requests.median == 30


def test_the_same_question_has_the_same_answer() -> None:
    asked = request(runs=20, phases=[{"trafficPercentage": 10, "duration": "1m"}])
    assert forecast(asked) == forecast(asked)


def test_little_traffic_holds_a_phase_longer() -> None:
    answer = forecast(request(requestsPerSecond=2, phases=[{"trafficPercentage": 10, "duration": "1m"}]))
    assert answer.phases[0].chance_held == 1.0


def test_latency_is_forecast_when_it_is_given() -> None:
    asked = request(
        requestsPerSecond=500,
        latency=[[20_000, 900], [30_000, 90], [60_000, 10]],
        phases=[{"trafficPercentage": 50, "duration": "1m"}],
        harms=[{"latencyIncrease": 300}],
    )
    (harm,) = forecast(asked).harms
    assert harm.chance_found == 1.0 and harm.seconds is not None and harm.seconds.p95 < 60


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"requestsPerSecond": 0}, "greater than or equal to 0.01"),
        ({"runs": 100_000}, "less than or equal to 2000"),
        ({"runs": 2000}, "at most "),
        ({"harms": [{}]}, "a harm needs errorRateIncrease or latencyIncrease"),
        ({"harms": [{"latencyIncrease": 100}]}, "latencyIncrease needs latency"),
        ({"latency": {"p50": 20, "p99": 10}}, "p99 must be more than p50"),
        ({"latency": [[1000, 0]]}, "a histogram needs requests"),
        ({"phases": [{"trafficPercentage": 50, "duration": "1m"}] * 2}, "more than the one before"),
        ({"rate": 5}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_simulated_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        request(**fields)


def test_a_spread_is_the_median_and_the_95th_percentile() -> None:
    found = spread([float(n) for n in range(1, 101)])
    assert found is not None and (found.median, found.p95) == (50.0, 95.0)
    assert spread([]) is None


def test_every_field_of_a_request_is_described() -> None:
    described = set(re.findall(r"\w+", " ".join(re.findall(r"^\| ([^|]+) \|", DOCS.read_text(), re.M))))
    assert {field.alias for field in SimulationRequest.model_fields.values()} <= described
