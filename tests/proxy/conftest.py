from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.backend import Backend, Script, ok
from harness.client import Client
from harness.process import Process
from harness.raw import Peer, RawBackend
from harness.wait import eventually
from harness.worker import CODECS, Plane

from hotswap_proxy import _core
from tests.proxy.journaled import Told


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_plane(codec: str) -> Iterator[Callable[..., Plane]]:
    planes: list[Plane] = []

    def make(**settings: Any) -> Plane:
        planes.append(Plane(codec, **settings))
        return planes[-1]

    yield make
    for plane in planes:
        # Clients of the test have gone; the worker sees it when it reads.
        eventually(lambda plane=plane: plane.totals()["inflight"] == 0)
        totals = plane.totals()
        assert totals["accepted"] == totals["completed"] + totals["aborted"], totals
        assert totals["lost"] == 0, totals
        assert all(row["pinned"] == 0 for row in plane.node.ledger())
        assert all(stats["active"] == 0 for stats in plane.node.backend_stats())
        assert plane.server.illegal_moves == 0
        plane.close()


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
def make_raw() -> Iterator[Callable[[Callable[[Peer], None]], RawBackend]]:
    backends: list[RawBackend] = []

    def make(script: Callable[[Peer], None], **options: Any) -> RawBackend:
        backends.append(RawBackend(script, **options))
        return backends[-1]

    yield make
    for backend in backends:
        backend.close()
        assert backend.failures == []


@pytest.fixture
def make_process(codec: str) -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def make(*options: Any) -> Process:
        processes.append(Process(codec, *options))
        return processes[-1]

    yield make
    for process in processes:
        assert process.close() == 0


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(plane: Plane | None = None, source: str = "") -> Client:
        clients.append(Client((plane or request.getfixturevalue("plane")).port, source=source))
        return clients[-1]

    yield make
    for client in clients:
        client.sock.close()


@pytest.fixture
def journal() -> _core.Journal:
    return _core.Journal(2, ring_bytes=1 << 16)


@pytest.fixture
def told(journal: _core.Journal, tmp_path: Path) -> Iterator[Told]:
    log = Told(journal, tmp_path / "access.log")
    yield log
    assert log.journal.drain(log.fd)["records"] == 0, "more records than requests"
    os.close(log.fd)


@pytest.fixture
def make_told_plane(make_plane: Callable[..., Plane], journal: _core.Journal) -> Callable[..., Plane]:
    def make(core: dict[str, Any] | None = None, **settings: Any) -> Plane:
        return make_plane(core={"accessLog": True} | (core or {}), journal=journal, **settings)

    return make
