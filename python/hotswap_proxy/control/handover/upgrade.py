"""Handing this node over to a new process: the steps, and the way back from each of them.

The states are those of the node's work, not of messages:

    idle → preparing → handing over → over       the new process is in charge, this one drains and ends
              │              │
              └── idle ←─────┴──── whatever goes wrong: the new one is ended, this one has its duties again
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from hotswap_proxy import __version__
from hotswap_proxy.control.claims import Claims
from hotswap_proxy.control.duties import Duties
from hotswap_proxy.control.handover import standing
from hotswap_proxy.control.handover.line import LineClosedError
from hotswap_proxy.control.handover.successor import Successor
from hotswap_proxy.control.handover.words import HAND_OVER_TIMEOUT, PREPARE_TIMEOUT, UpgradeError
from hotswap_proxy.control.parts import Parts
from hotswap_proxy.control.reload import ConfigFileReloader
from hotswap_proxy.control.servicemanager import notify

log = logging.getLogger("hotswap_proxy.control")

# A worker that drains answers whoever asks within a second on a connection that was open (DRAIN_IDLE_MS in
# cext/server.pxi), still with the configuration of this process. Only then may the new one change it.
IDLE_GRACE = 1.1
_AGAIN = 1.0


class State(enum.Enum):
    IDLE = "idle"
    PREPARING = "preparing"
    HANDING_OVER = "handing over"
    OVER = "over"


class Taken(NamedTuple):
    """Who has taken the node over."""

    pid: int
    version: str


@dataclass(frozen=True, slots=True)
class Estate:
    """What there is to hand over, and who looks after it until then."""

    parts: Parts
    claims: Claims
    duties: Duties
    reloader: ConfigFileReloader | None
    relieve: Callable[[], Any]  # be found in the data directory again


class Upgrade:
    """One at a time. ``over`` is set when the successor is in charge, ``hurried`` when it wants us to end."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._task: asyncio.Task[Taken] | None = None
        self._successor: Successor | None = None
        self.state = State.IDLE
        self.over = asyncio.Event()
        self.hurried = asyncio.Event()
        self._hearing: asyncio.Task[None] | None = None

    def begin(self, program: str | None = None, timeout: float = PREPARE_TIMEOUT) -> asyncio.Task[Taken]:
        """Start the new process, ``program`` being its Python. UpgradeError: not now, or not here."""
        if self.state is not State.IDLE:
            raise UpgradeError(
                "the node has been handed over already"
                if self.state is State.OVER
                else f"an upgrade is under way ({self.state.value})"
            )
        if os.getpid() == 1:
            raise UpgradeError(
                "this is process 1 of a container, which ends with it: replace the container instead"
            )
        self.state = State.PREPARING
        self._task = asyncio.create_task(self._run(program or sys.executable, timeout))
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())  # if nobody asks
        return self._task

    async def abandon(self) -> None:
        """This process ends: so does a new one that is not in charge."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def follow(self, within: float) -> None:
        """Wait until a successor that was abandoned has ended too."""
        if self._successor is not None and self.state is not State.OVER:
            if await self._successor.wait(within) is None:
                await self._successor.end()
            self._successor.close()

    def close(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()
        if self._successor is not None:
            self._successor.close()

    async def _run(self, program: str, prepare_within: float) -> Taken:
        began = time.monotonic()
        log.info("upgrade begins", extra={"program": program, "version": __version__})
        try:
            try:
                successor = self._successor = Successor(program)
            except OSError as error:
                raise UpgradeError(f"cannot start {program}: {error.strerror or error}") from error
            await _within(prepare_within, self._prepare(successor), "the new process is not ready")
            self.state = State.HANDING_OVER
            await _within(HAND_OVER_TIMEOUT, self._hand_over(successor), "the new process does not take over")
        except UpgradeError as error:
            await self._take_back(str(error))
            raise
        except asyncio.CancelledError:
            if self._successor is not None:
                self._successor.terminate()
            raise
        except Exception as error:
            log.exception("an upgrade failed in this process")
            await self._take_back(str(error))
            raise UpgradeError(f"this process failed: {error!r}") from error
        self.state = State.OVER
        self._estate.claims.datadir.leave()
        self._estate.claims.admin.close()  # or the address would be ours until we have drained
        notify(f"MAINPID={successor.pid}")
        self.over.set()
        self._hearing = asyncio.create_task(self._hear(successor))
        taken = Taken(successor.pid, successor.version)
        seconds = round(time.monotonic() - began, 3)
        log.info("upgraded: the new process is in charge", extra={**taken._asdict(), "seconds": seconds})
        return taken

    async def _prepare(self, successor: Successor) -> None:
        estate = self._estate
        about = {
            "pid": os.getpid(),
            "dataDir": str(estate.parts.settings.data_dir),
            "file": estate.reloader.applied if estate.reloader is not None else None,
        }
        claims = estate.claims
        sockets = {"proxy": claims.proxy, "proxy-tls": claims.proxy_tls, "admin": [claims.admin]}
        await successor.give(about, claims.datadir.lock, sockets, self._standing())
        await successor.wait_for("prepared")

    async def _hand_over(self, successor: Successor) -> None:
        estate = self._estate
        await estate.duties.let_go()
        estate.claims.datadir.let_go()
        await successor.tell(*self._standing(), {"takeOver": True})
        await successor.wait_for("serving")
        await estate.parts.supervisor.retire()
        await asyncio.sleep(IDLE_GRACE)
        await successor.tell({"retired": True})
        await successor.wait_for("inCharge")

    def _standing(self) -> list[dict[str, Any]]:
        return list(standing.messages(self._estate.parts.node, self._estate.parts.checker.registry))

    async def _take_back(self, reason: str) -> None:
        """Go on as if nothing had happened."""
        log.error("upgrade failed; this process goes on", extra={"reason": reason, "state": self.state.value})
        if self._successor is not None:
            await self._successor.end()
            self._successor = None
        if self.state is State.HANDING_OVER:
            estate = self._estate
            steps = (
                estate.parts.supervisor.resume,
                estate.parts.configuration.follow,  # what the new process may have changed
                estate.duties.take,
                partial(_found_again, estate),
            )
            for step in steps:
                await _until_done(step)
        self.state = State.IDLE

    async def _hear(self, successor: Successor) -> None:
        """What the successor has to say while we drain."""
        try:
            while True:
                await successor.wait_for("hurry")
                self.hurried.set()
        except (UpgradeError, LineClosedError):
            pass


async def _within(seconds: float, work: Any, otherwise: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        raise UpgradeError(f"{otherwise} within {seconds:g} s") from None


async def _until_done(step: Callable[[], Any]) -> None:
    while True:
        try:
            await step()
            return
        except Exception:
            log.exception("this process cannot go on yet; trying again")
            await asyncio.sleep(_AGAIN)


async def _found_again(estate: Estate) -> None:
    estate.claims.datadir.let_go()
    estate.claims.datadir.take()
    await estate.relieve()
