from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from hotswap_proxy.model import Duration, duration_ms


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("250ms", 250),
        ("5s", 5000),
        ("1.5s", 1500),
        ("1m", 60_000),
        ("2h", 7_200_000),
        ("PT5M", 300_000),
        ("PT0.25S", 250),
        ("PT1H30M", 5_400_000),
        ("P1D", 86_400_000),
        ("P1DT1S", 86_401_000),
    ],
)
def test_both_notations(text: str, milliseconds: int) -> None:
    assert duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 s", "s", "-5s", "5S", "1m30s", "P", "PT", "P1W", "PT5", "5M", "PT5M ", "P1DT", "٥s"]
)
def test_other_notations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration_ms(text)


@pytest.mark.parametrize("text", ["0s", "25h", "P2D", "0.1ms"])
def test_the_range_is_one_millisecond_to_a_day(text: str) -> None:
    with pytest.raises(ValidationError, match="between 1ms and 24h"):
        TypeAdapter(Duration).validate_python(text)


def test_a_duration_is_kept_as_it_was_given() -> None:
    assert TypeAdapter(Duration).validate_python("PT5M") == "PT5M"
