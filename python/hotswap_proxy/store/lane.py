"""What the lanes of both databases have in common: a thread with a connection, one transaction at a time.

Queries run in threads of the store's own, on SQLAlchemy's plain (synchronous) Core; callers await. A query is
an ordinary function of a connection, so that several of them make one transaction and both databases run the
same functions. What a query does with ten thousand documents does not keep the event loop waiting.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

P = ParamSpec("P")
T = TypeVar("T")

CLOSE_SECONDS = 0.3  # for what is under way when a lane is closed


class Lane(ABC):
    """A transaction is one call: all of it happened, or none."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{name}")

    async def run(
        self, function: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``function(connection, …)`` in a transaction. StoreUnavailable or Conflict when the database
        refuses.
        """
        return await self._in_thread(partial(function, **kwargs), args, keep=True)

    async def rehearse(
        self, function: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As ``run``, with all its checks, but undone in the end."""
        return await self._in_thread(partial(function, **kwargs), args, keep=False)

    async def _in_thread(self, function: Callable[..., T], args: tuple[Any, ...], *, keep: bool) -> T:
        call = partial(self.transaction, function, args, keep, time.monotonic())
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    @abstractmethod
    def transaction(self, function: Callable[..., T], args: tuple[Any, ...], keep: bool, asked: float) -> T:
        """Do it, in this thread. ``asked``: when, on the monotonic clock."""

    @abstractmethod
    def dispose(self) -> None:
        """Close the connection, in the lane's thread."""

    def interrupt(self) -> None:  # noqa: B027  not every lane can
        """Give up what is under way, where that can be done. Called in another thread."""

    async def close(self) -> None:
        disposed = asyncio.get_running_loop().run_in_executor(self._thread, self.dispose)
        done, _ = await asyncio.wait([disposed], timeout=CLOSE_SECONDS)
        if not done:
            self.interrupt()
        await disposed
        self._thread.shutdown()
