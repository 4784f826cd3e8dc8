"""The life of the control process: wire a node's parts together, say when it is ready, end it in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn

from hotswap_proxy import __version__, _core
from hotswap_proxy.control import audithead, listeners
from hotswap_proxy.control.adminserver import AdminServer
from hotswap_proxy.control.applying import Applier
from hotswap_proxy.control.audithead import AuditHeadTeller
from hotswap_proxy.control.claims import Claims, StartError, claim
from hotswap_proxy.control.configuration import Configuration
from hotswap_proxy.control.health.alerts import Alerts
from hotswap_proxy.control.health.checker import Checker
from hotswap_proxy.control.jwks import KeyKeeper
from hotswap_proxy.control.memory import MemoryKeeper
from hotswap_proxy.control.nodeview import NodeStatus
from hotswap_proxy.control.parts import Parts
from hotswap_proxy.control.regions import Regions
from hotswap_proxy.control.reload import ConfigFileReloader, sentences
from hotswap_proxy.control.resolver import Resolver, url_rules
from hotswap_proxy.control.seed import REFUSED, STORE_AWAY, seed
from hotswap_proxy.control.spawning import Spawner
from hotswap_proxy.control.standing import StandingWatch
from hotswap_proxy.control.supervisor import LANES_PER_WORKER, Supervisor, WorkerStartError
from hotswap_proxy.control.tls.bundle import Bundle, TlsError
from hotswap_proxy.control.tls.keeper import CertificateKeeper
from hotswap_proxy.deploy import start as deploy
from hotswap_proxy.deploy.commands import Commands
from hotswap_proxy.errors import GatewayError
from hotswap_proxy.fleet import opening
from hotswap_proxy.fleet import start as fleet
from hotswap_proxy.fleet.lastgood import LastGood
from hotswap_proxy.fleet.redis import Redis
from hotswap_proxy.observe import structured as logs
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store
from hotswap_proxy.worker.protocol import GEOIP, TLS

log = logging.getLogger("hotswap_proxy.control")

EXIT_OK, EXIT_FAILED = 0, 1
RECLAIM_INTERVAL = 1.0
RESOLVE_INTERVAL = 30.0


def run(settings: Settings, spawner: Spawner, descriptors: tuple[int, int]) -> int:
    """Run a node in the foreground until a signal ends it; returns the exit code.

    ``descriptors``: how many files each process could have open, and can now.
    """
    logs.configure(settings.log_level, settings.node_id)
    log.info("open files of each process", extra={"limit": descriptors[1], "limit_at_start": descriptors[0]})
    # Until the event loop has its own handlers: an end during the start is an end like any other.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _quit)
    # Workers outlive us and look for our successor here, wherever their working directory is then.
    settings = replace(settings, data_dir=settings.data_dir.absolute())
    try:
        certificates = _certificates(settings)
        claims = claim(settings)
        reloader = None
        if settings.config is not None:
            reloader = ConfigFileReloader(settings.config)  # first: it notes what the file is now
            code = seed(settings, settings.config)
            reloader.refused_at_start, reloader.missed = code == REFUSED, code == STORE_AWAY
            if code not in (0, REFUSED, STORE_AWAY):
                return code
        return asyncio.run(NodeProcess(settings, spawner, claims, reloader, certificates).run())
    except StartError as error:
        for line in error.lines:
            print(f"hotswap-proxy: {line}", file=sys.stderr)
        return EXIT_FAILED


def _quit(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(EXIT_OK)


def _certificates(settings: Settings) -> CertificateKeeper | None:
    """Those of the options, read and found good; None without any."""
    if not (settings.tls_cert or settings.tls_key or settings.proxy_tls):
        return None
    keeper = CertificateKeeper(Bundle(settings))
    try:
        keeper.bundle.load()
    except TlsError as error:
        raise StartError([str(error)]) from error
    return keeper


@dataclass(slots=True)
class Loaded:
    """What a node has before its workers. ``password``: of an administrator who was made just now."""

    store: Store
    alerts: Alerts
    last_good: LastGood | None
    checker: Checker
    catalog: _core.Catalog
    keys: KeyKeeper
    configuration: Configuration
    password: str | None


class NodeProcess:
    """One node, from start to end."""

    def __init__(
        self,
        settings: Settings,
        spawner: Spawner,
        claims: Claims,
        reloader: ConfigFileReloader | None,
        certificates: CertificateKeeper | None = None,
    ) -> None:
        self._settings = settings
        self._spawner = spawner
        self._claims = claims
        self._reloader = reloader
        self._certificates = certificates
        self._ending = asyncio.Event()
        self._supervisor: Supervisor | None = None

    async def run(self) -> int:
        """Start, serve, end; what was started ends in reverse order, also when the start fails half-way."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_end)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._claims.datadir.close)
            stack.push_async_callback(self._spawner.close)
            starting = asyncio.create_task(self._start(stack))
            ending = asyncio.create_task(self._ending.wait())
            await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():  # a signal during the start
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await starting
                return EXIT_OK
            status, supervisor = starting.result()
            await ending
            log.info("draining", extra={"timeout": self._settings.drain_timeout})
            status.draining = True
            await supervisor.drain(self._settings.drain_timeout)
        log.info("ended")
        return EXIT_OK

    async def _start(self, stack: AsyncExitStack) -> tuple[NodeStatus, Supervisor]:
        settings = self._settings
        node = _core.Node(LANES_PER_WORKER * settings.workers)
        try:
            loaded = await self._load(stack, node)
        except GatewayError as error:
            raise StartError(sentences(error)) from error
        supervisor = self._make_supervisor(stack, node)
        regions = Regions(settings.geoip, partial(supervisor.publish, GEOIP))
        await regions.load()
        try:
            await supervisor.start()
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
            Redis(settings.redis_url) if settings.redis_url else None,
            loaded.last_good,
        )
        await fleet.start(stack, parts, (self._first_administrator(parts.store), self._missed_file))
        orders = await deploy.start(stack, parts)
        await self._start_admin(stack, parts, orders)
        self._start_timers(stack, parts, loaded.keys)
        self._start_regions(stack, regions, parts.catalog)
        await self._claims.datadir.succession.relieve()
        self._tell_of(loaded.password)
        self._tell_ready(parts.configuration)
        return parts.status, supervisor

    async def _load(self, stack: AsyncExitStack, node: _core.Node) -> Loaded:
        """Read the store, or what was live last, and compile it: before there are workers."""
        settings = self._settings
        store = Store(settings)
        stack.push_async_callback(store.close)
        alerts = Alerts(
            settings.alert_webhooks,
            {"nodeId": settings.node_id, "environment": settings.environment},
            secret=settings.webhook_secret,
        )
        last_good = LastGood(settings.data_dir, settings.environment) if settings.database_url else None
        if last_good is not None:
            stack.push_async_callback(last_good.close)
        checker = Checker(node, alerts.send, settings.tls_files)
        catalog = _core.Catalog(node)
        resolver = Resolver(url_rules(settings))
        keys = KeyKeeper(url_rules(settings), resolver)
        stack.push_async_callback(keys.stop)
        configuration = Configuration(
            store,
            catalog,
            settings,
            resolver=resolver,
            applier=Applier(settings),
            health=checker,
            keys=keys,
            keep=last_good.note if last_good is not None else None,
        )
        await opening.begin(store, configuration, last_good)
        # Before there are workers: with luck the first answers are here when the first requests come.
        alerts.start()
        stack.push_async_callback(alerts.stop)
        checker.start()
        stack.push_async_callback(checker.stop)
        password = None if configuration.remembered else await store.users.ensure_first_admin(settings)
        return Loaded(store, alerts, last_good, checker, catalog, keys, configuration, password)

    def _make_supervisor(self, stack: AsyncExitStack, node: _core.Node) -> Supervisor:
        claims = self._claims
        supervisor = self._supervisor = Supervisor(
            self._settings, node, self._spawner, claims.proxy, claims.datadir.presence_fd, claims.proxy_tls
        )
        if self._certificates is not None:
            supervisor.publish(TLS, self._certificates.bundle.descriptor())
        stack.push_async_callback(supervisor.stop)
        return supervisor

    def _make_status(
        self, node: _core.Node, loaded: Loaded, supervisor: Supervisor, regions: Regions
    ) -> NodeStatus:
        status = NodeStatus(
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

    async def _start_admin(self, stack: AsyncExitStack, parts: Parts, orders: Commands) -> None:
        from hotswap_proxy.admin.app import AdminContext, create_app

        context = AdminContext(
            parts.settings, parts.store, parts.configuration, parts.status, orders, parts.redis
        )
        server = AdminServer(create_app(context), self._claims.admin)
        await server.begin()
        stack.push_async_callback(server.end)

    def _start_timers(self, stack: AsyncExitStack, parts: Parts, keys: KeyKeeper) -> None:
        node, configuration, status, alerts = parts.node, parts.configuration, parts.status, parts.alerts
        watch = StandingWatch(node, alerts.tell, outliers=parts.settings.outlier_ejection == "on")
        teller = AuditHeadTeller(parts.store, alerts.event)
        memory = MemoryKeeper()

        async def each_second() -> None:
            node.reclaim()
            if node.take_keys_wanted():
                keys.hurry()
            status.sample()
            watch.look()
            status.outliers = watch.ejected_outliers
            memory.check()

        async def resolve() -> None:
            await configuration.refresh_tls_files()
            if await configuration.refresh_addresses():
                log.info("backend addresses changed", extra={"generation": configuration.generation})

        tasks = [
            asyncio.create_task(_every(RECLAIM_INTERVAL, each_second)),
            asyncio.create_task(_every(RESOLVE_INTERVAL, resolve)),
            asyncio.create_task(_every(audithead.LOOK_INTERVAL, teller.look)),
        ]
        if self._reloader is not None:
            tasks.append(asyncio.create_task(self._reloader.run(configuration, status.note_reload)))
        if self._certificates is not None and self._supervisor is not None:
            publish = partial(self._supervisor.publish, TLS)
            tasks.append(asyncio.create_task(self._certificates.run(publish, status.note_certificates)))
        for task in tasks:
            stack.callback(task.cancel)

    def _start_regions(self, stack: AsyncExitStack, regions: Regions, catalog: _core.Catalog) -> None:
        async def check_need() -> None:
            regions.check_need(catalog.uses_regions)

        for work in (_every(RECLAIM_INTERVAL, check_need), regions.run()):
            stack.callback(asyncio.create_task(work).cancel)

    def _on_end(self) -> None:
        if self._ending.is_set() and self._supervisor is not None:
            log.warning("second signal: ending at once")
            self._supervisor.hurry()
        self._ending.set()

    def _on_hangup(self) -> None:
        if self._reloader is None and self._certificates is None:
            log.warning("SIGHUP without --config or --tls-cert: there is no file to reload")
        for keeper in (self._reloader, self._certificates):
            if keeper is not None:
                keeper.ask()


async def _every(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again; a failure is logged and the next turn comes."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await action()
        except Exception:
            log.exception("a periodic task failed")
