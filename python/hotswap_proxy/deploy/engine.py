"""Drives the deployments: once a second, by the one process that has the lease.

A turn reads each record with what is known of it, works out the next record (``advance``) and writes it. What
a turn remembers, smoke tests under way, another process makes anew; so this one can be killed at any line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from sqlalchemy import Connection

from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.store import Outdated, Store, deployments
from hotswap_proxy.store.audit import Author
from hotswap_proxy.store.deployments import Stored
from hotswap_proxy.store.leases import LeaseLost
from hotswap_proxy.store.times import database_clock

from .advance import advance, wants_smoke
from .announce import Announce, announce_nothing
from .commands import Follower
from .facts import Facts, Judge, Smoke
from .lease import RENEWAL, Leadership
from .record import Deployment
from .targets.base import CannotGoLive, Target
from .writing import announce_changes, new_events, write

log = logging.getLogger(__name__)

INTERVAL = 1.0
FAREWELL = 0.5  # seconds to give the lease back at the end
ENGINE = Author("system")

_Key = tuple[str, int, str | None]  # deployment, phase, and when that began


class Engine:
    def __init__(
        self,
        store: Store,
        targets: Mapping[str, Target],
        follower: Follower,
        judge: Judge,
        leadership: Leadership,
        *,
        announce: Announce = announce_nothing,
    ) -> None:
        self._store = store
        self._targets = targets
        self._follower = follower
        self._judge = judge
        self._leadership = leadership
        self._announce = announce
        self._smokes: dict[_Key, asyncio.Task[Smoke]] = {}
        self._thread = ThreadPoolExecutor(1, "judge")
        self._failing: set[str] = set()
        self._woken = asyncio.Event()
        self._is_busy = False  # there are deployments that have not ended

    def wake(self) -> None:
        """Something was ordered: look at it now."""
        self._woken.set()

    async def run(self) -> None:
        """Until it is cancelled. What was under way goes on with the record's next reader."""
        leading = asyncio.create_task(self._lead())
        try:
            while True:
                await self._guarded(self._drive, "deployments cannot be driven now")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL):
                        await self._woken.wait()
                self._woken.clear()
        finally:
            leading.cancel()
            for smoke in self._smokes.values():
                smoke.cancel()
            await asyncio.gather(leading, *self._smokes.values(), return_exceptions=True)
            self._thread.shutdown(wait=False)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(FAREWELL):
                    await self._leadership.release()

    async def _lead(self) -> None:
        """Renew in a task of its own: a long turn must not cost the lease."""
        while True:
            await asyncio.sleep(RENEWAL)
            if self._is_busy:
                await self._guarded(self._leadership.keep, "the lease of deployments cannot be renewed now")

    async def _drive(self) -> None:
        """Nobody holds the lease, and nothing is written, while there is nothing to drive."""
        ids = await self._store.read(deployments.driven_ids)
        self._is_busy = bool(ids)
        if not self._is_busy:
            await self._leadership.release()
            return
        if self._leadership.fencing is None:
            await self._leadership.keep()
        await self._turn(ids)

    async def _guarded(self, action: Callable[[], Awaitable[object]], failed: str) -> None:
        """Whatever happens, there is a next turn; said once until it works again."""
        try:
            await action()
        except Exception as error:
            self._note(failed, error)
        else:
            self._failing.discard(failed)

    def _note(self, failed: str, error: Exception) -> None:
        if failed not in self._failing:
            self._failing.add(failed)
            is_known = isinstance(error, StoreUnavailable)
            log.error(failed, extra={"reason": str(error)}, exc_info=None if is_known else error)

    async def tick(self) -> None:
        """One turn: each deployment that has not ended makes one step at most. Nothing without the lease."""
        await self._turn(await self._store.read(deployments.driven_ids))

    async def _turn(self, ids: list[str]) -> None:
        if self._leadership.fencing is None:
            return
        self._forget_smokes(ids)
        for deployment_id in ids:
            fencing = self._leadership.fencing
            if fencing is None:
                return
            failed = f"deployment {deployment_id} cannot be driven now"
            try:
                await self._step(deployment_id, fencing)
            except LeaseLost:
                log.warning("another process drives the deployments now")
                self._leadership.lose()
                return
            except Outdated:
                continue  # somebody has ordered something; the next turn sees it
            except StoreUnavailable:
                raise
            except Exception as error:  # one that fails must not keep the others waiting
                self._note(failed, error)
            else:
                self._failing.discard(failed)

    async def _step(self, deployment_id: str, fencing: int) -> None:
        found = await self._store.read(self._look, deployment_id)
        if found is None:
            return
        before, facts = found
        facts = replace(facts, smoke=self._smoke(before.deployment))
        # A thread: the judge's arithmetic on two histograms takes some 10 ms, too long for the event loop.
        # One of its own, for in the default executor it would leave its garbage in several arenas.
        loop = asyncio.get_running_loop()
        after = await loop.run_in_executor(self._thread, advance, before.deployment, facts)
        if after is before.deployment:
            return
        target = self._targets[after.target_kind]
        try:
            stored = await self._store.write(write, before, after, ENGINE, target, fencing)
        except CannotGoLive as error:
            after = advance(before.deployment, replace(facts, problem=error.message))
            stored = await self._store.write(write, before, after, ENGINE, target, fencing)
        await self._written(before.deployment, stored.deployment)

    def _look(self, connection: Connection, deployment_id: str) -> tuple[Stored, Facts] | None:
        """A record with all that is known of it, on one view of the store."""
        stored = deployments.get(connection, deployment_id)
        if stored is None:
            return None
        deployment = stored.deployment
        target = self._targets[deployment.target_kind]
        facts = Facts(
            database_clock(connection),
            self._judge,
            deployments.total(connection, deployment_id),
            target.members(connection, deployment),
            problem=target.problem(connection, deployment),
        )
        return stored, facts

    async def _written(self, before: Deployment, after: Deployment) -> None:
        announce_changes(self._announce, before, after)
        for event in new_events(before, after):
            log.info("deployment: %s", event.message, extra={"deploymentId": after.deployment_id})
        if before.revision != after.revision:
            await self._follower.sync()

    # --- smoke tests -----------------------------------------------------------------------------------

    def _smoke(self, deployment: Deployment) -> Smoke | None:
        """The result for the present phase; begins the test if there was none yet."""
        if not wants_smoke(deployment):
            return None
        key = (deployment.deployment_id, deployment.current_phase, deployment.phase.started_at)
        task = self._smokes.get(key)
        if task is None:
            verifying = self._targets[deployment.target_kind].verify(deployment)
            self._smokes[key] = task = asyncio.ensure_future(verifying)
            task.add_done_callback(lambda _done: self.wake())
        return task.result() if task.done() else None

    async def smoke_tests_ended(self) -> None:
        """Wait until none is under way."""
        await asyncio.gather(*self._smokes.values(), return_exceptions=True)

    def _forget_smokes(self, ids: list[str]) -> None:
        for key in [key for key in self._smokes if key[0] not in ids]:
            self._smokes.pop(key).cancel()
