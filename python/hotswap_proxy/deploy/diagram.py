"""The transition tables as Mermaid diagrams, for docs/deployments.md.

``python -m hotswap_proxy.deploy.diagram docs/deployments.md`` writes them between the page's markers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from .transitions import ENDED, FIRST, PHASES, TABLE

BEGIN, END = "<!-- {name}: made from the transition table -->", "<!-- end of {name} -->"


def deployment_diagram() -> str:
    """All statuses of a deployment. Events between the same two are one arrow."""
    lines = [f"[*] --> {status}" for status in FIRST]
    lines += _arrows((status, move.status, event) for (status, event), move in TABLE.items())
    lines += [f"{status} --> [*]" for status in ENDED]
    return _fenced(lines)


def phase_diagram() -> str:
    """All statuses of a phase."""
    arrows = _arrows((status, after, event) for (status, event), after in PHASES.items())
    ends = [status for status in dict.fromkeys(PHASES.values()) if status not in {s for s, _ in PHASES}]
    return _fenced(["[*] --> Pending", *arrows, *(f"{status} --> [*]" for status in ends)])


def render(page: str) -> str:
    """The page with both diagrams as the tables are now. ValueError: a marker is not there."""
    for name, text in (("deployment diagram", deployment_diagram()), ("phase diagram", phase_diagram())):
        begin, end = BEGIN.format(name=name), END.format(name=name)
        found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not found.search(page):
            raise ValueError(f"the page has no {begin} … {end}")
        page = found.sub(lambda _, new=f"{begin}\n\n{text}\n\n{end}": new, page)  # type: ignore[misc]
    return page


def _arrows(moves: Iterable[tuple[str, str, str]]) -> list[str]:
    events: dict[tuple[str, str], list[str]] = {}
    for before, after, event in moves:
        events.setdefault((before, after), []).append(event.replace("_", " "))
    return [f"{before} --> {after}: {', '.join(names)}" for (before, after), names in events.items()]


def _fenced(lines: list[str]) -> str:
    body = "\n".join(f"    {line}" for line in lines)
    return f"```mermaid\nstateDiagram-v2\n{body}\n```"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(render(path.read_text()))
