"""Starts the history of a node; called once by the control process, when the node serves."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from hotswap_proxy import _core

from .recorder import Recorder
from .watch import AnomalyWatch
from .windows import History

if TYPE_CHECKING:
    from hotswap_proxy.control.parts import Parts


async def start(stack: AsyncExitStack, parts: Parts) -> History:
    """What is started ends with ``stack``, when no request comes any more. Returns what answers about
    windows.
    """
    settings, store = parts.settings, parts.store
    recorder = Recorder(_core.Rollups(parts.node), store, settings.node_id, parts.boot_id)
    stack.push_async_callback(recorder.stop)
    stack.push_async_callback(_end, asyncio.create_task(recorder.run()))
    if settings.anomaly_detection == "on":

        def announce(event: str, /, **fields: Any) -> None:
            parts.alerts.event(event, **fields)

        owner = f"{settings.node_id}:{parts.boot_id}"
        watch = AnomalyWatch(store, recorder, owner, announce=announce)
        parts.status.anomalies = watch.counts
        stack.push_async_callback(_end, asyncio.create_task(watch.run()))
    return History(store, recorder)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
