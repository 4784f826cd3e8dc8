"""The dashboards of deploy/grafana as they are on disk: panels, queries, variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboards"
NAMES = ("overview", "route", "deployment", "fleet")
METRIC = re.compile(r"\b(?:gateway|deployments|configs?|instances)_[a-z0-9_]+")
SUFFIXES = ("_bucket", "_sum", "_count")
VALUES = {"node": ".*", "route": ".*", "deployment": "dep-1", "name": "x"}
WINDOWS = {"$__rate_interval": "1m", "$__range": "5m", "$__interval": "15s"}


@dataclass(frozen=True, slots=True)
class Query:
    board: str
    panel: str
    expr: str
    legend: str

    def filled(self, **variables: str) -> str:
        """With values for the variables; all of them by default."""
        text = self.expr
        for name, window in WINDOWS.items():
            text = text.replace(name, window)
        for name, value in {
            "node": ".*",
            "route": ".*",
            "deployment": "dep-1",
            "name": "x",
            **variables,
        }.items():
            text = re.sub(rf"\${name}\b", value, text)
        return text


def board(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_text())
    return found


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in board(name)["panels"] if panel["type"] != "row"]


def variables(name: str) -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in board(name)["templating"]["list"]}


def queries(name: str) -> Iterator[Query]:
    """Those of panels, variables and annotations."""
    for panel in panels(name):
        for target in panel.get("targets", ()):
            yield Query(name, panel["title"], target["expr"], target.get("legendFormat", ""))
    for variable in variables(name).values():
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]["query"])
            assert found is not None, variable["query"]
            yield Query(name, f"variable {variable['name']}", found[1], "")
    for annotation in board(name)["annotations"]["list"]:
        yield Query(name, f"annotation {annotation['name']}", annotation["expr"], "")


def every_query() -> list[Query]:
    return [query for name in NAMES for query in queries(name)]


def metrics(expr: str) -> set[str]:
    """The metrics that an expression names, without the suffixes of histograms."""
    found = set()
    for name in METRIC.findall(re.sub(r'"[^"]*"', '""', expr)):
        for suffix in SUFFIXES:
            name = name.removesuffix(suffix)
        found.add(name)
    return found
