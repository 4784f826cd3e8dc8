"""Queries of minute roll-ups. Functions of a connection, for ``Store.read`` and ``Store.beat``.

Minutes are counted from 1970 by the database's clock. Besides the rows of its series, each node writes one
row a minute with the sum of all, ``ALL``, also of a minute without traffic: so there is an answer for all
routes together without adding up 10,000, and it is known which nodes have told of a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select, text

from .tables import rollups

# Neither is a route's id: an identifier has no parentheses.
ALL, REMOVED = "(all)", "(removed)"
KEPT = 24 * 60  # minutes
PRUNED = 3  # minutes at once: what is over is gone before long, and no transaction is a large one

_mine = rollups.c
# The same in both databases; the dialects' own ``insert`` would each import the other's.
_INSERT = text(
    "INSERT INTO rollups (minute, route_id, arm, node_id, part, requests, failed, latency) VALUES "
    "(:minute, :route_id, :arm, :node_id, :part, :requests, :failed, :latency) ON CONFLICT DO NOTHING"
)


class Row(NamedTuple):
    """What one node has counted of a series. ``route_id``: also "" (no route), ``ALL`` and ``REMOVED``."""

    route_id: str
    arm: str
    requests: int
    failed: int
    latency: bytes


class Counted(NamedTuple):
    """A row as it is found again."""

    minute: int
    arm: str
    node_id: str
    part: int
    requests: int
    failed: int
    latency: bytes


def write(connection: Connection, minute: int, node_id: str, part: int, rows: Iterable[Row]) -> None:
    """Add rows. Those that are there already stay as they are: so a write whose outcome is not known can be
    made again. ``part`` tells apart what a node counts of one minute in two runs.
    """
    names = {"minute": minute, "node_id": node_id, "part": part}
    values = [names | row._asdict() for row in rows]
    if values:
        connection.execute(_INSERT, values)


def prune(connection: Connection, now: int, kept: int = KEPT) -> bool:
    """Forget some of the minutes that are over, and those of a future that was none. True: there are more."""
    oldest, newest = connection.execute(select(func.min(_mine.minute), func.max(_mine.minute))).one()
    if newest is not None and newest > now + kept:
        connection.execute(delete(rollups).where(_mine.minute > max(now + kept, newest - PRUNED)))
        return True
    if oldest is None or oldest >= now - kept:
        return False
    end = min(oldest + PRUNED, now - kept)
    connection.execute(delete(rollups).where(_mine.minute < end))
    return True


def oldest(connection: Connection) -> int | None:
    """The first minute of which anything is known."""
    return connection.execute(select(func.min(_mine.minute))).scalar()


def of_route(connection: Connection, route_id: str, minutes: Sequence[int]) -> Iterator[Counted]:
    """By minute. Looked up minute by minute: a range would read those of all routes."""
    query = (
        select(
            *(_mine.minute, _mine.arm, _mine.node_id, _mine.part),
            *(_mine.requests, _mine.failed, _mine.latency),
        )
        .where(_mine.minute.in_(minutes), _mine.route_id == route_id)
        .order_by(_mine.minute, _mine.arm)
    )
    for row in connection.execute(query):
        yield Counted(*row)


def of_minute(connection: Connection, minute: int) -> Iterator[Row]:
    """All rows of a minute, of all nodes, by route and arm."""
    query = (
        select(_mine.route_id, _mine.arm, _mine.requests, _mine.failed, _mine.latency)
        .where(_mine.minute == minute)
        .order_by(_mine.route_id, _mine.arm)
    )
    for row in connection.execute(query):
        yield Row(*row)


def nodes_of(connection: Connection, minute: int) -> set[str]:
    """The nodes that have told of a minute."""
    query = select(_mine.node_id).where(_mine.minute == minute, _mine.route_id == ALL)
    return set(connection.execute(query).scalars())


def rows_of(connection: Connection, minute: int) -> int:
    query = select(func.count()).select_from(rollups).where(_mine.minute == minute)
    return int(connection.execute(query).scalar_one())
