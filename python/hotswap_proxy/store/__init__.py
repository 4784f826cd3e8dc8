"""The store: what must survive a restart. One SQLite file in the data directory.

Queries are functions of a connection (``store.routes``, ``store.backends``, …), run by ``Store.read`` and
``Store.write``, each call one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection

from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.settings import Settings

from . import changes
from .audit import AuditEntry, Author
from .changes import BackendWrite, Outdated, RouteWrite, StoreChanges, VersionWrite
from .database import Lane
from .migrate import ensure_schema
from .users import Users

__all__ = [
    "AuditEntry",
    "Author",
    "BackendWrite",
    "Outdated",
    "RouteWrite",
    "Store",
    "StoreChanges",
    "VersionWrite",
]

P = ParamSpec("P")
T = TypeVar("T")

FILE_NAME = "hotswap.db"


class Store:
    """Open it with ``await Store.open(settings)``, close it with ``await store.close()``.

    Every method raises StoreUnavailable when the database cannot do its part; then nothing was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.users = Users(self)
        self._reader = Lane(path, "read", "BEGIN")
        self._writer = Lane(path, "write", "BEGIN IMMEDIATE")

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Bring the schema up to date and open the store."""
        if settings.database_url is not None:
            raise StoreUnavailable(
                "database_url is not supported yet: the store is a SQLite file in data_dir"
            )
        path = settings.data_dir / FILE_NAME
        await asyncio.to_thread(ensure_schema, path)
        return cls(path)

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``query(connection, …)`` on one consistent view; goes on while another process holds the write
        lock.
        """
        return await self._reader.run(query, *args, **kwargs)

    async def write(
        self, query: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``query(connection, …)`` in one transaction: committed when this returns, undone when it raises."""
        return await self._writer.run(query, *args, **kwargs)

    async def rehearse(
        self, query: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What ``write`` would return or raise; nothing is written."""
        return await self._writer.rehearse(query, *args, **kwargs)

    async def beat(
        self, query: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``write`` for what changes one row of its own by itself (a heartbeat, a lease, a measurement) and
        so need not take turns with the other writers, where the database can do without.
        """
        return await self._writer.run(query, *args, **kwargs)

    async def commit(self, what: StoreChanges, author: Author) -> int:
        """Write a set of changes, all or nothing; their revision. Outdated: see ``changes.write``."""
        return await self.write(changes.write, what, author)

    async def close(self) -> None:
        await self._reader.close()
        await self._writer.close()
        self.users.close()
