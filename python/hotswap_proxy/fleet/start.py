"""Starts what makes a node one of a fleet; called once by the control process, when the node serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from hotswap_proxy.errors import StoreUnavailable

from .common import common
from .following import FollowLoop
from .heartbeat import Heartbeat
from .limits import LimitExchange
from .turns import turn
from .view import FleetView

if TYPE_CHECKING:
    from hotswap_proxy.control.configuration import Configuration
    from hotswap_proxy.control.parts import Parts

    from .lastgood import LastGood

log = logging.getLogger("hotswap_proxy.control")

KEEP_INTERVAL = 10.0
CHANGES = "changes"  # the channel on which nodes tell each other of revisions


async def start(
    stack: AsyncExitStack, parts: Parts, when_up: tuple[Callable[[], Awaitable[None]], ...] = ()
) -> None:
    """What is started ends with ``stack``. ``when_up``: to be done as soon as the store can be reached, and
    again each time that it was lost.
    """
    configuration, redis, status = parts.configuration, parts.redis, parts.status
    kept = parts.last_good
    loop = FollowLoop(parts.store, configuration)
    heartbeat = Heartbeat(
        parts.store, parts.settings, parts.boot_id, lambda: configuration.revision, status.beat
    )
    status.fleet = FleetView(parts.settings.node_id, configuration, loop, heartbeat, redis)
    telling: set[asyncio.Task[Any]] = set()

    def tell(what: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(what)
        telling.add(task)
        task.add_done_callback(telling.discard)

    def announce(revision: int) -> None:
        loop.newest = max(loop.newest, revision)
        heartbeat.hurry()
        if redis is not None:
            tell(redis.publish(CHANGES, str(revision)))

    def hear(message: bytes) -> None:
        loop.hear(int(message))

    async def connect() -> None:
        if redis is not None and not redis.is_started:
            fleet_id = await common(parts.store, "fleet_id")
            if kept is not None:
                kept.fleet_id, kept.wants_all = fleet_id, kept.fleet_id != fleet_id or kept.wants_all
            redis.start(fleet_id)

    limits = _share_limits(parts, heartbeat)

    async def share_key() -> None:
        if limits is not None and not limits.has_key:
            limits.use_key(bytes.fromhex(await common(parts.store, "limit_key")))

    configuration.announce = announce
    loop.on_change = heartbeat.hurry
    loop.when_up = [connect, share_key, *when_up]
    if redis is not None:
        configuration.turn = partial(turn, redis, parts.boot_id)
        redis.subscribe(CHANGES, hear)
        redis.when_up(loop.hurry)
        stack.push_async_callback(redis.stop)
        if kept is not None and kept.fleet_id is not None:  # the store may be away for long
            redis.start(kept.fleet_id)
    stack.push_async_callback(heartbeat.leave)
    work = [loop.run(), heartbeat.run()]
    if limits is not None:
        stack.push_async_callback(limits.stop)  # before the connection ends
        work.append(limits.run())
    if kept is not None:
        work.append(_keep_whole(kept, configuration, loop))
    for each in work:
        stack.callback(asyncio.create_task(each).cancel)


def _share_limits(parts: Parts, heartbeat: Heartbeat) -> LimitExchange | None:
    """With Redis: share the rate limits of routes with the other nodes."""
    if parts.redis is None:
        return None

    def known() -> int:
        own = parts.settings.node_id
        return 1 + sum(node.node_id != own and not node.is_away for node in heartbeat.fleet)

    limits = LimitExchange(parts.node, parts.redis, parts.boot_id, known, has_key=False)
    parts.status.limits = limits.exchange
    return limits


async def _keep_whole(kept: LastGood, configuration: Configuration, loop: FollowLoop) -> None:
    """Write the last good configuration anew when its journal is long, or broken."""
    while True:
        await asyncio.sleep(KEEP_INTERVAL)
        try:
            if kept.wants_all and loop.store_up:
                await configuration.keep_whole()
        except StoreUnavailable:
            pass
        except Exception:
            log.exception("the last good configuration cannot be kept")
