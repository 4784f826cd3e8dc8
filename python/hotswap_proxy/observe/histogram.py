"""Reads the log-linear histograms that workers fill in shared memory.

352 counters: 22 octaves from 2^6 to 2^28 units, each cut into 16 equal steps, so a value is known to 1/16 of
its octave's lower bound. Counter 0 also holds what was smaller, the last what was larger.
The unit is a microsecond for durations (64 µs … 268 s) and a nanosecond for the gateway's own share of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from operator import add

STEPS = 16
OCTAVES = 22
SIZE = STEPS * OCTAVES
MICROSECONDS = 1e-6
NANOSECONDS = 1e-9

Counts = Sequence[int]


def _upper(index: int) -> float:
    octave, step = divmod(index, STEPS)
    return (64 << octave) * (1 + (step + 1) / STEPS)


UPPER = tuple(_upper(index) for index in range(SIZE))  # in units
_MIDDLE = tuple((low + high) / 2 for low, high in zip((64.0, *UPPER[:-1]), UPPER, strict=True))
# The bounds shown to Prometheus are ends of steps, where counts are exact: each octave's end from 256 to 33.6
# million, and between 1,024 and 4.2 million (1 ms and 4 s) its middle too, where thresholds are.
LE_INDEXES = tuple(
    sorted([*range(2 * STEPS - 1, 19 * STEPS, STEPS), *range(4 * STEPS + STEPS // 2 - 1, 16 * STEPS, STEPS)])
)
LE = tuple(UPPER[index] for index in LE_INDEXES)


def counts(raw: bytes | Counts) -> Counts:
    """A histogram as the node hands it out: u64 counters in bytes, none at all for all zeros; or numbers."""
    if isinstance(raw, bytes):
        return array("Q", raw or bytes(8 * SIZE))
    return raw


def merge(histograms: Iterable[bytes | Counts]) -> list[int]:
    """The sum of several histograms."""
    total = [0] * SIZE
    for raw in histograms:
        if raw:
            total = list(map(add, total, counts(raw)))
    return total


def bounds(unit: float) -> list[str]:
    """:data:`LE` in seconds, as it is written in labels."""
    return [f"{bound * unit:.9g}" for bound in LE]


def cumulative(histogram: Counts) -> list[int]:
    """How many values lie at or below each bound of :data:`LE`."""
    running, start, result = 0, 0, []
    for index in LE_INDEXES:
        running += sum(histogram[start : index + 1])
        start = index + 1
        result.append(running)
    return result


def total_units(histogram: Counts) -> float:
    """The sum of all values, each taken as the middle of its step."""
    return sum(count * middle for count, middle in zip(histogram, _MIDDLE, strict=True) if count)


def quantile(histogram: Counts, q: float) -> float | None:
    """The value in units that a share ``q`` does not exceed, to its step's end; None without values."""
    total = sum(histogram)
    if total == 0:
        return None
    rank, running = q * total, 0
    for index, count in enumerate(histogram):
        running += count
        if count and running >= rank:
            return UPPER[index]
    return UPPER[-1]


def milliseconds(histogram: Counts) -> dict[str, float | None]:
    """p50, p95, p99 and average of a histogram of microseconds, as the JSON answers have them."""
    total = sum(histogram)
    result: dict[str, float | None] = {}
    for name, q in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
        value = quantile(histogram, q)
        result[name] = None if value is None else round(value / 1e3, 3)
    result["average"] = round(total_units(histogram) / total / 1e3, 3) if total else None
    return result
