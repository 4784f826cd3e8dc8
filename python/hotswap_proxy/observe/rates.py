"""Rates over the last seconds, from totals sampled once a second."""

from __future__ import annotations

from collections import deque

WINDOW = 10  # samples


class Rate:
    """The growth per second of one total."""

    def __init__(self, window: int = WINDOW) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=window + 1)

    def add(self, now: float, total: float) -> None:
        """Note ``total`` at the time ``now`` (seconds of a steady clock)."""
        self._samples.append((now, total))

    @property
    def per_second(self) -> float:
        """Growth per second over the window; 0 before there are two samples."""
        if len(self._samples) < 2:
            return 0.0
        (t0, first), (t1, last) = self._samples[0], self._samples[-1]
        # A total may shrink when a process is replaced; that is no negative traffic.
        return max(0.0, (last - first) / (t1 - t0)) if t1 > t0 else 0.0
