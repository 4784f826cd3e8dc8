"""Starts the history of a node; called by the control process, when the node serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from hotswap_proxy import _core

from .recorder import Recorder
from .watch import AnomalyWatch

if TYPE_CHECKING:
    from hotswap_proxy.control.parts import Parts


def record(stack: AsyncExitStack, parts: Parts) -> Recorder:
    """Store what this process's workers count, until ``stack`` ends, and once more then. Beside a successor
    too: the rows are this run's own.
    """
    recorder = Recorder(_core.Rollups(parts.node), parts.store, parts.settings.node_id, parts.boot_id)
    running = asyncio.create_task(recorder.run())
    stack.push_async_callback(recorder.stop)
    stack.push_async_callback(_end, running)
    return recorder


def watch(
    stack: AsyncExitStack, parts: Parts, recorder: Recorder
) -> Callable[[], Mapping[tuple[str, str], int]]:
    """Look for anomalies until ``stack`` ends. What is returned says how many go on, by (route, kind)."""
    if parts.settings.anomaly_detection == "off":
        return dict

    def announce(event: str, /, **fields: Any) -> None:
        parts.alerts.event(event, **fields)

    owner = f"{parts.settings.node_id}:{parts.boot_id}"
    watching = AnomalyWatch(parts.store, recorder, owner, announce=announce)
    stack.push_async_callback(_end, asyncio.create_task(watching.run()))
    return watching.counts


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
