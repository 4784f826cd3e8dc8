from __future__ import annotations

import pytest

from hotswap_proxy.control.changeset import next_version
from hotswap_proxy.control.plan import FieldChange, diff
from hotswap_proxy.errors import Conflict, ValidationFailed, field_path, from_core


@pytest.mark.parametrize(
    ("current", "taken", "expected"),
    [
        ("1.0", [], "1.1"),
        ("1.9", [], "1.10"),
        ("1.0", ["1.1", "1.2"], "1.3"),
        ("blue", [], "blue.1"),
        ("blue.1", [], "blue.2"),
        ("v7", [], "v8"),
        ("1.0-rc", [], "1.0-rc.1"),
    ],
)
def test_the_next_version(current: str, taken: list[str], expected: str) -> None:
    assert next_version(current, taken) == expected


def test_a_difference_is_told_by_its_leaves() -> None:
    old = {"a": 1, "b": [{"w": 1}, {"w": 2}], "c": {"x": 1}, "same": [1]}
    new = {"a": 2, "b": [{"w": 1}, {"w": 3}, {"w": 4}], "d": None, "same": [1]}
    assert list(diff(old, new)) == [
        FieldChange("a", 1, 2),
        FieldChange("b[1].w", 2, 3),
        FieldChange("b[2]", None, {"w": 4}),
        FieldChange("c", {"x": 1}, None),
    ]


def test_paths_leave_out_the_names_of_variants() -> None:
    assert field_path(("backends", 0, "inline", "url"), "routes[2]") == "routes[2].backends[0].url"


def test_problems_of_the_compiler_keep_their_kind() -> None:
    conflict = {"path": "upsertRoutes[0].pathPattern", "code": "CONFLICT", "message": "is taken by a"}
    invalid = {"path": "upsertRoutes[0].name", "code": "VALIDATION", "message": "bad"}
    error = from_core([invalid, conflict])
    assert isinstance(error, Conflict) and error.message == "is taken by a"
    assert [(detail.field, detail.rule) for detail in error.details] == [
        ("name", "validation"),
        ("pathPattern", "conflict"),
    ]
    assert isinstance(from_core([invalid]), ValidationFailed)
    assert isinstance(from_core([]), ValidationFailed)
