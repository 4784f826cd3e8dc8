from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hotswap_proxy.settings import Settings
from hotswap_proxy.store import FILE_NAME, Store
from tests.gateway import anyio_backend, empty_store, gateway

__all__ = ["anyio_backend", "gateway"]


@pytest.fixture
async def store(tmp_path: Path, database_url: str | None) -> AsyncIterator[Store]:
    """An empty store, of both databases."""
    if database_url is None:
        (tmp_path / FILE_NAME).write_bytes(empty_store())
    opened = await Store.open(Settings(data_dir=tmp_path, database_url=database_url))
    yield opened
    await opened.close()
