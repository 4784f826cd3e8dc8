"""The supervisor with real workers: who dies is replaced, who lives is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from hotswap_proxy import _core
from hotswap_proxy.control import spawning
from hotswap_proxy.control.datadir import DataDir
from hotswap_proxy.control.listeners import listen_proxy
from hotswap_proxy.control.spawning import Spawner, SpawnError
from hotswap_proxy.control.supervisor import (
    LANES_PER_WORKER,
    Supervisor,
    WorkerStartError,
    restart_delay,
)
from hotswap_proxy.control.workerhandle import WorkerHandle
from hotswap_proxy.settings import Settings
from tests.processes import alive, ask, connect, eventually, listening_inodes, peer_inode, socket_inodes


class Books:
    """A node that notes which lanes were reset."""

    def __init__(self, workers: int) -> None:
        self.node = _core.Node(LANES_PER_WORKER * workers)
        self.state_fd, self.arena_fd = self.node.state_fd, self.node.arena_fd
        self.reset: list[int] = []

    def reset_lane(self, lane: int) -> int:
        self.reset.append(lane)
        return int(self.node.reset_lane(lane))


class Running:
    """A supervisor with its parts."""

    def __init__(self, supervisor: Supervisor, spawner: Spawner, books: Books, port: int) -> None:
        self.supervisor, self.spawner, self.books, self.port = supervisor, spawner, books, port

    def pids(self) -> list[int]:
        return [handle.pid for handle in self.supervisor.workers]


@contextlib.asynccontextmanager
async def running(tmp_path: Path, workers: int = 2, **settings: float) -> AsyncIterator[Running]:
    config = Settings(data_dir=tmp_path / "data", workers=workers, **settings)  # type: ignore[arg-type]
    datadir = DataDir(config.data_dir)
    sockets = listen_proxy("127.0.0.1:0", workers)
    spawner, books = Spawner(), Books(workers)
    supervisor = Supervisor(config, books, spawner, sockets, datadir.presence_fd)
    port = sockets[0].getsockname()[1]
    try:
        await supervisor.start()
        yield Running(supervisor, spawner, books, port)
    finally:
        await supervisor.stop()
        await spawner.close()
        await datadir.close()


async def until(probe: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(15):
        while not probe():  # noqa: ASYNC110  some of it is only known to the kernel
            await asyncio.sleep(0.01)
    assert probe(), what


async def in_thread(action: Callable[[], bytes]) -> bytes:
    return await asyncio.to_thread(action)


async def a_connection_to(handle: WorkerHandle, port: int) -> socket.socket:
    """A connection that this worker has accepted; the kernel chooses, so try until it is the one."""
    for _ in range(200):
        client = connect(port)
        inode = await asyncio.to_thread(
            eventually, lambda c=client: peer_inode(c), "the connection is accepted"
        )
        if inode in socket_inodes(handle.pid):
            return client
        client.close()
    raise AssertionError("no connection reached the worker")


def replaced(node: Running, slot: int, old: int) -> Callable[[], bool]:
    def probe() -> bool:
        return any(h.slot == slot and h.pid != old and h.ready.is_set() for h in node.supervisor.workers)

    return probe


def test_a_killed_worker_is_replaced_and_the_other_is_untouched(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as node:
            victim, other = node.supervisor.workers
            kept = await a_connection_to(other, node.port)
            os.kill(victim.pid, signal.SIGKILL)
            await victim.ended.wait()
            await until(replaced(node, victim.slot, victim.pid), "a replacement is ready")
            assert victim.status == -signal.SIGKILL
            assert node.books.reset == [victim.lane]
            assert node.supervisor.workers[1] is other
            assert other.pid in node.pids()
            assert b"HTTP/1.1" in await asyncio.to_thread(ask, kept)
            for _ in range(20):  # both sockets have somebody who accepts
                with connect(node.port) as client:
                    assert b"HTTP/1.1" in await asyncio.to_thread(ask, client)
            assert node.supervisor.replaced == 1

    asyncio.run(scenario())


def test_connections_queued_on_a_dead_worker_wait_for_its_replacement(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, workers=1) as node:
            (victim,) = node.supervisor.workers
            os.kill(
                victim.pid, signal.SIGSTOP
            )  # it accepts no more, so these stay queued on the listening socket
            clients = [connect(node.port) for _ in range(5)]
            os.kill(victim.pid, signal.SIGKILL)
            for client in clients:
                assert b"HTTP/1.1" in await asyncio.to_thread(ask, client)

    asyncio.run(scenario())


def test_no_process_but_control_holds_a_workers_listening_socket(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as node:
            listening = listening_inodes(node.port)
            assert len(listening) == 2
            held = [socket_inodes(pid) & listening for pid in node.pids()]
            assert [len(own) for own in held] == [1, 1]
            assert held[0] != held[1]
            assert node.spawner.pid is not None
            assert not socket_inodes(node.spawner.pid) & listening

    asyncio.run(scenario())


def test_a_worker_told_to_end_by_an_operator_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, workers=1) as node:
            (first,) = node.supervisor.workers
            os.kill(first.pid, signal.SIGTERM)
            await until(replaced(node, 0, first.pid), "a replacement is ready")
            async with asyncio.timeout(15):
                await first.ended.wait()
            assert first.status == 0

    asyncio.run(scenario())


def test_a_dead_spawner_leaves_the_workers_alone_and_is_replaced_when_needed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as node:
            before, spawner = node.pids(), node.spawner.pid
            assert spawner is not None
            os.kill(spawner, signal.SIGKILL)
            await until(lambda: node.spawner.pid is None, "the end of the spawner is noticed")
            assert node.pids() == before
            with connect(node.port) as client:
                assert b"HTTP/1.1" in await asyncio.to_thread(ask, client)
            os.kill(before[0], signal.SIGKILL)  # the parent that could tell its status is gone
            await until(replaced(node, 0, before[0]), "a replacement is ready")
            assert node.spawner.pid not in (None, spawner)
            assert node.pids()[1] == before[1]

    asyncio.run(scenario())


def test_repeated_deaths_never_run_out_of_lanes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, workers=1) as node:
            seen = set()
            for _ in range(4):
                (handle,) = [h for h in node.supervisor.workers if h.ready.is_set() and not h.left.is_set()]
                seen.add(handle.pid)
                os.kill(handle.pid, signal.SIGKILL)
                await until(replaced(node, 0, handle.pid), "a replacement is ready")
                await handle.ended.wait()
            assert len(seen) == 4
            assert set(node.books.reset) <= {0, 1}
            assert len(node.books.reset) == 4

    asyncio.run(scenario())


@contextlib.contextmanager
def no_free_descriptors() -> Iterator[None]:
    """What opens a descriptor in this process fails with EMFILE."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_slot_gets_its_worker_when_descriptors_are_free_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running(tmp_path, workers=1) as node:
            (victim,) = node.supervisor.workers
            with no_free_descriptors():
                os.kill(victim.pid, signal.SIGKILL)
                # More often than there are lanes: none may be lost.
                await until(lambda: caplog.text.count("cannot start a worker") > 2, "the failures are logged")
            await until(replaced(node, 0, victim.pid), "a replacement is ready")
            with connect(node.port) as client:
                assert b"HTTP/1.1" in await asyncio.to_thread(ask, client)

    asyncio.run(scenario())


def test_a_slot_outlives_an_error_that_nobody_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(tmp_path, workers=1) as node:
            (victim,) = node.supervisor.workers
            spawn, failures = node.spawner.spawn, [RuntimeError("a bug")]

            async def spawn_later(*given: object) -> int:
                if failures:
                    raise failures.pop()
                return await spawn(*given)  # type: ignore[arg-type]

            monkeypatch.setattr(node.spawner, "spawn", spawn_later)
            os.kill(victim.pid, signal.SIGKILL)
            await until(replaced(node, 0, victim.pid), "a replacement is ready")

    asyncio.run(scenario())


@contextlib.contextmanager
def heir_of_orphans() -> Iterator[None]:
    """Orphaned descendants become children of this process, as of PID 1 in a container."""
    prctl, set_child_subreaper = ctypes.CDLL(None).prctl, 36
    assert prctl(set_child_subreaper, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(set_child_subreaper, 0, 0, 0, 0)


def test_an_orphaned_worker_that_we_inherit_is_reaped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, workers=1) as node:
            (victim,) = node.supervisor.workers
            assert node.spawner.pid is not None
            os.kill(node.spawner.pid, signal.SIGKILL)
            await until(lambda: node.spawner.pid is None, "the end of the spawner is noticed")
            os.kill(victim.pid, signal.SIGKILL)
            async with asyncio.timeout(15):
                await victim.ended.wait()
            assert victim.status == -signal.SIGKILL
            with pytest.raises(ProcessLookupError):  # which a zombie does not raise
                os.kill(victim.pid, 0)
            await until(replaced(node, 0, victim.pid), "a replacement is ready")

    with heir_of_orphans():
        asyncio.run(scenario())


def test_workers_ignore_the_terminals_interrupt(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, workers=1) as node:
            (handle,) = node.supervisor.workers
            os.kill(handle.pid, signal.SIGINT)
            os.kill(handle.pid, signal.SIGHUP)
            with connect(node.port) as client:
                assert b"HTTP/1.1" in await asyncio.to_thread(ask, client)
            assert not handle.left.is_set()

    asyncio.run(scenario())


def test_what_was_retired_is_resumed_at_the_second_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as node:
            supervisor, spawn, failures = node.supervisor, node.spawner.spawn, [SpawnError("no memory")]

            async def spawn_later(*given: object) -> int:
                if failures:
                    raise failures.pop()
                return await spawn(*given)  # type: ignore[arg-type]

            kept = await a_connection_to(supervisor.workers[0], node.port)
            await supervisor.retire()
            monkeypatch.setattr(node.spawner, "spawn", spawn_later)
            with pytest.raises(WorkerStartError, match="no memory"):
                await supervisor.resume()
            await supervisor.resume()
            serving = [each for each in supervisor.workers if not each.left.is_set()]
            assert [each.slot for each in serving] == [0, 1]
            with connect(node.port) as client:
                assert b"HTTP/1.1" in await asyncio.to_thread(ask, client)
            with kept:  # nobody took the lane of who drains
                assert b"HTTP/1.1" in await asyncio.to_thread(ask, kept)
            os.kill(serving[0].pid, signal.SIGKILL)
            await until(replaced(node, 0, serving[0].pid), "it is kept again")

    asyncio.run(scenario())


def test_a_spawner_that_hangs_is_replaced_and_does_not_keep_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawning, "SPAWN_TIMEOUT", 3.0)
    monkeypatch.setattr(spawning, "END_TIMEOUT", 0.1)

    async def scenario() -> None:
        async with running(tmp_path, workers=1) as node:
            (victim,), hung = node.supervisor.workers, node.spawner.pid
            assert hung is not None
            os.kill(hung, signal.SIGSTOP)
            os.kill(victim.pid, signal.SIGKILL)
            await until(replaced(node, 0, victim.pid), "a replacement is ready")
            assert node.spawner.pid not in (None, hung)
            os.kill(node.spawner.pid or 0, signal.SIGSTOP)

    asyncio.run(scenario())


def test_drain_ends_every_worker_and_frees_the_port(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as node:
            handles = node.supervisor.workers
            assert await node.supervisor.drain(10)
            assert [handle.status for handle in handles] == [0, 0]
            assert not any(alive(handle.pid) for handle in handles)
            with pytest.raises(ConnectionRefusedError):
                connect(node.port)

    asyncio.run(scenario())


def test_a_worker_that_cannot_attach_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = Settings(data_dir=tmp_path / "data", workers=1)
        datadir, spawner, books = DataDir(config.data_dir), Spawner(), Books(1)
        books.state_fd = os.memfd_create("not a state region")
        supervisor = Supervisor(config, books, spawner, listen_proxy("127.0.0.1:0", 1), datadir.presence_fd)
        try:
            with pytest.raises(WorkerStartError, match=r"worker 0 \(process \d+\) ended with status 1"):
                await supervisor.start()
        finally:
            await supervisor.stop()
            await spawner.close()
            await datadir.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(("failures", "delay"), [(0, 0.0), (1, 0.0), (2, 0.1), (3, 0.2), (5, 0.8), (50, 5.0)])
def test_restart_delay_grows_from_the_second_short_life_on(failures: int, delay: float) -> None:
    assert restart_delay(failures) == pytest.approx(delay)
