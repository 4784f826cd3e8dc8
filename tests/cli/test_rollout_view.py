"""How a deployment looks: pure functions of the API's answer, at a fixed width."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from hotswap_proxy.cli.rolloutview import changes, line, seconds, time_left, view

NOW = datetime(2026, 3, 1, 12, 2, 0, tzinfo=UTC)


def arm(requests: int, error_rate: float | None, p99: float | None, **excluded: int) -> dict[str, Any]:
    return {
        "requestCount": requests,
        "failed": 0,
        "errorRate": error_rate,
        "unavailable": 7 if excluded else 0,
        "excluded": excluded,
        "p50Latency": 1.25,
        "p95Latency": 4.0,
        "p99Latency": p99,
    }


def deployment(**fields: Any) -> dict[str, Any]:
    phases = [
        {"name": "10 %", "trafficPercentage": 10.0, "duration": "1m", "status": "Completed"},
        {"name": "50 %", "trafficPercentage": 50.0, "duration": "5m", "status": "InProgress"},
        {"name": "100 %", "trafficPercentage": 100.0, "duration": None, "status": "Pending"},
    ]
    phases[0] |= {"startedAt": "2026-03-01T12:00:00.000000Z", "completedAt": "2026-03-01T12:01:00.000000Z"}
    phases[1] |= {"startedAt": "2026-03-01T12:01:00.000000Z", "completedAt": None}
    phases[2] |= {"startedAt": None, "completedAt": None}
    found = {
        "deploymentId": "dep-1",
        "routeName": "users",
        "stableVersion": "1.0",
        "configVersion": "1.1",
        "strategy": "Canary",
        "assignment": "Cookie:session",
        "status": "InProgress",
        "approvalStatus": "NotRequired",
        "message": "promoted by ann to 50 %",
        "phases": phases,
        "currentPhase": 1,
        "trafficPercentage": 50.0,
        "nodes": None,
        "nodesDone": None,
        "pausedAt": None,
        "pausedSeconds": 0.0,
    }
    return found | fields


def metrics(**comparison: Any) -> dict[str, Any]:
    told = {"verdict": "Hold", "reason": "too few requests to tell", "requestsNeeded": 1200}
    return {
        "measuredPercentage": 49.8,
        "stable": arm(12345, 0.001, 18.0),
        "canary": arm(12244, 0.0125, 12_500.0, limited=3, aborted=0),
        "comparison": told | comparison,
        "nodes": [{"nodeId": "n1"}, {"nodeId": "n2"}],
    }


def drawn(found: dict[str, Any], counted: dict[str, Any] | None, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(view(found, counted, NOW))
    return capture.get()


def row(text: str, beginning: str) -> list[str]:
    """The words of the first line that begins so."""
    return next(each for each in text.splitlines() if each.startswith(beginning)).split()


def test_the_view_says_what_goes_where_and_how_far_it_is() -> None:
    text = drawn(deployment(), metrics())
    assert "users 1.0 → 1.1" in text and "dep-1" in text
    assert "Canary, sticky by Cookie:session" in text
    assert "● InProgress" in text and "promoted by ann to 50 %" in text
    assert row(text, "✔ 10 %")[-1] == "Completed"
    assert row(text, "● 50 %")[-4:] == ["%", "5m", "4m", "left"]
    assert row(text, "○ 100 %")[-1] == "-"
    assert "set 50 %, measured 49.8 %" in text


def test_the_view_has_both_arms_numbers() -> None:
    text = drawn(deployment(), metrics())
    assert row(text, "stable") == [
        *("stable", "12,345", "0.10", "%", "1.25", "ms", "4", "ms", "18", "ms", "0", "-")
    ]
    assert row(text, "canary") == [
        *("canary", "12,244", "1.25", "%", "1.25", "ms", "4", "ms", "12.50", "s", "7", "3", "limited")
    ]


def test_the_view_says_what_the_judge_says() -> None:
    hold = "◷ Hold: too few requests to tell; about 1,200 more requests needed"
    assert hold in drawn(deployment(), metrics())
    fail = metrics(verdict="Fail", reason="5 points more errors", requestsNeeded=None)
    assert "✖ Fail: 5 points more errors\n" in drawn(deployment(), fail)
    ended = drawn(deployment(status="RolledBack"), metrics())
    assert "more requests needed" not in ended and "↩ RolledBack" in ended


def test_the_view_says_which_nodes_have_it() -> None:
    assert "Nodes  ✔ n1  ✔ n2" in drawn(deployment(), metrics())
    rolling = deployment(strategy="Rolling", nodes=["n1", "n2", "n3"], nodesDone=["n1"])
    assert "Nodes  ✔ n1  ○ n2  ○ n3" in drawn(rolling, metrics())


def test_the_view_does_without_what_is_not_known_yet() -> None:
    text = drawn(deployment(status="Pending", approvalStatus="Pending", stableVersion=None), None)
    assert "◷ Pending, waits for the approval of another administrator" in text
    assert "nothing measured yet" in text and "users - → 1.1" in text
    nothing = metrics(verdict=None, reason="nothing was judged yet", requestsNeeded=None)
    nothing |= {"measuredPercentage": None, "canary": arm(0, None, None)}
    text = drawn(deployment(), nothing)
    assert row(text, "canary")[1:3] == ["0", "-"] and "○ none: nothing was judged yet" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_view_fits_the_terminal(width: int) -> None:
    assert max(map(len, drawn(deployment(), metrics(), width).splitlines())) <= width


def test_what_comes_from_others_is_no_markup() -> None:
    text = drawn(deployment(message="[red]x[/red] [/]", routeName="[b]"), metrics(reason="[i]y"))
    assert "[red]x[/red] [/]" in text and "[b] 1.0" in text and "[i]y" in text


def test_time_left_is_without_the_pauses() -> None:
    found = deployment()
    phase = found["phases"][1]
    assert time_left(found, phase, NOW) == 240
    assert time_left(found | {"pausedSeconds": 30.0}, phase, NOW) == 270
    paused = found | {"pausedAt": "2026-03-01T12:01:10.000000Z"}
    assert time_left(paused, phase, NOW) == 290
    assert time_left(found, phase | {"startedAt": "2026-03-01T11:00:00Z"}, NOW) == 0
    assert time_left(found, phase | {"duration": None}, NOW) is None
    assert time_left(found, found["phases"][2], NOW) is None
    assert [seconds(each) for each in (0.2, 59.6, 61, 3600, 3725)] == ["0s", "1m", "1m1s", "1h", "1h2m5s"]


def test_a_line_for_a_log_says_the_same() -> None:
    assert line(deployment(), metrics()) == (
        "users 1.0 → 1.1 InProgress; phase 2/3 50 %; stable 12345 requests 0.10 % errors p99 18 ms; "
        "canary 12244 requests 1.25 % errors p99 12.50 s; "
        "◷ Hold: too few requests to tell; about 1,200 more requests needed; promoted by ann to 50 %"
    )
    assert line(deployment(status="Completed", message=""), None) == "users 1.0 → 1.1 Completed"


def test_a_new_line_is_for_news() -> None:
    same = list(changes(deployment(), metrics()))
    assert list(changes(deployment(message="other words"), metrics(requestsNeeded=7))) == same
    for other in (
        changes(deployment(status="Paused"), metrics()),
        changes(deployment(trafficPercentage=60.0), metrics()),
        changes(deployment(currentPhase=2), metrics()),
        changes(deployment(), metrics(verdict="Pass")),
        changes(deployment(nodesDone=["n1"]), metrics()),
    ):
        assert list(other) != same
