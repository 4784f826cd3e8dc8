"""The life of the control process: wire a node's parts together, say when it is ready, end it in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import NoReturn

from hotswap_proxy import __version__, _core
from hotswap_proxy.control import journaling, listeners, memory, servicemanager, signals
from hotswap_proxy.control.claims import Claims, StartError, claim
from hotswap_proxy.control.configuration import Configuration
from hotswap_proxy.control.duties import Duties, Helpers
from hotswap_proxy.control.handover import asking
from hotswap_proxy.control.handover.predecessor import BequestError, Predecessor
from hotswap_proxy.control.handover.turn import check, take_turn
from hotswap_proxy.control.handover.upgrade import Estate, Upgrade
from hotswap_proxy.control.handover.words import UpgradeError
from hotswap_proxy.control.journaling import Journaling
from hotswap_proxy.control.loading import Loaded, load
from hotswap_proxy.control.nodeview import NodeStatus
from hotswap_proxy.control.parts import Parts
from hotswap_proxy.control.regions import Regions
from hotswap_proxy.control.reload import ConfigFileReloader, sentences
from hotswap_proxy.control.seed import REFUSED, STORE_AWAY, seed
from hotswap_proxy.control.spawning import Spawner
from hotswap_proxy.control.supervisor import LANES_PER_WORKER, Supervisor, WorkerStartError
from hotswap_proxy.control.tls.bundle import TlsError
from hotswap_proxy.control.tls.keeper import CertificateKeeper
from hotswap_proxy.deploy import start as deploy
from hotswap_proxy.errors import GatewayError
from hotswap_proxy.history import start as history
from hotswap_proxy.observe import structured as logs
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store
from hotswap_proxy.worker.protocol import GEOIP, TLS

log = logging.getLogger("hotswap_proxy.control")

EXIT_OK, EXIT_FAILED = 0, 1


def run(
    settings: Settings, spawner: Spawner, descriptors: tuple[int, int], predecessor: Predecessor | None
) -> int:
    """Run a node in the foreground until a signal ends it; returns the exit code.

    ``descriptors``: how many files each process could have open, and can now. ``predecessor``: the process
    whose node this one is to go on with.
    """
    logs.configure(settings.log_level, settings.node_id)
    log.info("open files of each process", extra={"limit": descriptors[1], "limit_at_start": descriptors[0]})
    # Until the event loop has its own handlers: an end during the start is an end like any other.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _quit)
    # Workers outlive us and look for our successor here, wherever their working directory is then.
    settings = replace(settings, data_dir=settings.data_dir.absolute())
    try:
        given = servicemanager.take_sockets(os.environ)
        bequest = predecessor.receive() if predecessor is not None else None
        certificates = CertificateKeeper.of(settings)
        claims = claim(settings, given, bequest)
        reloader = None
        if settings.config is not None:
            reloader = ConfigFileReloader(settings.config)  # first: it notes what the file is now
            code = seed(settings, settings.config, dry_run=bequest is not None)
            reloader.refused_at_start, reloader.missed = code == REFUSED, code == STORE_AWAY
            if bequest is not None:
                reloader.applied = bequest.file
                if code not in (0, STORE_AWAY):
                    raise StartError([f"{settings.config} is refused; its mistakes are on standard error"])
            if code not in (0, REFUSED, STORE_AWAY):
                return code
        return asyncio.run(NodeProcess(settings, spawner, claims, reloader, certificates, predecessor).run())
    except (StartError, TlsError, BequestError, servicemanager.ActivationError) as error:
        lines = error.lines if isinstance(error, StartError) else [str(error)]
        for line in lines:
            print(f"hotswap-proxy: {line}", file=sys.stderr)
        if predecessor is not None:
            predecessor.refuse(lines)
        return EXIT_FAILED


def _quit(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(EXIT_OK)


class NodeProcess:
    """One node, from start to end."""

    def __init__(
        self,
        settings: Settings,
        spawner: Spawner,
        claims: Claims,
        reloader: ConfigFileReloader | None,
        certificates: CertificateKeeper | None = None,
        predecessor: Predecessor | None = None,
    ) -> None:
        self._settings = settings
        self._spawner = spawner
        self._claims = claims
        self._reloader = reloader
        self._certificates = certificates
        self._predecessor = predecessor
        self._ending = asyncio.Event()
        self._supervisor: Supervisor | None = None
        self._upgrade: Upgrade | None = None
        self._status: NodeStatus | None = None
        self._journaling: Journaling | None = None
        self._watchdog: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Start, serve, end; what was started ends in reverse order, also when the start fails half-way."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_end)
        async with AsyncExitStack() as stack:
            signals.hear(loop, stack, signal.SIGHUP, self._on_hangup)
            signals.hear(loop, stack, signal.SIGUSR2, self._on_upgrade)
            stack.push_async_callback(self._claims.datadir.close)
            stack.push_async_callback(self._spawner.close)
            starting = asyncio.create_task(self._start(stack))
            ending = asyncio.create_task(self._ending.wait())
            await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():  # a signal during the start
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)  # how it fails matters no more
                await self._drain_early()
                return EXIT_OK
            if (error := starting.exception()) is not None:
                if self._predecessor is not None:  # it need not wait until we have drained
                    self._predecessor.refuse([str(error) or repr(error)])
                await self._drain_early()
                raise error
            upgrade = starting.result()
            over = asyncio.create_task(upgrade.over.wait())
            await asyncio.wait({ending, over}, return_when=asyncio.FIRST_COMPLETED)
            await self._drain(upgrade, over.done())
        log.info("ended")
        return EXIT_OK

    async def _drain_early(self) -> None:
        """A start that does not come to its end may have workers with clients already."""
        if self._supervisor is not None and self._supervisor.is_serving:
            await self._supervisor.drain(self._settings.drain_timeout)

    async def _drain(self, upgrade: Upgrade, is_over: bool) -> None:
        """``is_over``: another process goes on with the node."""
        timeout = self._settings.drain_timeout
        assert self._supervisor is not None and self._status is not None
        log.info("draining", extra={"timeout": timeout})
        if is_over and self._watchdog is not None:
            self._watchdog.cancel()  # it would vouch for a successor that hangs
        if not is_over:
            servicemanager.notify("STOPPING=1", "STATUS=draining")
            self._status.draining = True
            await upgrade.abandon()
        hurrying = asyncio.create_task(self._hurry_when(upgrade.hurried))
        await self._supervisor.drain(timeout)
        hurrying.cancel()
        await upgrade.follow(timeout)
        if not is_over and self._predecessor is not None:  # both end, the older one first
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._predecessor.gone.wait()

    async def _start(self, stack: AsyncExitStack) -> Upgrade:
        settings = self._settings
        node = _core.Node(LANES_PER_WORKER * settings.workers)
        try:
            loaded = await load(stack, settings, node, self._predecessor)
        except GatewayError as error:
            raise StartError(sentences(error)) from error
        self._journaling = journaling.start(stack, settings, node.lanes)
        supervisor = self._make_supervisor(stack, node)
        regions = Regions(settings.geoip, partial(supervisor.publish, GEOIP))
        await regions.load()
        try:
            await supervisor.prepare()
            if self._predecessor is not None:
                await take_turn(
                    self._predecessor, self._claims.datadir, node, loaded.configuration, loaded.checker
                )
            await supervisor.begin()
        except WorkerStartError as error:
            raise StartError([str(error)]) from error
        parts = Parts(
            settings,
            secrets.token_hex(8),
            node,
            loaded.catalog,
            loaded.store,
            loaded.configuration,
            loaded.checker,
            supervisor,
            self._make_status(node, loaded, supervisor, regions),
            loaded.alerts,
            None,
            loaded.last_good,
            self._journaling,
        )
        deploy.measure(stack, parts)
        recorder = history.record(stack, parts)
        when_up = (self._first_administrator(parts.store), self._missed_file)
        duties = Duties(
            parts,
            Helpers(
                *(self._claims, loaded.keys, regions, recorder),
                *(self._reloader, self._certificates, when_up),
            ),
        )
        stack.push_async_callback(duties.let_go)
        if self._predecessor is not None:
            await self._predecessor.serving()
            check(self._predecessor)
        await duties.take()
        estate = Estate(parts, self._claims, duties, self._reloader, self._relieve)
        upgrade = self._upgrade = Upgrade(estate)
        stack.callback(upgrade.close)
        await self._relieve()
        if self._predecessor is not None:
            await self._predecessor.in_charge()
            stack.callback(self._predecessor.close)
        self._watchdog = asyncio.create_task(servicemanager.keep_watchdog_quiet())
        stack.callback(self._watchdog.cancel)
        self._tell_of(loaded.password)
        memory.trim()  # all modules are here, and nobody waits for us yet
        self._tell_ready(parts.configuration)
        return upgrade

    async def _relieve(self) -> None:
        """Be found by orphans, and by who asks for an upgrade."""
        succession, upgrade = self._claims.datadir.succession, self._upgrade
        assert succession is not None and upgrade is not None
        await succession.relieve(partial(asking.answer, upgrade, self._settings.drain_timeout))

    def _make_supervisor(self, stack: AsyncExitStack, node: _core.Node) -> Supervisor:
        claims = self._claims
        supervisor = self._supervisor = Supervisor(
            self._settings,
            node,
            self._spawner,
            claims.proxy,
            claims.datadir.presence_fd,
            claims.proxy_tls,
            self._journaling.journal.fd if self._journaling is not None else None,
        )
        if self._certificates is not None:
            supervisor.publish(TLS, self._certificates.bundle.descriptor())
        stack.push_async_callback(supervisor.stop)
        return supervisor

    def _make_status(
        self, node: _core.Node, loaded: Loaded, supervisor: Supervisor, regions: Regions
    ) -> NodeStatus:
        status = self._status = NodeStatus(
            self._settings, node, loaded.configuration, supervisor, self._spawner, loaded.checker, regions
        )
        if self._certificates is not None:
            status.certificates = self._certificates.bundle
        if self._reloader is not None and self._reloader.refused_at_start:
            status.note_reload("the file was refused at the start")
        return status

    def _tell_ready(self, configuration: Configuration) -> None:
        claims = self._claims
        scheme = "https" if self._certificates is not None and not claims.proxy_tls else "http"
        addresses = listeners.shown(claims.proxy[0], scheme)
        if claims.proxy_tls:
            addresses += f", {listeners.shown(claims.proxy_tls[0], 'https')}"
        print(
            f"hotswap-proxy {__version__} ready: proxy {addresses}, admin {listeners.shown(claims.admin)}, "
            f"generation {configuration.generation}, {configuration.routes} routes, "
            f"{self._settings.workers} workers",
            flush=True,
        )
        servicemanager.ready(f"serving {configuration.routes} routes on {addresses}")

    def _tell_of(self, password: str | None) -> None:
        if password is not None:
            user = self._settings.admin_username or "admin"
            told = f"administrator {user!r} was made; password, shown only now: {password}"
            print(f"hotswap-proxy: {told}", flush=True)

    def _first_administrator(self, store: Store) -> Callable[[], Awaitable[None]]:
        """For a store that could not be reached at the start."""

        async def ensure() -> None:
            self._tell_of(await store.users.ensure_first_admin(self._settings))

        return ensure

    async def _missed_file(self) -> None:
        """The file that could not be applied at the start, because the store was away."""
        if self._reloader is not None and self._reloader.missed:
            self._reloader.missed = False
            self._reloader.ask()

    def _on_end(self) -> None:
        if self._ending.is_set() and self._supervisor is not None:
            log.warning("second signal: ending at once")
            self._hurry()
        self._ending.set()

    async def _hurry_when(self, told: asyncio.Event) -> None:
        await told.wait()
        self._hurry()

    def _hurry(self) -> None:
        if self._supervisor is not None:
            self._supervisor.hurry()
        if self._predecessor is not None and not self._predecessor.gone.is_set():
            self._hurrying = asyncio.create_task(self._predecessor.hurry())

    def _on_upgrade(self) -> None:
        try:
            if self._upgrade is None or self._ending.is_set():
                raise UpgradeError("the node is starting or ending")
            self._upgrade.begin()
        except UpgradeError as error:
            log.error("no upgrade", extra={"reason": str(error)})

    def _on_hangup(self) -> None:
        if self._ending.is_set() or (self._upgrade is not None and self._upgrade.over.is_set()):
            log.warning("SIGHUP: this process drains and reloads nothing any more")
            return
        servicemanager.reloading()
        if self._reloader is None and self._certificates is None:
            log.warning("SIGHUP without --config or --tls-cert: there is no file to reload")
            servicemanager.notify("READY=1")
        for keeper in (self._reloader, self._certificates):
            if keeper is not None:
                keeper.ask()
