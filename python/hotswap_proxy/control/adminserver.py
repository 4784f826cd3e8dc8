"""The admin API's HTTP server: uvicorn inside our event loop, with our signals and our logging."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MAX_HEAD = 64 * 1024  # bytes of a request's head that are kept while it arrives
MAX_CONNECTIONS = 256  # beyond, a request is answered 503; beyond twice as many, connections are cut
IDLE_TIMEOUT = 30  # seconds between two requests
# Seconds: for a whole head, for a body (more the longer it is), for an answer to be read a little further.
HEAD_TIMEOUT = BODY_TIMEOUT = WRITE_TIMEOUT = 10.0
SLOWEST = 16 * 1024  # bytes per second of a body
_STOP_TIMEOUT = 5  # seconds for the answers that are under way when the node ends


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol bounds the time between requests; this one also that of heads, bodies and answers.

    On h11, which refuses a head that is too long: uvicorn keeps all that httptools hands it, without end.
    """

    _phase = ""  # what the client is to send: "head", "body" or nothing
    _reading: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # h11 writes head and body one after the other: Nagle would keep the body until the client has
        # acknowledged the head, which it delays by 40 ms on a connection that is used again.
        if (sock := transport.get_extra_info("socket")) is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > 2 * MAX_CONNECTIONS:
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch(len(data))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._reading, self._writing):
            _cancel(timer)
        self._reading = self._writing = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        _cancel(self._writing)
        self._writing = None
        super().resume_writing()

    def _watch(self, received: int = 0) -> None:
        """Set the time until which the client has to send what is missing; single bytes do not prolong it."""
        phase = ""
        if self.transport.is_closing():
            pass
        elif self.conn.their_state is h11.SEND_BODY:
            phase = "body"
        elif self.conn.their_state is h11.IDLE and (
            self.conn.trailing_data[0] or self.timeout_keep_alive_task is None
        ):
            phase = "head"
        if phase == self._phase and phase != "body":
            return
        until = self.loop.time() + (HEAD_TIMEOUT if phase == "head" else BODY_TIMEOUT)
        if phase == self._phase and self._reading is not None:
            until = self._reading.when() + received / SLOWEST
        _cancel(self._reading)
        self._phase = phase
        self._reading = self.loop.call_at(until, self.transport.abort) if phase else None

    def _watch_writing(self, left: int) -> None:
        self._writing = self.loop.call_later(WRITE_TIMEOUT, self._check_writing, left)

    def _check_writing(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._watch_writing(left)
        else:
            self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class AdminServer(uvicorn.Server):
    """Serves ``app`` on a listening socket that the caller made and keeps."""

    def __init__(self, app: ASGIApp, sock: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the admin API trusts nobody's X-Forwarded-For
            timeout_graceful_shutdown=_STOP_TIMEOUT,
            h11_max_incomplete_event_size=MAX_HEAD,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=IDLE_TIMEOUT,
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
