"""Taking the listening sockets of orphaned workers over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotswap_proxy.control import succession
from hotswap_proxy.control.listeners import listen_proxy, listening
from hotswap_proxy.control.succession import Succession
from hotswap_proxy.worker.protocol import DRAIN, LISTENING, SUCCESSOR_SOCKET


class Orphan:
    """What a worker does that has lost its control process."""

    def __init__(self, directory: Path, *sockets: socket.socket) -> None:
        self.heard = b""
        self._path = str(directory / SUCCESSOR_SOCKET)
        self._sockets = sockets
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(self._path)
            socket.send_fds(line, [LISTENING], [sock.fileno() for sock in self._sockets])
            with contextlib.suppress(ConnectionResetError):  # closed with our word unread
                self.heard = line.recv(1)

    def join(self) -> bytes:
        self._thread.join(10)
        return self.heard


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


@pytest.fixture
def before() -> Iterator[list[socket.socket]]:
    sockets = listen_proxy("127.0.0.1:0", 2)
    yield sockets
    for sock in sockets:
        sock.close()


def test_their_sockets_are_ours_and_then_they_drain(tmp_path: Path, before: list[socket.socket]) -> None:
    heir = Succession(tmp_path)
    orphans = [Orphan(tmp_path, sock) for sock in before]
    port = before[0].getsockname()[1]
    ours = listen_proxy(f"127.0.0.1:{port}", 2, heir.gather)
    assert {inode(sock) for sock in ours} == {inode(sock) for sock in before}
    assert listening(port) == 2
    with socket.create_connection(("127.0.0.1", port)) as client:
        for sock in before:  # they are closed there, and nobody in their queues notices
            sock.close()
        accepted = next(found for sock in ours if (found := _accepted(sock)))
        accepted.close()
        assert client.recv(1) == b""
    asyncio.run(heir.relieve())
    assert [orphan.join() for orphan in orphans] == [DRAIN, DRAIN]
    heir.close()
    for sock in ours:
        sock.close()


def _accepted(sock: socket.socket) -> socket.socket | None:
    try:
        return sock.accept()[0]
    except BlockingIOError:
        return None


@pytest.mark.parametrize(("count", "there"), [(1, 2), (3, 3)])
def test_another_number_of_workers(
    tmp_path: Path, before: list[socket.socket], count: int, there: int
) -> None:
    heir = Succession(tmp_path)
    orphans = [Orphan(tmp_path, sock) for sock in before]
    port = before[0].getsockname()[1]
    ours = listen_proxy(f"127.0.0.1:{port}", count, heir.gather)
    assert len(ours) == count
    assert listening(port) == there
    heir.close()
    assert [orphan.join() for orphan in orphans] == [b"", b""], "told nothing, they go on"
    for sock in ours:
        sock.close()


def test_another_address_is_not_waited_for(tmp_path: Path, before: list[socket.socket]) -> None:
    heir = Succession(tmp_path)
    orphan = Orphan(tmp_path, *before)
    ours = listen_proxy("127.0.0.1:0", 1, heir.gather)
    assert ours[0].getsockname() != before[0].getsockname()
    ours[0].close()
    heir.close()
    assert orphan.join() == b""


def test_each_address_of_theirs_is_taken_over(tmp_path: Path, before: list[socket.socket]) -> None:
    tls_before = listen_proxy("127.0.0.1:0", 2)
    heir = Succession(tmp_path)
    orphans = [Orphan(tmp_path, *pair) for pair in zip(before, tls_before, strict=True)]
    taken = []
    for theirs in (before, tls_before):
        ours = listen_proxy(f"127.0.0.1:{theirs[0].getsockname()[1]}", 2, heir.gather)
        assert {inode(sock) for sock in ours} == {inode(sock) for sock in theirs}
        taken += ours
    asyncio.run(heir.relieve())
    assert [orphan.join() for orphan in orphans] == [DRAIN, DRAIN]
    heir.close()
    for sock in [*taken, *tls_before]:
        sock.close()


def test_an_address_that_is_given_up_closes_with_the_orphans(
    tmp_path: Path, before: list[socket.socket]
) -> None:
    given_up = listen_proxy("127.0.0.1:0", 1)
    port = given_up[0].getsockname()[1]
    heir = Succession(tmp_path)
    orphan = Orphan(tmp_path, before[0], *given_up)
    ours = listen_proxy(f"127.0.0.1:{before[0].getsockname()[1]}", 1, heir.gather)
    asyncio.run(heir.relieve())
    assert orphan.join() == DRAIN
    given_up[0].close()
    assert listening(port) == 0, "no copy stays here"
    heir.close()
    ours[0].close()


def test_one_that_does_not_come_is_not_waited_for_forever(
    tmp_path: Path, before: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "PATIENCE", 0.3)
    heir = Succession(tmp_path)
    orphan = Orphan(tmp_path, before[0])
    ours = listen_proxy(f"127.0.0.1:{before[0].getsockname()[1]}", 2, heir.gather)
    assert [inode(sock) in map(inode, before) for sock in ours] == [True, False]
    heir.close()
    orphan.join()
    for sock in ours:
        sock.close()


def test_a_path_too_long_for_a_socket_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    heir = Succession(deep)
    assert "cannot listen for orphaned workers" in caplog.text
    assert heir.gather(lambda _sock: True, lambda _found: False) == []
    asyncio.run(heir.relieve())
    heir.close()
