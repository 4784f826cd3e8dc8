from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hotswap_proxy.settings import Settings
from hotswap_proxy.store import FILE_NAME
from tests.fleet.members import Member, member
from tests.gateway import anyio_backend, empty_store

__all__ = ["anyio_backend"]


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    """Of nodes that share a store."""
    if database_url is None:
        (tmp_path / FILE_NAME).write_bytes(empty_store())
    return Settings(data_dir=tmp_path, database_url=database_url)


@pytest.fixture
async def pair(settings: Settings) -> AsyncIterator[tuple[Member, Member]]:
    """Two nodes that share a store."""
    async with member(settings, "a") as a, member(settings, "b") as b:
        yield a, b
