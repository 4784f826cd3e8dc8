"""What a change would do, in the words of the document: for dry runs, ``diff`` and the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal["route", "backend", "user", "apiKey"]
Action = Literal["added", "changed", "removed"]


class FieldChange(NamedTuple):
    """``old`` or ``new`` is None where the field is not there."""

    path: str
    old: Any
    new: Any

    def answer(self) -> dict[str, Any]:
        return {"path": self.path, "old": self.old, "new": self.new}


def diff(old: Any, new: Any, path: str = "") -> Iterator[FieldChange]:
    """The leaves in which two JSON documents differ, with paths such as ``backends[0].weight``."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from diff(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else None
            after = new[index] if index < len(new) else None
            yield from diff(before, after, f"{path}[{index}]")
    elif old != new:
        yield FieldChange(path, old, new)


@dataclass(frozen=True, slots=True)
class ObjectChange:
    kind: Kind
    action: Action
    id: str
    name: str
    fields: tuple[FieldChange, ...] = ()

    def answer(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "kind": self.kind, "action": self.action, "id": self.id, "name": self.name
        }  # fmt: skip
        if self.fields:
            told["fields"] = [change.answer() for change in self.fields]
        return told


@dataclass(slots=True)
class Plan:
    """Objects in the order in which they are given; ``unchanged`` counts those that stay as they are.
    ``needs_approval``: names of routes whose change takes a second person (see ``approval``).
    """

    changes: list[ObjectChange] = field(default_factory=list)
    unchanged: int = 0
    needs_approval: list[str] = field(default_factory=list)

    def count(self, action: Action) -> int:
        return sum(change.action == action for change in self.changes)

    def answer(self) -> dict[str, Any]:
        told = {
            "added": self.count("added"),
            "changed": self.count("changed"),
            "removed": self.count("removed"),
            "unchanged": self.unchanged,
            "changes": [change.answer() for change in self.changes],
        }
        return told | ({"needsApproval": self.needs_approval} if self.needs_approval else {})
