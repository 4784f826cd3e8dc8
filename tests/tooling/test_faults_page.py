"""The page about faults and the tests that prove it name each other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = [line for line in (ROOT / "docs" / "faults.md").read_text().splitlines() if line.startswith("| ")]


def named_in(directory: str) -> set[str]:
    files = (ROOT / "tests" / directory).glob("test_*.py")
    return {
        name for file in files for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.M)
    }


def test_every_row_names_a_test_that_exists() -> None:
    rows = [line for line in TABLE if not line.startswith("| fault ")]
    assert len(rows) > 20
    known = named_in("chaos") | named_in("store") | named_in("e2e")
    for row in rows:
        last = row.rstrip(" |").rpartition("| ")[2]
        named = re.findall(r"`(test_\w+)`", last)
        assert named or last == "the same", row
        assert set(named) <= known, row


def test_every_test_of_the_fault_suite_has_a_row() -> None:
    assert named_in("chaos") <= set(re.findall(r"test_\w+", "\n".join(TABLE)))
