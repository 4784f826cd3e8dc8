"""The Grafana dashboards: as their builders write them, by Grafana's types and Prometheus' parser."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from harness.prometheus import promtool

from scripts.dashboards.__main__ import BOARDS, render
from tests.delivery import boards

ROOT = Path(__file__).resolve().parents[2]
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
WINDOWS = {"__rate_interval", "__range", "__interval", "__from", "__to", "__url_time_range"}
BUILT_IN = WINDOWS | {"__value", "__all"}
USED = re.compile(r"\$(?:\{([a-z_]+)(?::\w+)?(?:\.\w+)?\}|([a-z_]+)\b)")


def test_there_are_these() -> None:
    assert {path.stem for path in boards.DIRECTORY.glob("*")} == set(boards.NAMES) == set(BOARDS)


@pytest.mark.parametrize("name", boards.NAMES)
def test_files_are_what_the_builders_write(name: str) -> None:
    written = (boards.DIRECTORY / f"{name}.json").read_text()
    assert written == render(BOARDS[name]()), "run: make generate"


@pytest.mark.parametrize("name", boards.NAMES)
def test_grafana_s_types_read_all_of_it(name: str) -> None:
    """What the types do not know would be lost on the way."""
    register_default_plugins()
    raw = boards.board(name)
    again = json.loads(json.dumps(Dashboard.from_json(raw), cls=JSONEncoder))
    assert again == raw


def grafana_anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def test_runbooks_that_are_linked_exist() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text()
    anchors = {grafana_anchor(heading) for heading in re.findall(r"^## (.+)$", text, re.M)}
    linked = set()
    for name in boards.NAMES:
        urls = re.findall(r"\$\{docs\}/runbooks\.md#([\w-]+)", json.dumps(boards.board(name)))
        assert urls, name
        linked |= set(urls)
    assert linked <= anchors


def test_links_lead_to_dashboards_there_are() -> None:
    uids = [boards.board(name)["uid"] for name in boards.NAMES]
    assert len(set(uids)) == len(uids)
    for name in boards.NAMES:
        text = json.dumps(boards.board(name))
        assert set(re.findall(r"/d/([\w-]+)", text)) <= set(uids)
        for uid, variable in re.findall(r"/d/([\w-]+)\?[^\"]*var-(\w+)=", text):
            [target] = [other for other in boards.NAMES if boards.board(other)["uid"] == uid]
            assert variable in boards.variables(target)


@pytest.mark.parametrize("name", boards.NAMES)
def test_every_variable_that_is_used_is_there(name: str) -> None:
    text = json.dumps({key: value for key, value in boards.board(name).items() if key != "uid"})
    used = set(re.findall(r"\$\{([a-z_]+)(?::\w+)?(?:\.\w+)?\}", text)) | set(
        re.findall(r"\$([a-z_]+)\b", text)
    )
    assert used - BUILT_IN <= set(boards.variables(name))
    assert set(boards.variables(name)) - {"name"} <= used | {"name"}, "a variable that changes nothing"


@pytest.mark.parametrize("name", boards.NAMES)
def test_panels_tell_what_they_show(name: str) -> None:
    shown = boards.panels(name)
    titles = [panel["title"] for panel in shown]
    assert all(titles) and len(set(titles)) == len(titles)
    for panel in shown:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            if panel["type"] in ("timeseries", "state-timeline"):
                assert target["legendFormat"], panel["title"]
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    assert boards.board(name)["schemaVersion"] >= 36 and boards.board(name)["tags"] == ["hotswap-proxy"]


@pytest.mark.parametrize("name", boards.NAMES)
def test_panels_fit_beside_each_other(name: str) -> None:
    places = [panel["gridPos"] for panel in boards.board(name)["panels"]]
    ids = [panel["id"] for panel in boards.board(name)["panels"]]
    assert len(set(ids)) == len(ids)
    for place in places:
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


def test_every_metric_is_documented() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    documented = set(boards.METRIC.findall(pages))
    used = {metric: query for query in boards.every_query() for metric in boards.metrics(query.expr)}
    assert len(used) > 40
    assert {name: used[name] for name in set(used) - documented} == {}


def test_prometheus_can_parse_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"{query.board}:{index}", "expr": query.filled()}
        for index, query in enumerate(boards.every_query())
    ]
    assert checked(rules, tmp_path).returncode == 0, checked(rules, tmp_path).stdout
    assert checked([{"record": "a:b", "expr": "sum(rate(x)"}], tmp_path).returncode != 0


def checked(rules: list[dict[str, str]], directory: Path) -> subprocess.CompletedProcess[str]:
    file = directory / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    return promtool("check", "rules", "--lint=none", str(file))


def provisioned(kind: str) -> dict[str, Any]:
    [file] = (PROVISIONING / kind).glob("*.yaml")
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    assert found["apiVersion"] == 1
    return found


def test_grafana_is_given_data_sources_and_dashboards() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    sources = provisioned("datasources")["datasources"]
    assert {source["type"] for source in sources} == {"prometheus", "jaeger"}
    for source in sources:
        host = re.fullmatch(r"http://([\w-]+):\d+", source["url"])
        assert host is not None and host[1] in compose
        assert source["access"] == "proxy"
    [provider] = provisioned("dashboards")["providers"]
    mounted = [volume.split(":")[1] for volume in compose["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted
    home = compose["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (boards.DIRECTORY / Path(home).name).exists()
