from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from deploy.rollout import World, world

from tests.gateway import anyio_backend, gateway

__all__ = ["anyio_backend", "gateway"]


@pytest.fixture
async def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """One node."""
    async with world(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
async def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Three nodes."""
    async with world(tmp_path, monkeypatch, "n1", "n2", "n3") as made:
        yield made
