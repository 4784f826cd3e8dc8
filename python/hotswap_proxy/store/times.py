"""Times as the store keeps and the API answers them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from sqlalchemy import Connection, text


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds: fixed width, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def now() -> str:
    return rfc3339(datetime.now(UTC))


def of_seconds(seconds: float) -> str:
    """Seconds since 1970, such as ``database_clock`` gives them."""
    return rfc3339(datetime.fromtimestamp(seconds, UTC))


def has_passed(connection: Connection, moment: str) -> bool:
    """Whether a time has come, by the store's clock: at every node of a fleet at once."""
    return moment <= of_seconds(database_clock(connection))


def seconds_of(moment: str) -> float:
    """The way back from ``of_seconds``."""
    return datetime.fromisoformat(moment).timestamp()


def database_clock(connection: Connection) -> float:
    """The store's clock, seconds since 1970: the one clock that the nodes of a fleet have in common."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
