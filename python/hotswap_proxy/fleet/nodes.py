"""The nodes that share a store: each tells of itself every two seconds, in a row of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, delete, insert, select, update

from hotswap_proxy.store import Store
from hotswap_proxy.store.tables import nodes
from hotswap_proxy.store.times import database_clock

BEAT = 2.0  # seconds
BEAT_ALONE = 4.0  # with SQLite
AWAY = 10.0  # after so many seconds without a beat a node is away
FORGOTTEN = 24 * 3600.0


class Node(NamedTuple):
    """A node as the store knows it. Times are the store's clock, seconds; ``age`` is the time since the last
    beat.
    """

    node_id: str
    boot_id: str
    environment: str
    revision: int
    document: dict[str, Any]
    started_at: float
    seen_at: float
    age: float

    @property
    def is_away(self) -> bool:
        return self.age > AWAY


class Beat(NamedTuple):
    """What a node tells of itself. ``uptime``: seconds."""

    node_id: str
    boot_id: str
    environment: str
    revision: int
    document: dict[str, Any]
    uptime: float


class Seen(NamedTuple):
    """What came of a beat. ``rival``: another process that runs now under this id and is newer."""

    rival: str | None
    fleet: list[Node]


async def live(store: Store) -> list[Node]:
    """The nodes that are not away, by id."""
    return [node for node in await store.read(read) if not node.is_away]


def read(connection: Connection) -> list[Node]:
    """All nodes, by id, those that are away too."""
    now = database_clock(connection)
    rows = connection.execute(select(nodes).order_by(nodes.c.node_id)).mappings()
    return [
        Node(**{**row, "document": orjson.loads(row["document"])}, age=max(0.0, now - row["seen_at"]))
        for row in rows
    ]


def beat(connection: Connection, own: Beat) -> Seen:
    """Tell of this node. Of two that run with one id the one that was started later has the row."""
    now = database_clock(connection)
    fleet = read(connection)
    there = next((node for node in fleet if node.node_id == own.node_id), None)
    started = now - own.uptime
    rival = None
    values = {
        "boot_id": own.boot_id,
        "environment": own.environment,
        "revision": own.revision,
        "document": orjson.dumps(own.document).decode(),
        "started_at": started,
        "seen_at": now,
    }
    if there is None:
        connection.execute(insert(nodes).values(node_id=own.node_id, **values))
    elif there.boot_id != own.boot_id and not there.is_away and there.started_at > started:
        rival = there.boot_id
    else:
        connection.execute(update(nodes).where(nodes.c.node_id == own.node_id).values(**values))
    connection.execute(delete(nodes).where(nodes.c.seen_at < now - FORGOTTEN))
    return Seen(rival, fleet)


def leave(connection: Connection, node_id: str, boot_id: str) -> None:
    """A node ends in good order: nobody has to wait until it is away."""
    connection.execute(delete(nodes).where(nodes.c.node_id == node_id, nodes.c.boot_id == boot_id))
