"""What was counted of the two arms of a deployment, over the same moments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

Latency = Mapping[int, int]  # upper bound of a bucket, microseconds → requests

# What says nothing about a version, by reason: listed, and not judged with the requests. More clients that go
# away than at the other arm do say something, see judge/criteria.py.
EXCLUDED = ("limited", "aborted", "refused")


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """Counts of one arm. Only first attempts are judged: a retry hides what the version did."""

    requests: int = 0  # judged: first attempts that came to an end
    failed: int = 0  # of them: 5xx, no connection, no answer in time, or one that broke off
    unavailable: int = (
        0  # not judged with them: answered 503 because none of the arm's backends took requests
    )
    excluded: Mapping[str, int] = field(default_factory=dict)  # see EXCLUDED
    latency: Latency = field(default_factory=dict)  # of what is in ``requests``

    @property
    def error_rate(self) -> float | None:
        """Failed part of the judged requests, 0–1; None without requests."""
        return self.failed / self.requests if self.requests else None

    def __add__(self, other: Self) -> ArmCounts:
        return self._combined(other, 1)

    def __sub__(self, other: Self) -> ArmCounts:
        """What came after ``other``, an earlier measurement of the same arm."""
        return self._combined(other, -1)

    def _combined(self, other: Self, sign: int) -> ArmCounts:
        requests = max(0, self.requests + sign * other.requests)
        # A request that was just being counted when ``other`` was read may be missing in one of them.
        failed = min(requests, max(0, self.failed + sign * other.failed))
        return ArmCounts(
            requests,
            failed,
            max(0, self.unavailable + sign * other.unavailable),
            _merged(self.excluded, other.excluded, sign),
            _merged(self.latency, other.latency, sign),
        )

    def document(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "failed": self.failed,
            "unavailable": self.unavailable,
            "excluded": dict(self.excluded),
            "latency": [[bound, count] for bound, count in sorted(self.latency.items())],
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        latency = {int(bound): int(count) for bound, count in document["latency"]}
        counts = (document["requests"], document["failed"], document["unavailable"])
        return cls(*counts, dict(document["excluded"]), latency)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Both arms of a deployment."""

    stable: ArmCounts = field(default_factory=ArmCounts)
    canary: ArmCounts = field(default_factory=ArmCounts)

    def __add__(self, other: Self) -> Measurement:
        return Measurement(self.stable + other.stable, self.canary + other.canary)

    def __sub__(self, other: Self) -> Measurement:
        return Measurement(self.stable - other.stable, self.canary - other.canary)

    def document(self) -> dict[str, Any]:
        return {"stable": self.stable.document(), "canary": self.canary.document()}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        return cls(ArmCounts.of(document["stable"]), ArmCounts.of(document["canary"]))

    @classmethod
    def total(cls, parts: Iterable[Measurement]) -> Measurement:
        """Of all nodes together."""
        return sum(parts, Measurement())


def _merged(one: Mapping[Any, int], other: Mapping[Any, int], sign: int) -> dict[Any, int]:
    if not one and not other:
        return {}
    merged = Counter(one)
    for key, count in other.items():
        merged[key] += sign * count
    return {key: count for key, count in merged.items() if count > 0}
