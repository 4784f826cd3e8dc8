from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.backend import Backend, Script, ok
from harness.client import Client
from harness.worker import CODECS, Plane


@pytest.fixture(params=sorted(CODECS))
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_plane(codec: str) -> Iterator[Callable[..., Plane]]:
    planes: list[Plane] = []

    def make(**settings: float) -> Plane:
        planes.append(Plane(codec, **settings))
        return planes[-1]

    yield make
    for plane in planes:
        settle(plane)
        totals = plane.totals()
        assert totals["accepted"] == totals["completed"] + totals["aborted"], totals
        assert totals["inflight"] == totals["lost"] == 0, totals
        assert all(row["pinned"] == 0 for row in plane.node.ledger())
        assert all(stats["active"] == 0 for stats in plane.node.backend_stats())
        assert plane.server.illegal_moves == 0
        plane.close()


def settle(plane: Plane) -> None:
    """Clients of the test have gone; wait until the worker has seen it."""
    deadline = time.monotonic() + 10
    while plane.totals()["inflight"] and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.fixture
def plane(make_plane: Callable[..., Plane]) -> Plane:
    return make_plane()


@pytest.fixture
def make_backend() -> Iterator[Callable[..., Backend]]:
    backends: list[Backend] = []

    def make(script: Script = lambda _request: ok(), **options: Any) -> Backend:
        backends.append(Backend(script, **options))
        return backends[-1]

    yield make
    for backend in backends:
        backend.close()
        assert backend.protocol_errors == []


@pytest.fixture
def connect(plane: Plane) -> Iterator[Callable[[], Client]]:
    clients: list[Client] = []

    def make() -> Client:
        clients.append(Client(plane.port))
        return clients[-1]

    yield make
    for client in clients:
        client.sock.close()
