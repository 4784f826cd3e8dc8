"""A bounded share of ``make fuzz``, the same inputs each time, after all that it has ever found."""

from __future__ import annotations

import os
import time

import pytest
from fuzz import fuzz_live, fuzz_parsers
from harness.worker import CODECS

SECONDS = float(os.environ.get("FUZZ_SECONDS", "9"))  # for each


@pytest.mark.parametrize("kind", ["requests", "responses"])
def test_both_codecs_and_h11_read_the_same(kind):
    assert fuzz_parsers(kind, SECONDS, seed=1) > 0


@pytest.mark.parametrize("codec", CODECS)
def test_a_worker_outlives_both_sides(codec):
    began = time.monotonic()
    assert fuzz_live(codec, SECONDS, seed=2) > 0
    assert time.monotonic() - began < SECONDS + 60
