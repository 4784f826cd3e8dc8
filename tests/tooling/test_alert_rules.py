"""What is given to Prometheus: its tools are content, alerts fire and do not, and lead to runbooks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.prometheus import promtool

TOP = Path(__file__).resolve().parent.parent.parent
DEPLOY = TOP / "deploy" / "prometheus"
RULES, CASES = DEPLOY / "alerts.yml", DEPLOY / "alerts_test.yml"


def rules(kind: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "--lint-fatal", str(RULES)),
        ("check", "config", "--lint-fatal", str(DEPLOY / "prometheus.yml")),
        ("test", "rules", str(CASES)),
    ],
    ids=["rules", "config", "cases"],
)
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    done = promtool(*arguments)
    assert done.returncode == 0 and "FAILED" not in done.stdout, done.stdout


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires: set[str] = set()
    is_quiet: set[str] = set()
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for check in case["alert_rule_test"]:
            (fires if check["exp_alerts"] else is_quiet).add(check["alertname"])
    names = {rule["alert"] for rule in rules("alert")}
    assert names - fires == set()
    assert names - is_quiet == set()


def test_promtool_would_find_an_alert_that_does_not_fire(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(
        RULES.read_text().replace("gateway_backend_up) == 0", "gateway_backend_up) < 0")
    )
    (tmp_path / "cases.yml").write_text(CASES.read_text())
    done = promtool("test", "rules", str(tmp_path / "cases.yml"))
    assert done.returncode != 0 and "GatewayBackendDown" in done.stdout


def anchors(page: Path) -> set[str]:
    """Of headings, as they are made of their text."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor in anchors(TOP / page)


def test_the_page_lists_the_alerts_and_recording_rules() -> None:
    page = (TOP / "docs" / "metrics.md").read_text()
    listed = dict(re.findall(r"^\| `(Gateway\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert listed == {rule["alert"]: rule["labels"]["severity"] for rule in rules("alert")}
    for rule in rules("record"):
        level, name, window = rule["record"].split(":")
        assert f"`{rule['record']}`" in page or (f"`{level}:{name}:" in page and f"`:{window}`" in page)
