"""The admin API's HTTP server: uvicorn inside our event loop, with our signals and our logging."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_STOP_TIMEOUT = 5  # seconds for the answers that are under way when the node ends


class AdminServer(uvicorn.Server):
    """Serves ``app`` on a listening socket that the caller made and keeps."""

    def __init__(self, app: ASGIApp, sock: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the admin API trusts nobody's X-Forwarded-For
            timeout_graceful_shutdown=_STOP_TIMEOUT,
        )
        super().__init__(config)
        self._sock = sock
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the control process's own."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._up.set()

    async def begin(self) -> None:
        """Return when requests are answered."""
        self._task = asyncio.create_task(self.serve([self._sock]))
        up = asyncio.create_task(self._up.wait())
        await asyncio.wait({self._task, up}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._task.done():
            self._task.result()
            raise RuntimeError("the admin server ended at its start")

    async def end(self) -> None:
        """Let the answers that are under way end, for some seconds."""
        self.should_exit = True
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
