"""Figures of processes, and rates."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from hotswap_proxy.observe import process
from hotswap_proxy.observe.rates import Rate


def test_figures_of_a_living_process() -> None:
    found = process.figures(os.getpid())
    assert found is not None
    assert process.cpu_seconds(os.getpid()) > 0  # type: ignore[operator]
    assert found.max_fds == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
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


def test_cpu_time_of_a_role_goes_on_with_whoever_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {1: 5.0, 2: 7.0}
    monkeypatch.setattr(process, "cpu_seconds", used.get)
    account = process.CpuAccount()
    account.note({1: "worker-0", 2: "worker-1"})
    used |= {1: 6.0, 3: 0.5}
    account.note({1: "worker-0", 2: "worker-1", 3: "worker-0"})  # the first one drains
    assert account.seconds() == {"worker-0": 6.5, "worker-1": 7.0}
    del used[1]
    used[2] = 0.25  # another process has the number
    account.note({2: "worker-1", 3: "worker-0"})
    assert account.seconds() == {"worker-0": 6.5, "worker-1": 7.25}
    account.note({3: "worker-0"})
    assert account.seconds() == {"worker-0": 6.5, "worker-1": 7.25}


def test_rate_over_a_window() -> None:
    rate = Rate(window=2)
    assert rate.per_second == 0
    for second, total in enumerate([0, 10, 20, 60]):
        rate.add(float(second), total)
    assert rate.per_second == 25  # from second 1 to 3
    rate.add(4.0, 5)
    assert rate.per_second == 0  # a total that shrank is no negative traffic
