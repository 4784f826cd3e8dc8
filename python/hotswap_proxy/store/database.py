"""One SQLite file: its connections and what its failures mean.

SQLAlchemy's asyncio extension with greenlet and aiosqlite was measured at 7.3 MB of resident memory for the
same statements, and aiosqlite is a thread like those of our lanes. There are two of them: reads go on while a
write waits for a lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import SingletonThreadPool

from hotswap_proxy.errors import Conflict, StoreUnavailable

from .lane import Lane

T = TypeVar("T")

# Longer than an applier holds the write lock with 10,000 routes on a busy machine (some 3 s).
BUSY_TIMEOUT_MS = 10_000

# synchronous=FULL: a change that was answered with 201 is still there after a power cut. Changes are rare,
# so one fsync each costs nothing that matters; NORMAL would only promise not to corrupt the file.
_PRAGMAS = (
    f"busy_timeout={BUSY_TIMEOUT_MS}",  # first: the next one may have to wait for a lock
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "cache_size=-1024",  # KiB per connection; the operating system caches the file anyway
)

# Prefixes of sqlite3's error names → what an operator can do something about.
_FAILURES = (
    ("SQLITE_BUSY", "the store is locked by another process; try again"),
    ("SQLITE_LOCKED", "the store is locked by another process; try again"),
    ("SQLITE_FULL", "the disk or the store's size limit is full; nothing was changed"),
    ("SQLITE_IOERR", "the disk cannot be read or written (is it full?); nothing was changed"),
    ("SQLITE_READONLY", "the store's file or directory is not writable"),
    ("SQLITE_CANTOPEN", "the store's file cannot be opened"),
    ("SQLITE_CORRUPT", "the store's file is damaged; restore it from a backup"),
    ("SQLITE_NOTADB", "the store's file is not a SQLite database"),
    ("SQLITE_PERM", "the store's file may not be accessed"),
    ("SQLITE_AUTH", "the store's file may not be accessed"),
)


def make_engine(path: Path, *, begin: str = "BEGIN IMMEDIATE") -> Engine:
    """An engine whose transactions start with ``begin`` and whose connection lives in the calling thread.

    IMMEDIATE takes the write lock at once: a transaction that reads first and writes later could otherwise
    fail in its middle with SQLITE_BUSY, which no busy_timeout helps against.
    """
    engine = create_engine(f"sqlite:///{path}", poolclass=SingletonThreadPool, pool_size=1)

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not guessed by the driver
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def failure(error: Exception, path: Path) -> StoreUnavailable:
    """The answer for an error of the database or of its file."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(origin, "sqlite_errorname", "")
    for prefix, sentence in _FAILURES:
        if name.startswith(prefix):
            return StoreUnavailable(f"{sentence} ({path}: {origin})")
    return StoreUnavailable(f"the store failed ({path}: {origin})")


class SqliteLane(Lane):
    def __init__(self, path: Path, name: str, begin: str) -> None:
        super().__init__(name)
        self._path = path
        self._engine = make_engine(path, begin=begin)

    def transaction(self, function: Callable[..., T], args: tuple[Any, ...], keep: bool, asked: float) -> T:
        try:
            with self._engine.connect() as connection, connection.begin() as transaction:
                result = function(connection, *args)
                if not keep:
                    transaction.rollback()
                return result
        except IntegrityError as error:
            # The callers check first; this is another process that was faster.
            raise Conflict(f"the store changed meanwhile: {error.orig}") from error
        except (DBAPIError, sqlite3.Error, OSError) as error:
            self.dispose()  # the next call starts with a fresh connection
            raise failure(error, self._path) from error

    def dispose(self) -> None:
        self._engine.dispose()
