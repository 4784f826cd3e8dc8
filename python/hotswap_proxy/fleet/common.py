"""What all nodes of a fleet have in common and nobody configures: made once, kept in the store."""

from __future__ import annotations

import secrets
from typing import Literal

from sqlalchemy import Connection, insert, select

from hotswap_proxy.store import Store
from hotswap_proxy.store.tables import meta

Name = Literal["fleet_id", "token_secret", "limit_key"]
_BYTES: dict[Name, int] = {"fleet_id": 8, "token_secret": 32, "limit_key": 16}


async def common(store: Store, name: Name) -> str:
    """Hexadecimal digits, the same on every node. StoreUnavailable."""
    found = await store.read(_read, name)
    return found if found is not None else await store.write(_read_or_make, name)


def _read(connection: Connection, name: Name) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.key == name)).scalar()


def _read_or_make(connection: Connection, name: Name) -> str:
    """Writers take turns, so the first one counts."""
    found = _read(connection, name)
    if found is None:
        found = secrets.token_hex(_BYTES[name])
        connection.execute(insert(meta).values(key=name, value=found))
    return found
