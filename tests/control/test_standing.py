"""What is said of circuits and ejections: once, at the edges."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from hotswap_proxy.control.standing import JUDGE_EVERY, StandingWatch, circuit, ejected_until

A, B = "http://10.0.0.1:80", "http://10.0.0.2:80"


class Node:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.outliers: list[str] = []
        self.judged = 0

    def troubled(self) -> list[dict[str, Any]]:
        return self.rows

    def eject_outliers(self) -> list[str]:
        self.judged += 1
        return self.outliers


def row(address: str, state: str = "Closed", ejected: float = 0.0) -> dict[str, Any]:
    return {"address": address, "circuit": state, "ejectedUntil": ejected}


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def watch(node: Node, told: list[tuple[str, str]]) -> StandingWatch:
    return StandingWatch(node, lambda event, address, **_more: told.append((event, address)))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.message for record in caplog.records]
    caplog.clear()
    return found


def test_a_circuit_is_told_of_when_it_opens_and_when_it_closes(
    node: Node, watch: StandingWatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for state, said in [
        ("Open", ["circuit open"]),
        ("Open", []),
        ("HalfOpen", []),
        ("Open", []),
        ("Closed", ["circuit closed"]),
        ("HeldOpen", ["circuit open by order"]),
        ("HeldClosed", ["circuit closed by order"]),
        ("Closed", ["circuit closed"]),
    ]:
        node.rows = [] if state == "Closed" else [row(A, state)]
        watch.look()
        assert lines(caplog) == said, state


def test_an_ejection_is_told_of_like_a_health_flip(
    node: Node, watch: StandingWatch, told: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node.rows = [row(A, ejected=time.monotonic() + 10)]
    watch.look()
    watch.look()
    node.rows.append(row(B, ejected=time.monotonic() + 10))
    watch.look()
    node.rows = []
    watch.look()
    assert told == [
        ("backend.ejected", A),
        ("backend.ejected", B),
        ("backend.readmitted", A),
        ("backend.readmitted", B),
    ]
    assert lines(caplog) == ["backend ejected", "backend ejected", "backend readmitted", "backend readmitted"]


def test_outliers_are_judged_every_few_seconds_and_not_when_turned_off(
    node: Node, watch: StandingWatch
) -> None:
    node.outliers = [A]
    for _ in range(2 * JUDGE_EVERY):
        watch.look()
    assert (node.judged, watch.ejected_outliers) == (2, 2)
    quiet = StandingWatch(node, lambda *_args, **_more: None, outliers=False)
    for _ in range(2 * JUDGE_EVERY):
        quiet.look()
    assert node.judged == 2


def test_states_as_the_api_has_them() -> None:
    assert circuit(row(A, "HeldOpen")) == {"state": "Open", "mode": "Open"}
    assert circuit(row(A, "HalfOpen")) == {"state": "HalfOpen", "mode": "Auto"}
    assert ejected_until(row(A)) is None
    assert (ejected_until(row(A, ejected=time.monotonic() + 60)) or "").endswith("Z")
