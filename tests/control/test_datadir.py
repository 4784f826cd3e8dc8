"""The data directory's locks: one node at a time, and knowledge of workers that outlived theirs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hotswap_proxy.control.datadir import DataDir, DataDirError
from hotswap_proxy.worker.protocol import DRAIN, LISTENING, SUCCESSOR_SOCKET


def test_two_nodes_cannot_share_a_directory(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = DataDir(tmp_path / "data")
        with pytest.raises(DataDirError, match=rf"in use by another node \(process {os.getpid()}\)"):
            DataDir(tmp_path / "data")
        await first.close()
        await DataDir(tmp_path / "data").close()

    asyncio.run(scenario())


def test_a_worker_that_still_holds_its_descriptor_is_an_orphan(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = DataDir(tmp_path)
        assert not first.orphans
        workers = os.dup(first.presence_fd)  # what a worker inherits
        await first.close()
        second = DataDir(tmp_path)
        assert second.orphans
        await second.close()
        os.close(workers)
        third = DataDir(tmp_path)
        assert not third.orphans
        await third.close()

    asyncio.run(scenario())


def test_orphans_that_come_late_are_told_to_drain(tmp_path: Path) -> None:
    async def scenario() -> None:
        datadir = DataDir(tmp_path)
        assert datadir.succession is not None
        await datadir.succession.relieve()
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / SUCCESSOR_SOCKET))
        writer.write(LISTENING)
        assert await reader.read() == DRAIN
        writer.close()
        await datadir.close()
        assert not (tmp_path / SUCCESSOR_SOCKET).exists()

    asyncio.run(scenario())


def test_a_path_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirError, match=r"cannot use the data directory .*file"):
        DataDir(tmp_path / "file")
