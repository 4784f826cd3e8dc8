"""One data-plane process: attach to shared memory, accept on the inherited socket, drain when told.

Imported in the spawner before it forks, so nothing here may import what a worker has no use for.

A worker's life:  serving → draining → ended.  What moves it: ``DRAIN``/``STOP`` from the control process and
SIGTERM (the first drains, the second stops). When the control process dies a worker goes on serving the last
configuration; it then looks for a successor on the Unix socket in the data directory, offers it its listening
socket, so that nothing queued there is lost, and drains when told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import uvloop

from hotswap_proxy import _core, _wire
from hotswap_proxy.observe import log as logs
from hotswap_proxy.observe.journal import wanted
from hotswap_proxy.settings import Settings
from hotswap_proxy.worker.protocol import (
    DRAIN,
    DRAINING,
    GEOIP,
    LISTENING,
    READY,
    STOP,
    SUCCESSOR_SOCKET,
    TLS,
)
from hotswap_proxy.worker.resources import Resources, contents, hear

if TYPE_CHECKING:
    from hotswap_proxy.worker.codec import Codec
    from hotswap_proxy.worker.middleware import Runner

log = logging.getLogger("hotswap_proxy.worker")

SUCCESSOR_POLL = 0.25  # seconds


class Server(Protocol):
    """What this module needs of ``_wire.Server``."""

    @property
    def connections(self) -> int: ...
    def listen(self, fd: int, tls: bool = False) -> None: ...
    def stop_accepting(self) -> None: ...
    def drain(self) -> Awaitable[None]: ...
    def close(self) -> None: ...


def main(
    lane: int,
    listen_fd: int,
    state_fd: int,
    arena_fd: int,
    control_fd: int,
    settings: Settings,
    presence_fd: int = -1,
    tls_listen_fd: int = -1,
    journal_fd: int = -1,
) -> None:
    """Run one worker to its end. ``presence_fd`` is only held: its lock tells a later node that workers are
    alive. ``journal_fd``: where requests are told of.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the control process coordinates
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logs.configure(settings.log_level, settings.node_id)
    _name_process(f"hotswap-worker-{lane}")
    journal = journal_fd if journal_fd >= 0 else None
    core = _core.Worker(state_fd, arena_fd, lane, _core_settings(settings), journal)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    server = _server(core, loop, settings)
    control = socket.socket(fileno=control_fd)
    resources = Resources({TLS: lambda fd: core.use_tls(contents(fd)), GEOIP: core.use_regions})
    if not resources.take_first(control):
        return
    listening = [listen_fd]
    server.listen(listen_fd, tls_listen_fd < 0 and bool(settings.tls_cert))
    if tls_listen_fd >= 0:
        server.listen(tls_listen_fd, tls=True)
        listening.append(tls_listen_fd)
    worker = WorkerProcess(loop, server, control, settings, resources, tuple(listening))
    try:
        loop.run_until_complete(worker.run())
    finally:
        loop.close()


def _core_settings(settings: Settings) -> bytes:
    """What the core decides by."""
    members = {
        "maxHeaderBytes": settings.max_header_bytes,
        "maxConnectionsPerClient": settings.max_connections_per_client,
        "maxRequestsPerSecondPerClient": settings.max_requests_per_second_per_client,
        "trustedProxies": settings.trusted_proxies,
        "retryBudget": settings.retry_budget,
        "outlierEjection": settings.outlier_ejection == "on",
        "forwarded": settings.forwarded == "on",
        **wanted(settings),
    }
    return json.dumps(members).encode()


def _server(core: _core.Worker, loop: asyncio.AbstractEventLoop, settings: Settings) -> Server:
    options = {
        "keepalive_timeout": settings.keepalive_timeout,
        "header_timeout": settings.header_timeout,
        "max_connections": settings.max_connections,
        "min_transfer_rate": settings.min_transfer_rate,
        "proxy_protocol": int(settings.proxy_protocol == "on"),
    }
    server: Server = _wire.Server(core, loop, options, _codec(settings), _middleware(loop, settings))
    return server


def _middleware(loop: asyncio.AbstractEventLoop, settings: Settings) -> Runner | None:
    """What runs the middleware of routes, where the node has any; one that cannot be had ends the worker."""
    if not settings.middleware:
        return None
    from hotswap_proxy.worker.middleware import MiddlewareError, Runner, load

    try:
        return Runner(loop, load(settings.middleware))
    except MiddlewareError as error:
        log.critical(str(error))
        raise SystemExit(1) from None


def _codec(settings: Settings) -> Codec | None:
    """The reference codec in front of the native one, where it is asked for."""
    if settings.http != "httptools":
        return None
    from hotswap_proxy.worker.codec import factories  # its library is loaded only where it is used

    return factories(settings.max_header_bytes)


def _name_process(name: str) -> None:
    """Set the name that ``ps`` and ``top`` show (Linux; 15 characters); elsewhere it stays nameless."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15])


class WorkerProcess:
    """The life of a worker around its server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: Server,
        control: socket.socket,
        settings: Settings,
        resources: Resources,
        listening: tuple[int, ...] = (),
    ) -> None:
        """``listening``: descriptors of the server's, open until it stops accepting."""
        self._resources = resources
        self._loop = loop
        self._server = server
        self._control = control
        self._settings = settings
        self._listening = listening
        self._draining: asyncio.Task[None] | None = None
        self._orphan: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until drained or stopped."""
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._on_control)
        self._loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        self._tell(READY)
        await self._ended.wait()
        self._server.close()
        await asyncio.sleep(0)  # one round of the loop: what close() scheduled

    def drain(self) -> None:
        """Take no more connections, let the open exchanges end, then end. Again: no effect."""
        if self._draining is None:
            self._tell(
                DRAINING
            )  # first of all: the control process starts the replacement on the same socket
            self._server.stop_accepting()
            self._draining = self._loop.create_task(self._drain())

    def stop(self) -> None:
        """End now; what is in flight is cut."""
        self._ended.set()

    async def _drain(self) -> None:
        timeout = self._settings.drain_timeout
        try:
            await asyncio.wait_for(self._server.drain(), timeout)
        except TimeoutError:
            left = self._server.connections
            log.warning("drain timed out", extra={"seconds": timeout, "connections_cut": left})
        except Exception:
            log.exception("drain failed")
        self.stop()

    def _on_sigterm(self) -> None:
        if self._draining is None:
            self.drain()
        else:
            self.stop()

    def _on_control(self) -> None:
        try:
            word, fd = hear(self._control)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            word, fd = b"", None
        if not word:
            self._loop.remove_reader(self._control)
            self._control.close()
            if self._draining is None:
                log.warning("the control process is gone; serving the last configuration")
                self._orphan = self._loop.create_task(self._await_successor())
            return
        if fd is not None:
            self._resources.renew(word, fd)
        elif word == STOP:
            self.stop()
        elif word == DRAIN:
            self.drain()

    async def _await_successor(self) -> None:
        """Look for a new control process on our data directory; its word ends this worker."""
        path = str(self._settings.data_dir / SUCCESSOR_SOCKET)
        while self._draining is None:
            with contextlib.suppress(OSError):
                if await self._meet_successor(path) == DRAIN:
                    log.warning("a new control process has taken over; draining")
                    self.drain()
                    return
            await asyncio.sleep(SUCCESSOR_POLL)

    async def _meet_successor(self, path: str) -> bytes:
        """Offer the listening sockets; what is said when they are in other hands, or nothing."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as successor:
            successor.setblocking(False)
            await self._loop.sock_connect(successor, path)
            if self._draining is None:  # afterwards the descriptors may be another's
                socket.send_fds(successor, [LISTENING], self._listening)
            return await self._loop.sock_recv(successor, 1)

    def _tell(self, report: bytes) -> None:
        with contextlib.suppress(OSError):
            self._control.send(report)
