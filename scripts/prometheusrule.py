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


def render() -> str:
    return HEADER + yaml.safe_dump(document(), sort_keys=False, width=100, allow_unicode=True)


if __name__ == "__main__":
    RESULT.write_text(render(), encoding="utf-8")
