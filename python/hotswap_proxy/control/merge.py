"""What PUT makes of an object and the fields that are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hotswap_proxy.errors import Detail, ValidationFailed

from .compile import Document

# Answered with an object but not part of it; a client may send back what it got.
READ_ONLY = frozenset(
    {
        "createdAt",
        "createdBy",
        "updatedAt",
        "updatedBy",
        "statistics",
        "healthStatus",
        "configChangeApplied",
        "generation",
    }
)


def merge(old: Document, given: Mapping[str, Any], key: str) -> Document:
    """PUT changes the given fields; null takes an optional one away. Groups of settings are merged too."""
    given = {name: value for name, value in given.items() if name not in READ_ONLY}
    if given.get(key, old[key]) != old[key]:
        raise ValidationFailed.of([Detail(key, "immutable", f"{key} is {old[key]} and cannot be changed")])
    if "path" in given and "pathPattern" not in given:
        given["pathPattern"] = given.pop("path")
    for group in ("connectionPool", "timeouts"):
        if isinstance(given.get(group), dict) and group in old:
            given[group] = old[group] | given[group]
    check = given.get("healthCheck")
    # Field by field as well, but not from one type to another: their fields differ.
    if isinstance(check, dict) and check.get("type", kind := _check_type(old)) == kind:
        given["healthCheck"] = old.get("healthCheck", {}) | check
    return old | given


def _check_type(document: Document) -> Any:
    return document.get("healthCheck", {}).get("type", "Http")
