"""What only one control process of a node may do at a time: write to the store, answer the admin API, check
health, tell webhooks and other nodes.

A control process that hands its node over lets go of its duties first, so that two of them never write to one
store; it takes them again if its successor fails. Serving requests is no duty: workers of both serve.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from hotswap_proxy import _core
from hotswap_proxy.control import audithead, servicemanager
from hotswap_proxy.control.adminserver import AdminServer
from hotswap_proxy.control.audithead import AuditHeadTeller
from hotswap_proxy.control.claims import Claims
from hotswap_proxy.control.jwks import KeyKeeper
from hotswap_proxy.control.memory import MemoryKeeper
from hotswap_proxy.control.parts import Parts
from hotswap_proxy.control.regions import Regions
from hotswap_proxy.control.reload import ConfigFileReloader
from hotswap_proxy.control.scraping import Scraping
from hotswap_proxy.control.standing import StandingWatch
from hotswap_proxy.control.tls.keeper import CertificateKeeper
from hotswap_proxy.deploy import start as deploy
from hotswap_proxy.deploy.commands import Commands
from hotswap_proxy.fleet import start as fleet
from hotswap_proxy.fleet.redis import Redis
from hotswap_proxy.history import start as history
from hotswap_proxy.history.recorder import Recorder
from hotswap_proxy.history.windows import History
from hotswap_proxy.observe.rollouts import Rollouts
from hotswap_proxy.worker.protocol import TLS

log = logging.getLogger("hotswap_proxy.control")

RECLAIM_INTERVAL = 1.0
RESOLVE_INTERVAL = 30.0


@dataclass(frozen=True, slots=True)
class Helpers:
    """What the duties need beside the parts of the node."""

    claims: Claims
    keys: KeyKeeper
    regions: Regions
    recorder: Recorder
    reloader: ConfigFileReloader | None
    certificates: CertificateKeeper | None
    # What is to be done whenever the store can be reached again.
    when_up: tuple[Callable[[], Awaitable[None]], ...]


class Duties:
    """Taken and let go of as a whole. Both may be repeated, in turn."""

    def __init__(self, parts: Parts, helpers: Helpers) -> None:
        self._parts = parts
        self._helpers = helpers
        self._stack: AsyncExitStack | None = None

    async def take(self) -> None:
        """Begin. If that fails, what was begun has ended again."""
        parts = self._parts
        # Made anew each time: a connection that was ended is not begun again.
        if parts.settings.redis_url:
            parts = replace(parts, redis=Redis(parts.settings.redis_url))
        async with AsyncExitStack() as stack:
            if parts.last_good is not None:
                parts.last_good.hold(False)
            parts.checker.start()
            stack.push_async_callback(parts.checker.stop)
            await fleet.start(stack, parts, self._helpers.when_up)
            orders = await deploy.start(stack, parts)
            _start_scraping(stack, parts, history.watch(stack, parts, self._helpers.recorder))
            await self._start_admin(stack, parts, orders)
            self._start_timers(stack, parts)
            self._start_regions(stack, parts.catalog)
            self._stack = stack.pop_all()

    async def let_go(self) -> None:
        """End in order; returns when nothing of it writes any more."""
        stack, self._stack = self._stack, None
        if stack is None:
            return
        try:
            await stack.aclose()
        finally:  # one of them failed to end in order; the others have, and nobody may write all the same
            await self._parts.configuration.rest()
            if self._parts.last_good is not None:
                self._parts.last_good.hold(True)

    async def _start_admin(self, stack: AsyncExitStack, parts: Parts, orders: Commands) -> None:
        from hotswap_proxy.admin.app import AdminContext, create_app

        context = AdminContext(
            parts.settings,
            parts.store,
            parts.configuration,
            parts.status,
            orders,
            History(parts.store, self._helpers.recorder),
            parts.redis,
            parts.journaling.tracing if parts.journaling is not None else None,
        )
        # A copy: the server closes what it was given, and the duties may be taken again.
        server = AdminServer(create_app(context), self._helpers.claims.admin.dup())
        await server.begin()
        stack.push_async_callback(server.end)

    def _start_timers(self, stack: AsyncExitStack, parts: Parts) -> None:
        node, configuration, status, alerts = parts.node, parts.configuration, parts.status, parts.alerts
        helpers = self._helpers
        watch = StandingWatch(node, alerts.tell, outliers=parts.settings.outlier_ejection == "on")
        watch.begin()
        teller = AuditHeadTeller(parts.store, alerts.event)
        memory = MemoryKeeper()

        async def each_second() -> None:
            node.reclaim()
            if node.take_keys_wanted():
                helpers.keys.hurry()
            status.sample()
            watch.look()
            status.outliers = watch.ejected_outliers
            memory.check()

        async def resolve() -> None:
            await configuration.refresh_tls_files()
            if await configuration.refresh_addresses():
                log.info("backend addresses changed", extra={"generation": configuration.generation})

        tasks = [
            asyncio.create_task(every(RECLAIM_INTERVAL, each_second)),
            asyncio.create_task(every(RESOLVE_INTERVAL, resolve)),
            asyncio.create_task(every(audithead.LOOK_INTERVAL, teller.look)),
        ]
        if helpers.reloader is not None:
            tasks.append(asyncio.create_task(helpers.reloader.run(configuration, _told(status.note_reload))))
        if helpers.certificates is not None:
            publish = partial(parts.supervisor.publish, TLS)
            note = _told(status.note_certificates)
            tasks.append(asyncio.create_task(helpers.certificates.run(publish, note)))
        for task in tasks:
            stack.push_async_callback(_end, task)

    def _start_regions(self, stack: AsyncExitStack, catalog: _core.Catalog) -> None:
        regions = self._helpers.regions

        async def check_need() -> None:
            regions.check_need(catalog.uses_regions)

        for work in (every(RECLAIM_INTERVAL, check_need), regions.run()):
            stack.push_async_callback(_end, asyncio.create_task(work))


def _start_scraping(
    stack: AsyncExitStack, parts: Parts, anomalies: Callable[[], Mapping[tuple[str, str], int]]
) -> None:
    rollouts = Rollouts(parts.store)
    parts.status.scraping = Scraping(parts, rollouts, anomalies)
    stack.push_async_callback(_end, asyncio.create_task(rollouts.run()))


def _told(note: Callable[[str | None], None]) -> Callable[[str | None], None]:
    """``note``, and the service manager that may have ordered the reload."""

    def both(reason: str | None) -> None:
        note(reason)
        servicemanager.notify("READY=1")

    return both


async def _end(task: asyncio.Task[None]) -> None:
    """Return when it does nothing any more: what is only told to end may be in the middle of a change."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def every(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again; a failure is logged and the next turn comes."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await action()
        except Exception:
            log.exception("a periodic task failed")
