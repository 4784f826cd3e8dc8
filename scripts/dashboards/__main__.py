"""Write deploy/grafana/dashboards anew: python -m scripts.dashboards"""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from scripts.dashboards import deployment, fleet, overview, route

DIRECTORY = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboards"
BOARDS = {
    "overview": overview.build,
    "route": route.build,
    "deployment": deployment.build,
    "fleet": fleet.build,
}


def render(board: Dashboard) -> str:
    """The dashboard as a file. Panels are numbered in their order: ids that stay make links that stay."""
    built = board.build()
    for number, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number
    return json.dumps(built, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, build in BOARDS.items():
        (DIRECTORY / f"{name}.json").write_text(render(build()), encoding="utf-8")


if __name__ == "__main__":
    main()
