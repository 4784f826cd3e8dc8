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
QUARTER = 15  # minutes that ``history.coarsening`` adds up
PRUNED = 3  # minutes at once: what is over is gone before long, and no transaction is a large one

_mine = rollups.c
# The same in both databases; the dialects' own ``insert`` would each import the other's.
_INSERT = text(
    "INSERT INTO rollups (minute, route_id, arm, node_id, part, requests, failed, latency) VALUES "
    "(:minute, :route_id, :arm, :node_id, :part, :requests, :failed, :latency) ON CONFLICT DO NOTHING"
)


_COUNTED = (
    *(_mine.minute, _mine.route_id, _mine.arm, _mine.node_id, _mine.part),
    *(_mine.requests, _mine.failed, _mine.latency),
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
    route_id: str
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
    # Two queries: SQLite answers each from an end of the key, and both in one by reading the whole table.
    first, newest = oldest(connection), connection.execute(select(func.max(_mine.minute))).scalar()
    if newest is not None and newest > now + kept:
        connection.execute(delete(rollups).where(_mine.minute > max(now + kept, newest - PRUNED)))
        return True
    if first is None or first >= now - kept:
        return False
    end = min(first + PRUNED, now - kept)
    connection.execute(delete(rollups).where(_mine.minute < end))
    return True


def oldest(connection: Connection) -> int | None:
    """The first minute of which anything is known."""
    return connection.execute(select(func.min(_mine.minute))).scalar()


def of_route(connection: Connection, route_id: str, minutes: Sequence[int]) -> Iterator[Counted]:
    """By minute. Looked up minute by minute: a range would read those of all routes."""
    where = (_mine.minute.in_(minutes), _mine.route_id == route_id)
    query = select(*_COUNTED).where(*where).order_by(_mine.minute, _mine.arm)
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


def routes_of(connection: Connection, quarter: int, node_id: str, but: int) -> list[str]:
    """Routes of which a node has rows of other parts than ``but`` in a quarter of an hour, in their order."""
    where = (_mine.minute.in_(_quarter(quarter)), _mine.node_id == node_id, _mine.part != but)
    return sorted(connection.execute(select(_mine.route_id).where(*where).distinct()).scalars())


def take_quarter(connection: Connection, quarter: int, node_id: str, first: str, last: str) -> list[Counted]:
    """The rows of a node and of these routes in a quarter of an hour, by route and arm. They are deleted."""
    where = (
        *(_mine.minute.in_(_quarter(quarter)), _mine.route_id.between(first, last)),
        _mine.node_id == node_id,
    )
    query = select(*_COUNTED).where(*where).order_by(_mine.route_id, _mine.arm)
    rows = [Counted(*row) for row in connection.execute(query)]
    connection.execute(delete(rollups).where(*where))
    return rows


def _quarter(begin: int) -> range:
    return range(begin, begin + QUARTER)
