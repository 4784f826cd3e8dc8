"""Each test that docs/http.md names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cases import answers, chunks, fields, framing, heads, hosts, life, methods, targets

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "http.md").read_text().splitlines()
    if line.startswith("|") and not line.startswith(("| rule", "|---"))
]


def known() -> set[str]:
    files = (answers, chunks, fields, framing, heads, hosts, life, methods, targets)
    names = {case.id for file in files for case in file.CASES}
    for path in (ROOT / "tests").rglob("test_*.py"):
        names.update(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.M))
    for path in (ROOT / "rust" / "tests" / "codec").glob("*.rs"):
        names.update(re.findall(r"^\s*fn (\w+)", path.read_text(), re.M))
    return names


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_rule_has_a_test(row):
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 4, cells
    named = re.findall(r"`([^`]+)`", cells[3])
    assert named, "a rule without a test"
    assert set(named) <= known()
