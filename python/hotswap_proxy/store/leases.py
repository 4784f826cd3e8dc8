"""Leases: who may do what only one process may do. Times are the database's clock, ``ttl`` is everybody's.

A lease lasts ``ttl`` seconds unless it is renewed. With each change of owner its fencing number goes up, and
a transaction of the owner checks it (``check``): who was away for too long, and does not know it yet, can
write nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from .tables import leases
from .times import database_clock


class LeaseLost(Exception):  # noqa: N818  it says what happened
    """Another process has taken over; what was to be written is its business now."""


class Lease(NamedTuple):
    name: str
    owner: str
    fencing: int
    expires_at: float


def get(connection: Connection, name: str) -> Lease | None:
    """As it was taken last; it may have expired."""
    columns = (leases.c.name, leases.c.owner, leases.c.fencing, leases.c.expires_at)
    row = connection.execute(select(*columns).where(leases.c.name == name)).first()
    return None if row is None else Lease(*row)


def holder(connection: Connection, name: str) -> str | None:
    """Who has the lease now; None: nobody."""
    found = get(connection, name)
    return found.owner if found is not None and found.expires_at > database_clock(connection) else None


def take(connection: Connection, name: str, owner: str, ttl: float) -> Lease | None:
    """Take or renew the lease; None: another process has it. One row, so that it needs no turn (``beat``)."""
    now = database_clock(connection)
    mine = leases.c.owner == owner
    renewal = update(leases).where(leases.c.name == name, mine).values(expires_at=now + ttl)
    if connection.execute(renewal).rowcount == 1:
        return get(connection, name)
    # Nobody takes one for longer than ``ttl``: what seems to last much longer is from before the database's
    # clock was set back, and would keep everybody out for as long.
    expired = or_(leases.c.expires_at <= now, leases.c.expires_at > now + 2 * ttl)
    taking = update(leases).where(leases.c.name == name, expired)
    values = {"owner": owner, "fencing": leases.c.fencing + 1, "expires_at": now + ttl}
    if connection.execute(taking.values(values)).rowcount == 1:
        return get(connection, name)
    if get(connection, name) is not None:
        return None
    first = {"name": name, "owner": owner, "fencing": 1, "expires_at": now + ttl}
    try:
        with connection.begin_nested():
            connection.execute(insert(leases).values(first))
    except IntegrityError:  # another process had the same idea
        return None
    return Lease(**first)  # type: ignore[arg-type]


def release(connection: Connection, name: str, owner: str) -> None:
    """Let another process have it at once."""
    mine = (leases.c.name == name) & (leases.c.owner == owner)
    connection.execute(update(leases).where(mine).values(owner="", expires_at=0.0))


def check(connection: Connection, name: str, fencing: int) -> None:
    """LeaseLost unless the lease is still the one with this number. The row stays locked until the
    transaction ends, where the database can do so; nobody takes over in its middle.
    """
    query = select(leases.c.fencing).where(leases.c.name == name).with_for_update(read=True)
    if connection.execute(query).scalar() != fencing:
        raise LeaseLost(f"the lease {name} has another owner")
