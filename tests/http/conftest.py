from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.wait import eventually
from harness.worker import CODECS, Plane, backend, route
from peers import Recorder


class Gateway:
    """A worker and one backend behind it, shared by the cases of a file."""

    def __init__(self, codec: str, **settings: float) -> None:
        self.codec = codec
        self.plane = Plane(codec, **settings)
        self.port = self.plane.port
        self.backend = Recorder()
        back = backend(self.backend.url)
        self.plane.publish(
            route("/**", back),
            route("/small/**", back, maxRequestBody=10, maxResponseBody=10, priority=10),
        )

    def close(self) -> None:
        """Every case leaves a worker that is whole and a ledger that balances."""
        eventually(lambda: self.plane.totals()["inflight"] == 0)
        totals = self.plane.totals()
        assert totals["accepted"] == totals["completed"] + totals["aborted"], totals
        assert all(row["pinned"] == 0 for row in self.plane.node.ledger())
        assert all(stats["active"] == 0 for stats in self.plane.node.backend_stats())
        assert self.plane.server.illegal_moves == 0
        assert self.backend.failures == []
        self.plane.close()
        self.backend.close()


@pytest.fixture(params=CODECS, scope="module")
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def gateway(codec: str) -> Iterator[Gateway]:
    gateway = Gateway(codec)
    yield gateway
    gateway.close()
