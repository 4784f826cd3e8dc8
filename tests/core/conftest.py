from __future__ import annotations

import pytest
from gateway import Gateway


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture(scope="module")
def shared() -> Gateway:
    """For property tests, whose every example replaces the whole configuration."""
    return Gateway(lanes=2)
