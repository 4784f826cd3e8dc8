"""Tells of backends that are left alone: circuits that open and close, ejections. The workers decide; what
they did is read from shared memory here, and said once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hotswap_proxy.timestamps import rfc3339

log = logging.getLogger("hotswap_proxy.control")

JUDGE_EVERY = 5  # looks, one a second, between two judgements of outliers
# As the core names the states → (state, who decides) as the API does.
STATES = {
    "Closed": ("Closed", "Auto"),
    "Open": ("Open", "Auto"),
    "HalfOpen": ("HalfOpen", "Auto"),
    "HeldOpen": ("Open", "Open"),
    "HeldClosed": ("Closed", "Closed"),
}


class Troubles(Protocol):
    """What is read of ``_core.Node``."""

    def troubled(self) -> Sequence[Mapping[str, Any]]: ...
    def eject_outliers(self) -> list[str]: ...


def circuit(row: Mapping[str, Any]) -> dict[str, str]:
    """``circuitBreaker`` of a backend: its state, and whether that is by order."""
    state, mode = STATES[row["circuit"]]
    return {"state": state, "mode": mode}


def ejected_until(row: Mapping[str, Any]) -> str | None:
    """The end of an ejection as a time of day, or None."""
    left = row["ejectedUntil"] - time.monotonic()
    if left <= 0:
        return None
    return rfc3339(time.time() + left)


def _news(circuit: str) -> tuple[str, str]:
    """A state as far as its changes are worth a line: on trial is still not closed."""
    return STATES["Open" if circuit == "HalfOpen" else circuit]


def _ejected(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {address: row["ejectedUntil"] for address, row in rows.items() if row["ejectedUntil"]}


class StandingWatch:
    """Call ``look`` each second. ``tell(event, address, **more)`` hears of circuits and ejections."""

    def __init__(self, node: Troubles, tell: Callable[..., None], *, outliers: bool = True) -> None:
        self._node = node
        self._tell = tell
        self._outliers = outliers
        self._looks = 0
        self.ejected_outliers = 0
        self._circuits: dict[str, str] = {}
        self._ejected: dict[str, float] = {}

    def begin(self) -> None:
        """What is known now is no news: another process has told it."""
        rows = {row["address"]: row for row in self._node.troubled()}
        self._circuits = {address: row["circuit"] for address, row in rows.items()}
        self._ejected = _ejected(rows)

    def look(self) -> None:
        """Compare with the look before; log and tell what has changed."""
        self._looks += 1
        reasons: dict[str, str] = {}
        if self._outliers and self._looks % JUDGE_EVERY == 0:
            reasons = dict.fromkeys(self._node.eject_outliers(), "it fails far more often than its peers")
            self.ejected_outliers += len(reasons)
        rows = {row["address"]: row for row in self._node.troubled()}
        self._compare_circuits({address: row["circuit"] for address, row in rows.items()})
        self._compare_ejections(rows, reasons)

    def _compare_circuits(self, found: dict[str, str]) -> None:
        for address in sorted(found.keys() | self._circuits.keys()):
            before, after = (_news(each.get(address, "Closed")) for each in (self._circuits, found))
            if before != after:
                level = logging.WARNING if after[0] == "Open" else logging.INFO
                name = f"circuit {after[0].lower()}" + ("" if after[1] == "Auto" else " by order")
                log.log(level, name, extra={"backend": address})
                event = "backend.circuitOpened" if after[0] == "Open" else "backend.circuitClosed"
                if before[0] != after[0]:
                    self._tell(event, address, byOrder=after[1] != "Auto")
        self._circuits = found

    def _compare_ejections(self, rows: Mapping[str, Mapping[str, Any]], reasons: Mapping[str, str]) -> None:
        found = _ejected(rows)
        for address in sorted(found.keys() - self._ejected.keys()):
            reason = reasons.get(address, "connections could not be made")
            until = ejected_until(rows[address])
            log.warning("backend ejected", extra={"backend": address, "until": until, "reason": reason})
            self._tell("backend.ejected", address, ejectedUntil=until, reason=reason)
        for address in sorted(self._ejected.keys() - found.keys()):
            log.info("backend readmitted", extra={"backend": address})
            self._tell("backend.readmitted", address)
        self._ejected = found
