"""The life of a worker around its server: what makes it drain, what makes it end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hotswap_proxy.settings import Settings
from hotswap_proxy.worker.main import WorkerProcess
from hotswap_proxy.worker.protocol import (
    BEGIN,
    DRAIN,
    DRAINING,
    GEOIP,
    READY,
    STOP,
    SUCCESSOR_SOCKET,
    TLS,
)
from hotswap_proxy.worker.resources import Resources, Use, contents


class Server:
    """Drains when the test says that its last connection has ended."""

    def __init__(self) -> None:
        self.connections = 1
        self.accepting, self.closed = True, False
        self.last_has_ended = asyncio.Event()

    def listen(self, fd: int) -> None:
        raise AssertionError("the socket is listened on before the life begins")

    def stop_accepting(self) -> None:
        self.accepting = False

    async def drain(self) -> None:
        await self.last_has_ended.wait()

    def close(self) -> None:
        self.closed = True


class Life:
    """A worker's life in a task, with the control process's end of its socket."""

    def __init__(self, tmp_path: Path, uses: dict[bytes, Use] | None = None, **settings: float) -> None:
        self.server = Server()
        self.control, theirs = socket.socketpair()
        self.control.setblocking(False)
        config = Settings(data_dir=tmp_path, **settings)  # type: ignore[arg-type]
        self.process = WorkerProcess(
            asyncio.get_running_loop(), self.server, theirs, config, Resources(uses or {})
        )
        self.task = asyncio.create_task(self.process.run())

    async def hear(self) -> bytes:
        async with asyncio.timeout(10):
            return await asyncio.get_running_loop().sock_recv(self.control, 1)

    async def end(self) -> None:
        async with asyncio.timeout(10):
            await self.task
        assert self.server.closed


@contextlib.asynccontextmanager
async def life(
    tmp_path: Path, uses: dict[bytes, Use] | None = None, **settings: float
) -> AsyncIterator[Life]:
    lived = Life(tmp_path, uses, **settings)
    try:
        assert await lived.hear() == READY
        yield lived
    finally:
        lived.process.stop()
        await lived.end()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


def drain_by_command(lived: Life) -> None:
    lived.control.send(DRAIN)


def drain_by_signal(lived: Life) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("how", [drain_by_command, drain_by_signal])
def test_a_drain_ends_with_the_last_connection(tmp_path: Path, how: object) -> None:
    async def scenario() -> None:
        async with life(tmp_path) as lived:
            how(lived)  # type: ignore[operator]
            assert await lived.hear() == DRAINING
            assert not lived.server.accepting
            assert not lived.task.done()
            lived.server.last_has_ended.set()
            await lived.end()

    asyncio.run(scenario())


def test_stop_ends_it_with_connections_open(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with life(tmp_path) as lived:
            lived.control.send(STOP)
            await lived.end()

    asyncio.run(scenario())


def test_a_second_signal_ends_the_drain(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with life(tmp_path) as lived:
            drain_by_signal(lived)
            assert await lived.hear() == DRAINING
            drain_by_signal(lived)
            await lived.end()

    asyncio.run(scenario())


def test_a_drain_has_a_time_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with life(tmp_path, drain_timeout=0.05) as lived:
            drain_by_command(lived)
            await lived.end()

    asyncio.run(scenario())
    (record,) = [record for record in caplog.records if record.message == "drain timed out"]
    assert vars(record)["connections_cut"] == 1


def test_the_end_of_control_changes_nothing_until_its_successor_comes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with life(tmp_path) as lived:
            lived.control.close()
            await asyncio.sleep(0.05)
            assert lived.server.accepting
            assert not lived.task.done()

            async def successor(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(DRAIN)
                writer.close()

            server = await asyncio.start_unix_server(successor, tmp_path / SUCCESSOR_SOCKET)
            lived.server.last_has_ended.set()
            await lived.end()
            assert not lived.server.accepting
            server.close()

    asyncio.run(scenario())


def test_an_order_given_just_before_control_ended_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with life(tmp_path) as lived:
            lived.control.send(DRAIN)
            lived.control.close()
            lived.server.last_has_ended.set()
            await lived.end()
            assert not lived.server.accepting

    asyncio.run(scenario())


def resource(data: bytes) -> int:
    fd = os.memfd_create("resource")
    os.write(fd, data)
    return fd


def test_a_worker_takes_its_resources_before_it_begins() -> None:
    seen: list[tuple[bytes, bytes]] = []
    uses = {kind: lambda fd, kind=kind: seen.append((kind, contents(fd))) for kind in (TLS, GEOIP)}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for kind, data in ((GEOIP, b"places"), (TLS, b"keys"), (b"?", b"of a later version")):
            fd = resource(data)
            socket.send_fds(ours, [kind], [fd])
            os.close(fd)
        ours.send(BEGIN + DRAIN)
        assert Resources(uses).take_first(theirs)
        assert seen == [(GEOIP, b"places"), (TLS, b"keys")]
        assert theirs.recv(8) == DRAIN, "what comes later is left for later"


@pytest.mark.parametrize("word", [STOP, b""])
def test_a_worker_that_is_not_wanted_any_more_does_not_begin(word: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.send(word)
        assert not Resources({}).take_first(theirs)


def test_a_changed_resource_is_used_and_a_broken_one_does_not_end_the_worker(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def use(fd: int) -> None:
        data = contents(fd)
        if data == b"broken":
            raise ValueError("broken")
        seen.append(data)

    async def scenario() -> None:
        async with life(tmp_path, {TLS: use}) as lived:
            for data in (b"one", b"broken", b"two"):
                fd = resource(data)
                socket.send_fds(lived.control, [TLS], [fd])
                os.close(fd)
            lived.control.send(DRAIN)
            assert await lived.hear() == DRAINING
            lived.server.last_has_ended.set()
            await lived.end()
        assert seen == [b"one", b"two"]

    before = len(list(Path("/proc/self/fd").iterdir()))
    asyncio.run(scenario())
    assert len(list(Path("/proc/self/fd").iterdir())) <= before, "every descriptor was closed"
