"""The store in a PostgreSQL database, through asyncpg.

Each lane is a thread with an event loop and a connection of its own. SQLAlchemy's asyncio extension runs a
query where it is called, in a greenlet: on the control process's loop, ten thousand documents would keep
everything else waiting.

A server that does not answer, and neither refuses, makes a call fail after ``Kind.answer`` seconds (reads:
4.5), together with all that had queued up behind it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from hotswap_proxy.errors import Conflict, OutcomeUnknown, StoreUnavailable
from hotswap_proxy.postgresurl import PostgresUrl

from .lane import Lane
from .postgreserrors import failure, origin

T = TypeVar("T")

CONNECT_SECONDS = 4.5
FAREWELL_SECONDS = 0.2  # to say that a session ends
OUTCOME_SECONDS = 3.0  # to ask what became of a transaction
_GRACE = 0.5  # the server's own limits are reached before ours: its errors say more
# Of the transactions that take turns; any number that no other program in the same database uses.
_TURN = int.from_bytes(b"hotswap")
# A writer that is gone, or hangs, keeps others waiting for so long. An applier's transaction is idle while
# the control process compiles.
_IDLE_IN_TRANSACTION_MS = 20_000


@dataclass(frozen=True, slots=True)
class Kind:
    """What a lane's transactions are like. ``answer`` and ``lock`` are seconds: for one statement, and of it
    for a lock. ``takes_turns``: they follow one another, as SQLite's writers do.
    """

    name: str
    answer: float
    lock: float
    read_only: bool = False
    takes_turns: bool = False

    def settings(self) -> dict[str, str]:
        """Of the session."""
        return {
            "application_name": f"hotswap-proxy {self.name}",
            # A writer must see what was committed while it waited for its turn, a reader one moment.
            "default_transaction_isolation": "repeatable read" if self.read_only else "read committed",
            "default_transaction_read_only": "on" if self.read_only else "off",
            "statement_timeout": str(round((self.answer - _GRACE) * 1000)),
            "lock_timeout": str(round(self.lock * 1000)),
            "idle_in_transaction_session_timeout": str(_IDLE_IN_TRANSACTION_MS),
            "jit": "off",
        }


READ = Kind("read", 4.5, 3, read_only=True)
# As long as with SQLite (``BUSY_TIMEOUT_MS``).
WRITE = Kind("write", 12.5, 10, takes_turns=True)
BEAT = Kind("beat", 4.5, 3)
SCHEMA = Kind("schema", 600, 300, takes_turns=True)


class _Loop(asyncio.SelectorEventLoop):
    """Has the kernel find out when the server's machine is gone."""

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        transport, protocol = await super().create_connection(*args, **options)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # Seconds of silence, between probes, and milliseconds for what was sent.
            for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 3), ("TCP_USER_TIMEOUT", 5000)):
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return transport, protocol


class _Driver(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  its signature
        """With a timeout it is SQLAlchemy that gives up a broken connection; being polite to a server that
        does not answer would cost us the time.
        """
        if timeout is None:
            with suppress(TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await super().close()
        else:
            self.terminate()


class _Begun(NamedTuple):
    """A transaction. ``driver`` is asyncpg's connection; ``xid`` is None where nobody will ask for it."""

    connection: AsyncConnection
    driver: Any
    xid: str | None

    async def end(self, *, broken: bool) -> None:
        """Undo what was not committed, and give the connection back or up."""
        if not broken and not self.driver.is_closed():
            try:
                await self.connection.rollback()
            except (DBAPIError, asyncpg.InterfaceError, OSError):
                broken = True
        if broken or self.driver.is_closed():
            self.driver.terminate()
            await self.connection.invalidate()
        await self.connection.close()


class PostgresLane(Lane):
    def __init__(self, url: PostgresUrl, kind: Kind) -> None:
        super().__init__(kind.name)
        self._url = url
        self._kind = kind
        self._loop: _Loop | None = None
        self._engine: AsyncEngine | None = None
        self._unanswered = float("-inf")  # when the server was last found to hang
        self._task: asyncio.Task[Any] | None = None  # the transaction under way
        self._closing = False

    def transaction(self, function: Callable[..., T], args: tuple[Any, ...], keep: bool, asked: float) -> T:
        if asked < self._unanswered or self._closing:
            raise failure(TimeoutError(), self._url)
        if self._loop is None:
            self._loop = _Loop()
        task: asyncio.Task[T]
        task = self._task = self._loop.create_task(self._transaction(function, args, keep))
        try:
            return self._loop.run_until_complete(task)
        except asyncio.CancelledError as error:
            raise failure(TimeoutError(), self._url) from error
        except IntegrityError as error:
            # The callers check first; this is another process that was faster.
            raise Conflict(f"the store changed meanwhile: {origin(error)}") from error
        except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if isinstance(origin(error), TimeoutError):
                self._unanswered = time.monotonic()
            raise failure(error, self._url) from error

    def interrupt(self) -> None:
        self._closing = True
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(task.cancel)

    def dispose(self) -> None:
        if self._loop is None:
            return
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._loop.run_until_complete(self._dispose())
        self._loop.close()
        self._loop = self._engine = None

    async def _dispose(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}  # of asyncpg: orders to cancel a statement
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        if self._engine is not None:
            await self._engine.dispose()

    # --- one transaction -------------------------------------------------------------------------------

    async def _transaction(self, function: Callable[..., T], args: tuple[Any, ...], keep: bool) -> T:
        begun = await self._begin()
        broken = True
        try:
            try:
                result = await begun.connection.run_sync(function, *args)
            except BaseException as error:
                broken = isinstance(error, TimeoutError | asyncio.CancelledError)
                raise
            if keep:
                await self._commit(begun)
            broken = False
        finally:
            await begun.end(broken=broken)
        return result

    async def _begin(self) -> _Begun:
        connection, driver = await self._connect()
        if not self._kind.takes_turns:  # the first statement begins it
            return _Begun(connection, driver, None)
        for last in (False, True):
            begun = _Begun(connection, driver, None)
            try:
                # Numbered at once, so that its outcome can be asked for.
                turn = await connection.execute(
                    text(f"SELECT pg_current_xact_id()::text, pg_advisory_xact_lock({_TURN})")
                )
                return _Begun(connection, driver, turn.scalar_one())
            except BaseException as error:
                await begun.end(broken=isinstance(error, TimeoutError | asyncio.CancelledError))
                if last or not driver.is_closed() or isinstance(error, TimeoutError):
                    raise
            # It was lost since it was used last; nothing has happened yet.
            connection, driver = await self._connect()
        raise AssertionError

    async def _commit(self, begun: _Begun) -> None:
        try:
            await begun.connection.commit()
        except (DBAPIError, asyncpg.InterfaceError, OSError) as error:
            if not (begun.driver.is_closed() or isinstance(origin(error), TimeoutError)):
                raise  # it was answered
            begun.driver.terminate()
            if begun.xid is None:
                raise
            status = await self._outcome(begun.xid)
            if status == "aborted":
                raise
            if status != "committed":
                raise OutcomeUnknown(
                    "the connection to the store was lost while the change was being committed "
                    f"({self._url}); whether it was is not known: look before trying again"
                ) from error

    async def _outcome(self, xid: str) -> str | None:
        """committed or aborted; None when the server does not tell in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(OUTCOME_SECONDS):
                while True:
                    with suppress(DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                        asking = await asyncpg.connect(**self._arguments())
                        try:
                            status = await asking.fetchval(f"SELECT pg_xact_status('{xid}'::xid8)")
                        finally:
                            asking.terminate()
                        if status in ("committed", "aborted"):
                            return str(status)
                    await asyncio.sleep(0.1)  # it restarts, or has not noticed yet that we are gone
        return None

    # --- its connection --------------------------------------------------------------------------------

    async def _connect(self) -> tuple[AsyncConnection, Any]:
        """The lane's connection, or a new one when that was lost."""
        if self._engine is None:
            self._engine = create_async_engine(
                "postgresql+asyncpg://",
                async_creator=lambda: asyncpg.connect(**self._arguments()),
                poolclass=AsyncAdaptedQueuePool,
                pool_size=1,
                max_overflow=0,
            )
        # Nobody has listened to it since the last call. What the kernel knows of its end is heard here.
        for _ in range(4):
            await asyncio.sleep(0)
        async with asyncio.timeout(CONNECT_SECONDS):
            while True:
                connection = await self._engine.connect()
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None
                if not driver.is_closed():
                    return connection, driver
                await connection.invalidate()
                await connection.close()

    def _arguments(self) -> dict[str, Any]:
        return self._url.arguments() | {
            "connection_class": _Driver,
            "timeout": CONNECT_SECONDS,
            "command_timeout": self._kind.answer,
            "server_settings": self._kind.settings(),
        }


def run(url: PostgresUrl, kind: Kind, function: Callable[..., T], *args: Any) -> T:
    """``function(connection, …)`` in one transaction, in this thread, on a connection for it alone."""
    lane = PostgresLane(url, kind)
    try:
        return lane.transaction(function, args, True, time.monotonic())
    finally:
        lane.dispose()


__all__ = ["BEAT", "READ", "SCHEMA", "WRITE", "Kind", "PostgresLane", "StoreUnavailable", "run"]
