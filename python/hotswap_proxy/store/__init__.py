"""The store: what must survive a restart. One SQLite file in the data directory, or a PostgreSQL database.

Queries are functions of a connection (``store.routes``, ``store.backends``, …), run by ``Store.read`` and
``Store.write``, each call one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection

from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.postgresurl import PostgresUrl
from hotswap_proxy.settings import STORE_FILE as FILE_NAME
from hotswap_proxy.settings import Settings

from . import changes
from .audit import AuditEntry, Author
from .changes import BackendWrite, Outdated, RouteWrite, StoreChanges, VersionWrite
from .database import SqliteLane
from .lane import Lane
from .migrate import ensure_schema
from .users import Users

__all__ = [
    "FILE_NAME",
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


async def _in_background(function: Callable[[Path | PostgresUrl], object], place: Path | PostgresUrl) -> None:
    """``function(place)`` in a thread that nobody waits for at the end of the process: with a server that
    hangs that would take seconds, while another node migrates minutes.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: Exception | None) -> None:
        if done.done():  # nobody is interested any more
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error = None
        try:
            function(place)
        except Exception as caught:
            error = caught
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, error)

    Thread(target=run, name="store-schema", daemon=True).start()
    await done


class Store:
    """Open it with ``await Store.open(settings)``, close it with ``await store.close()``.

    Every method raises StoreUnavailable when the database cannot do its part; then nothing was written. With
    PostgreSQL a write may raise OutcomeUnknown: the connection was lost while it was being committed.
    """

    def __init__(self, settings: Settings) -> None:
        """For a store whose schema somebody else has seen to; nothing is opened yet."""
        try:
            place = settings.store_place
        except ValueError as error:
            raise StoreUnavailable(f"--database-url: {error}") from None
        self.place = place
        self._prepared = False
        self.users = Users(self)
        self._reader: Lane
        self._writer: Lane
        self._beats: Lane
        if isinstance(place, PostgresUrl):
            from . import postgres  # and asyncpg: only for those who use it

            self._reader = postgres.PostgresLane(place, postgres.READ)
            self._writer = postgres.PostgresLane(place, postgres.WRITE)
            self._beats = postgres.PostgresLane(place, postgres.BEAT)
        else:
            self._reader = SqliteLane(place, "read", "BEGIN")
            self._writer = self._beats = SqliteLane(place, "write", "BEGIN IMMEDIATE")

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Bring the schema up to date and open the store."""
        store = cls(settings)
        await store.prepare()
        return store

    async def prepare(self) -> None:
        """Bring the schema up to date, once: before anything else."""
        if not self._prepared:
            await _in_background(ensure_schema, self.place)
            self._prepared = True

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
        return await self._beats.run(query, *args, **kwargs)

    async def commit(self, what: StoreChanges, author: Author) -> int:
        """Write a set of changes, all or nothing; their revision. Outdated: see ``changes.write``."""
        return await self.write(changes.write, what, author)

    async def close(self) -> None:
        await asyncio.gather(*(lane.close() for lane in {self._reader, self._writer, self._beats}))
        self.users.close()
