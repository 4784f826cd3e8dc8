"""Noticing that a file has changed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hotswap_proxy.control.filewatch import FileWatch

QUICK = 0.005


async def is_noticed(watch: FileWatch) -> bool:
    try:
        await asyncio.wait_for(watch.changed(QUICK), 0.5)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("how", ["write", "rename", "symlink"])
def test_a_change_is_noticed_once(tmp_path: Path, how: str) -> None:
    path = tmp_path / "gateway.yaml"
    (tmp_path / "one").write_text("a")
    path.symlink_to(tmp_path / "one")

    async def scenario() -> None:
        watch = FileWatch(path)
        assert not await is_noticed(watch)
        (tmp_path / "two").write_text("bb")
        if how == "write":
            path.write_text("ccc")
        elif how == "rename":
            (tmp_path / "two").replace(path)
        else:
            (tmp_path / "link").symlink_to(tmp_path / "two")
            (tmp_path / "link").replace(path)
        assert await is_noticed(watch)
        assert not await is_noticed(watch)

    asyncio.run(scenario())


def test_a_file_that_is_gone_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("a")

    async def scenario() -> None:
        watch = FileWatch(path)
        path.unlink()
        assert not await is_noticed(watch)
        path.write_text("b")
        assert await is_noticed(watch)

    asyncio.run(scenario())


def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("a")

    async def scenario() -> None:
        watch = FileWatch(path)
        noticed = asyncio.create_task(watch.changed(0.05))
        for size in range(2, 12):
            path.write_text("a" * size)
            os.utime(path, ns=(size, size))
            await asyncio.sleep(0.025)
            assert not noticed.done()
        await asyncio.wait_for(noticed, 5)

    asyncio.run(scenario())
