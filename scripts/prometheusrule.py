"""Write the alert rules of deploy/prometheus as a PrometheusRule: python -m scripts.prometheusrule"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
RULES, RESULT = (
    DEPLOY / "prometheus" / "alerts.yml",
    DEPLOY / "kubernetes" / "monitoring" / "prometheusrule.yaml",
)
HEADER = "# Made from deploy/prometheus/alerts.yml by `python -m scripts.prometheusrule`.\n"


def document() -> dict[str, Any]:
    """The rules in the shape that the Prometheus operator takes."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "gateway",
            "namespace": "hotswap-proxy",
            "labels": {"app.kubernetes.io/name": "hotswap-proxy"},
        },
        "spec": yaml.safe_load(RULES.read_text(encoding="utf-8")),
    }


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def render() -> str:
    """The file."""
    return HEADER + yaml.dump(document(), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


if __name__ == "__main__":
    RESULT.write_text(render(), encoding="utf-8")
