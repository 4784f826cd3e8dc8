"""docs/logs.md says what the access log is: its fields, flags and hidden parameters."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hotswap_proxy import _core

PAGE = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()


def part(begin: str, end: str) -> str:
    return PAGE.partition(begin)[2].partition(end)[0]


def test_every_flag_is_described_as_the_core_means_it() -> None:
    described = re.findall(r"^\| ([A-Z]+) \| (.+) \|$", part("### Flags", "### Recipes"), re.M)
    assert described == _core.response_flags()


def test_every_hidden_parameter_is_named() -> None:
    named = part("In the query,", "The path is not looked into").partition("--access-log-redact`:")[2]
    assert re.findall(r"`([^`]+)`", named) == list(_core.REDACTED_PARAMETERS)


def test_the_example_is_a_line_and_its_fields_are_described() -> None:
    rows = re.findall(r"^\| ([\w, ]+) \|", part("## The line of a request", "### Flags"), re.M)
    described = {name for row in rows for name in row.split(", ")} - {"field"}
    example = json.loads(part("```json\n", "```"))
    assert set(example) == described - {"traceId", "spanId"}
