"""Times of a node itself, in its answers and log lines. What the store keeps has ``store.times``."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime | float) -> str:
    """In UTC, to the millisecond. ``moment``: seconds since 1970, or a datetime with its zone."""
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
