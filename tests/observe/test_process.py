"""Figures of processes, and rates."""

from __future__ import annotations

import os
import subprocess
import sys

from hotswap_proxy.observe import process
from hotswap_proxy.observe.rates import Rate


def test_figures_of_a_living_process() -> None:
    found = process.figures(os.getpid())
    assert found is not None
    assert found.cpu_seconds > 0
    assert 1_000_000 < found.memory_bytes < process.machine_memory_bytes()
    before = found.open_fds
    read, write = os.pipe()
    after = process.figures(os.getpid())
    assert after is not None
    assert before is not None
    assert after.open_fds == before + 2
    os.close(read)
    os.close(write)


def test_a_process_that_is_gone_has_none() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert process.figures(child.pid) is None


def test_rate_over_a_window() -> None:
    rate = Rate(window=2)
    assert rate.per_second == 0
    for second, total in enumerate([0, 10, 20, 60]):
        rate.add(float(second), total)
    assert rate.per_second == 25  # from second 1 to 3
    rate.add(4.0, 5)
    assert rate.per_second == 0  # a total that shrank is no negative traffic
