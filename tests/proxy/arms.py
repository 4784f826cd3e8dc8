"""What the tests of routes with two arms share."""

from __future__ import annotations

import contextlib
from typing import Any

from harness.wait import eventually
from harness.worker import Plane, backend, route

SALT = "0123456789abcdef"
COUNTED = ("requests", "failed", "unavailable", "limited", "aborted", "refused", "active")


def assigned(kind: str, name: str | None = None) -> dict[str, str]:
    return {"type": kind} | ({"name": name} if name else {})


def split(
    stable: dict[str, Any],
    canary: dict[str, Any],
    share: int = 5_000,
    by: dict[str, str] | None = None,
    deployment: str = "d1",
) -> dict[str, Any]:
    """A route with a canary beside it."""
    second = {
        "deploymentId": deployment,
        "share": share,
        "salt": SALT,
        "assignment": by or assigned("Random"),
    }
    return stable | {"canary": second | {"route": canary}}


def versions(stable: str, canary: str, share: int = 5_000, **options: Any) -> dict[str, Any]:
    """The same for two versions that differ in their backend's URL."""
    new = route("/**", backend(canary, "new"), version="2.0")
    return split(route("/**", backend(stable, "old")), new, share, **options)


def arm(plane: Plane, name: str = "canary") -> dict[str, Any]:
    """The row of an arm."""
    return next(dict(row) for row in plane.node.arm_stats() if row["arm"] == name)


def came_to(plane: Plane, name: str = "canary", **counts: int) -> None:
    """Wait until an arm has these counts, and 0 in all the others."""
    wanted = dict.fromkeys(COUNTED, 0) | counts

    def found() -> dict[str, int]:
        row = arm(plane, name)
        return {key: row[key] for key in COUNTED}

    with contextlib.suppress(AssertionError):
        eventually(lambda: found() == wanted, 5)
    assert found() == wanted
