"""``deployments simulate``: without a gateway."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from hotswap_proxy.cli.app import app

ARGS = ("deployments", "simulate", "--rate", "200", "--runs", "20", "--phase", "10:1m")


def run(*args: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*ARGS, *args])
    assert done.exit_code == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout if code == 0 else done.stderr


def test_a_table_for_people() -> None:
    text = run("--harm", "100", "--p50", "20", "--p99", "60", "--slower", "400")
    assert "completes in 100 % of 20 rollouts" in text
    assert "+100 points of errors" in text and "+400 % latency" in text and "10 %" in text


def test_json_for_programs() -> None:
    answer = json.loads(run("--harm", "100", "-o", "json"))
    assert answer["runs"] == 20 and answer["phases"][0]["duration"] == "1m"
    assert [harm["errorRateIncrease"] for harm in answer["harms"]] == [100]


def test_what_is_wrong_is_said() -> None:
    assert "runs" in run("--runs", "5", code=2)
    assert "belong together" in run("--p50", "5", code=2)
    assert "write 10:5m" in run("--phase", "ten", code=2)
    assert "duration" in run("--phase", "20", code=2)
