"""Keeps one worker on each listening socket: starts them, replaces the dead, drains them all at the end.

The end of file on the socket shared with a worker tells of its death, whoever its parent is; the spawner adds
the exit status. A worker that starts to drain by itself (SIGTERM from an operator) is replaced at once, while
it drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterable
from typing import Protocol

from hotswap_proxy.control.spawning import Spawner, SpawnError
from hotswap_proxy.control.workerhandle import WorkerHandle
from hotswap_proxy.settings import Settings
from hotswap_proxy.worker import protocol

log = logging.getLogger("hotswap_proxy.control")

LANES_PER_WORKER = 2  # one for the worker, one for its replacement while it drains
_SHORT_LIFE = 1.0  # seconds; a worker that dies younger may have died of its start
_MAX_DELAY = 5.0
_READY_TIMEOUT = 20.0
_LAST_WORD = 2.0  # seconds for a worker that is told to stop


class NodeLanes(Protocol):
    """What the supervisor needs of ``_core.Node``."""

    @property
    def state_fd(self) -> int: ...
    @property
    def arena_fd(self) -> int: ...
    def reset_lane(self, lane: int) -> int: ...


class WorkerStartError(RuntimeError):
    """A worker did not come up when the node started."""


class Supervisor:
    """All workers of the node. ``sockets`` become ours to close; each worker gets ``presence_fd``.

    ``tls_sockets`` are as many, where TLS has an address of its own. ``journal_fd`` stays the caller's.
    """

    def __init__(
        self,
        settings: Settings,
        node: NodeLanes,
        spawner: Spawner,
        sockets: list[socket.socket],
        presence_fd: int,
        tls_sockets: list[socket.socket] | None = None,
        journal_fd: int | None = None,
    ) -> None:
        self._settings = settings
        self._worker_settings = settings.worker_json()
        self._node = node
        self._spawner = spawner
        self._sockets = sockets
        self._tls_sockets = tls_sockets or []
        self._presence_fd = presence_fd
        self._journal_fd = journal_fd
        self._free_lanes = set(range(LANES_PER_WORKER * len(sockets)))
        self._handles: set[WorkerHandle] = set()
        self._resources: dict[bytes, int] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._burials: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._prepared: list[WorkerHandle] = []
        self.replaced = 0  # workers replaced since the node started
        self.lost = 0  # exchanges that were in flight in workers which died

    @property
    def workers(self) -> list[WorkerHandle]:
        """Every living worker, draining ones too, by slot and age."""
        return sorted(self._handles, key=lambda handle: (handle.slot, handle.started))

    def publish(self, kind: bytes, fd: int) -> None:
        """Give a resource (see ``worker.protocol``) to all workers, future ones too; ``fd`` becomes ours."""
        old = self._resources.get(kind)
        self._resources[kind] = fd
        if old is not None:
            os.close(old)
        for handle in self._handles:
            handle.give(kind, fd)

    @property
    def is_serving(self) -> bool:
        """Whether a worker accepts, or did."""
        return any(handle.ready.is_set() for handle in self._handles)

    async def start(self) -> None:
        """Start all workers and wait until each accepts; raises :class:`WorkerStartError`."""
        await self.prepare()
        await self.begin()

    async def prepare(self) -> None:
        """Start all workers and wait until each could accept, which they do not yet; raises
        :class:`WorkerStartError`.
        """
        work = (self._launch(slot, protocol.HOLD) for slot in range(len(self._sockets)))
        # All of them, also when one fails: a worker that is made later than that would be nobody's.
        found = await asyncio.gather(*work, return_exceptions=True)
        self._prepared = [each for each in found if isinstance(each, WorkerHandle)]
        for error in found:
            if isinstance(error, SpawnError):
                raise WorkerStartError(str(error)) from error
            if isinstance(error, BaseException):
                raise error
        for handle in self._prepared:
            await _reached(handle, handle.held)

    async def begin(self) -> None:
        """Let the prepared workers accept, and wait until they do; raises :class:`WorkerStartError`."""
        for handle in self._prepared:
            handle.command(protocol.BEGIN)
        for handle in self._prepared:
            await _reached(handle, handle.ready)
        self._keepers = [asyncio.create_task(self._keep(handle)) for handle in self._prepared]
        self._prepared = []

    async def retire(self) -> None:
        """Drain all workers and do not replace them: others accept on the same sockets. Returns when none of
        ours does any more. ``resume`` takes it back.
        """
        self._stop_replacing()
        for handle in self._handles:
            handle.command(protocol.DRAIN)
        await _all((handle.left for handle in self._handles), within=_READY_TIMEOUT)

    async def resume(self) -> None:
        """Have a new worker in each slot, and replace those that die again. What raises
        :class:`WorkerStartError` is to be called again.
        """
        if not self._stopping:
            return
        self._stopping = False
        try:
            await self.start()
        except BaseException:
            self._stopping = True
            # They have the lanes that the next attempt needs; those that drain are to keep theirs.
            await self._dismiss(self._prepared)
            raise

    async def drain(self, within: float) -> bool:
        """Drain all workers, stop those left after ``within`` seconds; True when none had to be stopped."""
        self._stop_replacing()
        for handle in self._handles:
            handle.command(protocol.DRAIN)
        # Not before they have taken what was queued: closing a listening socket resets its queue.
        await _all((handle.left for handle in self._handles), within=min(1.0, within))
        self._close_sockets()
        # Workers cut their own connections at their own timeout; ours only catches one that hangs.
        clean = await _all((handle.ended for handle in self._handles), within=within + 1.0)
        await self.stop()
        return clean

    async def stop(self) -> None:
        """End all workers now."""
        self._stop_replacing()
        self._close_sockets()
        while self._resources:
            os.close(self._resources.popitem()[1])
        for handle in self._handles:
            handle.command(protocol.STOP)
        if not await _all((handle.ended for handle in self._handles), within=_LAST_WORD):
            for handle in list(self._handles):
                _kill(handle.pid)
            await _all((handle.ended for handle in self._handles), within=_LAST_WORD)

    def hurry(self) -> None:
        """Make a running :meth:`drain` end at once."""
        for handle in self._handles:
            handle.command(protocol.STOP)

    async def _dismiss(self, handles: list[WorkerHandle]) -> None:
        """End workers that were to begin; those that have may have clients already."""
        self._prepared = []
        idle = [handle for handle in handles if not handle.ready.is_set()]
        for handle in handles:
            handle.command(protocol.STOP if handle in idle else protocol.DRAIN)
        if not await _all((handle.ended for handle in idle), within=_LAST_WORD):
            for handle in idle:
                if not handle.ended.is_set():
                    _kill(handle.pid)

    async def _keep(self, handle: WorkerHandle) -> None:
        """See to it that the slot of ``handle`` always has a worker that accepts."""
        slot, failures = handle.slot, 0
        while True:
            await handle.left.wait()
            failures = failures + 1 if time.monotonic() - handle.started < _SHORT_LIFE else 0
            # Once is an accident and is repaired at once; from the second time on it may be the machine or
            # the build.
            await asyncio.sleep(restart_delay(failures))
            while True:
                try:
                    # Shielded: a worker that is being made when we are cancelled must still be entered in the
                    # books.
                    handle = await asyncio.shield(asyncio.create_task(self._launch(slot)))
                    break
                except Exception as error:  # whatever it is: without this task the slot stays empty for good
                    failures += 1
                    unexpected = not isinstance(error, SpawnError)
                    log.error(
                        "cannot start a worker",
                        extra={"slot": slot, "reason": str(error)},
                        exc_info=unexpected,
                    )
                    await asyncio.sleep(restart_delay(failures + 1))
            self.replaced += 1
            log.info("worker replaced", extra={"slot": slot, "worker_pid": handle.pid, "lane": handle.lane})

    async def _launch(self, slot: int, word: bytes = protocol.BEGIN) -> WorkerHandle:
        lane = await self._take_lane(slot)
        try:
            pid, ours = await self._fork(slot, lane)
        except BaseException as error:
            self._free_lanes.add(lane)
            if isinstance(error, OSError):  # for one, no descriptors left for a socket pair or the spawner
                raise SpawnError(str(error)) from error
            raise
        handle = WorkerHandle(slot, lane, pid, ours)
        for kind, fd in self._resources.items():
            handle.give(kind, fd)
        # Never both: one that begins and is stopped at once would cut what it has accepted in between.
        handle.command(protocol.STOP if self._stopping else word)
        self._handles.add(handle)
        asyncio.get_running_loop().add_reader(ours, self._on_channel, handle)
        return handle

    async def _fork(self, slot: int, lane: int) -> tuple[int, socket.socket]:
        """Have a worker made: its process id and our end of the socket shared with it."""
        node = self._node
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            listen = self._sockets[slot].fileno()
            more = {"tls": self._tls_sockets[slot].fileno()} if self._tls_sockets else {}
            if self._journal_fd is not None:
                more["journal"] = self._journal_fd
            fds = (listen, node.state_fd, node.arena_fd, theirs.fileno(), self._presence_fd)
            return await self._spawner.spawn(lane, self._worker_settings, fds, more), ours
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()  # or its end of file would never come

    async def _take_lane(self, slot: int) -> int:
        """A free lane; when crashes and drains have used all, the slot's oldest draining worker gives its own
        up.
        """
        while not self._free_lanes:
            draining = [h for h in self.workers if h.slot == slot and h.left.is_set()]
            victim = draining[0] if draining else self.workers[0]
            victim.command(protocol.STOP)
            await _any(victim.ended, within=1.0)
            if not victim.ended.is_set():
                _kill(victim.pid)
                await victim.ended.wait()
        lane = min(self._free_lanes)
        self._free_lanes.remove(lane)
        return lane

    def _on_channel(self, handle: WorkerHandle) -> None:
        try:
            data = handle.channel.recv(64)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if protocol.HELD in data:
            handle.held.set()
        if protocol.READY in data:
            handle.ready.set()
        if protocol.DRAINING in data:
            handle.left.set()
        if not data:
            asyncio.get_running_loop().remove_reader(handle.channel)
            handle.left.set()
            burial = asyncio.create_task(self._bury(handle))
            self._burials.add(burial)
            burial.add_done_callback(self._burials.discard)

    async def _bury(self, handle: WorkerHandle) -> None:
        """Take the books of a dead worker to their end and free its lane."""
        status = await self._spawner.exit_status(handle.pid, 1.0)
        if status is None and self._spawner.knows(handle.pid):
            _kill(
                handle.pid
            )  # it has closed its channel but lives: not reaped yet, so the number is still its own
            status = await self._spawner.exit_status(handle.pid, 1.0)
        elif status is None:
            status = await _reap_orphan(handle.pid)
        handle.channel.close()
        handle.status = status
        lost = self._node.reset_lane(handle.lane)
        self.lost += lost
        self._free_lanes.add(handle.lane)
        self._handles.discard(handle)
        handle.ended.set()
        if status != 0:
            reason = signal.Signals(-status).name if status is not None and status < 0 else status
            log.error(
                "worker died",
                extra={
                    "slot": handle.slot,
                    "worker_pid": handle.pid,
                    "status": reason,
                    "requests_lost": lost,
                },
            )

    def _stop_replacing(self) -> None:
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        self._keepers = []

    def _close_sockets(self) -> None:
        for sock in (*self._sockets, *self._tls_sockets):
            sock.close()


def restart_delay(failures: int) -> float:
    """Seconds to wait before a slot's next worker, after so many short lives in a row.

    One is an accident and is repaired at once; from the second on it may be the machine or the build.
    """
    return min(0.1 * 2 ** (failures - 2), _MAX_DELAY) if failures > 1 else 0.0


async def _reached(handle: WorkerHandle, state: asyncio.Event) -> None:
    await _any(state, handle.ended, within=_READY_TIMEOUT)
    if not state.is_set():
        ended = f"ended with status {handle.status}" if handle.ended.is_set() else "did not become ready"
        raise WorkerStartError(f"worker {handle.slot} (process {handle.pid}) {ended}; see its messages above")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _reap_orphan(pid: int) -> int | None:
    """The exit status of a worker that has outlived its spawner; None when it is not our child.

    As PID 1 of a container we inherit it, and nobody else would ever reap it.
    """
    for attempt in range(20):
        try:
            reaped, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222  it does not block
        except ChildProcessError:
            return None
        if reaped:
            return os.waitstatus_to_exitcode(status)
        if attempt == 10:
            _kill(pid)  # its channel is closed, but it does not end; a child's number is its own until reaped
        await asyncio.sleep(0.1)
    return None


async def _any(*events: asyncio.Event, within: float) -> None:
    """Wait until one of ``events`` is set, or the time is over."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def _all(events: Iterable[asyncio.Event], *, within: float) -> bool:
    """Wait until all of ``events`` are set, or the time is over; True when they are."""
    pending = [event for event in events if not event.is_set()]
    if not pending:
        return True
    tasks = [asyncio.create_task(event.wait()) for event in pending]
    _done, late = await asyncio.wait(tasks, timeout=within)
    for task in late:
        task.cancel()
    return not late
