from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.certs import bundle, client_context
from harness.client import Client
from harness.worker import Plane
from proxy.conftest import codec, make_backend, make_plane, make_raw

__all__ = ["codec", "make_backend", "make_plane", "make_raw"]


@pytest.fixture
def plane(make_plane: Callable[..., Plane]) -> Plane:
    """A worker whose port speaks TLS, with a certificate for localhost."""
    return make_plane(bundle=bundle("localhost"))


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    """Connections to ``plane`` over TLS, verified; ``name`` is asked for."""
    clients: list[Client] = []

    def make(plane: Plane | None = None, *, name: str = "localhost", **options: Any) -> Client:
        options.setdefault("tls", client_context())
        where = plane or request.getfixturevalue("plane")
        clients.append(Client(where.port, name=name, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.sock.close()
