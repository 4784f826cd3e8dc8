"""Starts the engine of deployments; called once by the control process, when the node serves."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from .announce import Announce
from .commands import Commands
from .engine import Engine
from .judge import judge
from .lease import Leadership
from .measuring import Measuring
from .targets.base import Target
from .targets.routes import RouteTarget
from .targets.smoke import SmokeTester
from .writing import LEASE

if TYPE_CHECKING:
    from hotswap_proxy.control.parts import Parts


async def start(stack: AsyncExitStack, parts: Parts) -> Commands:
    """What is started ends with ``stack``. Returns what carries out people's orders."""
    from hotswap_proxy.control.resolver import Resolver, url_rules

    settings, store, configuration = parts.settings, parts.store, parts.configuration
    smoke = SmokeTester(store, Resolver(url_rules(settings)), settings.tls_files)
    targets: dict[str, Target] = {"route": RouteTarget(store, settings, configuration, smoke)}
    leadership = Leadership(store, LEASE, f"{settings.node_id}:{parts.boot_id}")
    announce = _announce(parts)
    engine = Engine(store, targets, configuration, judge, leadership, announce=announce)
    stack.push_async_callback(_end, asyncio.create_task(engine.run()))
    return Commands(store, targets, configuration, judge, announce=announce, on_change=engine.wake)


def measure(stack: AsyncExitStack, parts: Parts) -> None:
    """Store what this process's workers count, until ``stack`` ends, and once more then. Beside the engine of
    another process too: the row is this run's own.
    """
    measuring = Measuring(parts.store, parts.node, parts.settings.node_id, parts.boot_id)
    stack.push_async_callback(measuring.finish, asyncio.create_task(measuring.run()))


def _announce(parts: Parts) -> Announce:
    def tell(event: str, /, **fields: Any) -> None:
        parts.alerts.event(event, **fields)

    return tell


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
