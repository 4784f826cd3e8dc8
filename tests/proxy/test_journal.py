"""What a worker tells of requests: records through shared memory, access lines out of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.backend import Backend
from harness.client import Client
from harness.wait import eventually
from harness.worker import Plane, backend, route

from hotswap_proxy import _core

Lines = Callable[[int], list[dict[str, Any]]]


@pytest.fixture
def journal() -> _core.Journal:
    return _core.Journal(2, ring_bytes=1 << 16)


@pytest.fixture
def lines(journal: _core.Journal, tmp_path: Path) -> Iterator[Lines]:
    """Waits for so many access lines and returns them all."""
    path = tmp_path / "access.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def read(count: int) -> list[dict[str, Any]]:
        def enough() -> bool:
            told = journal.drain(fd)
            assert told["corrupt"] == told["dropped"] == told["linesLost"] == 0
            return path.read_bytes().count(b"\n") >= count

        eventually(enough)
        found = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(found) == count
        return found

    yield read
    os.close(fd)


@pytest.fixture
def plane(make_plane: Callable[..., Plane], journal: _core.Journal) -> Plane:
    return make_plane(core={"accessLog": True}, journal=journal)


def test_a_request_gives_one_line(
    plane: Plane, make_backend: Callable[..., Backend], connect: Callable[..., Client], lines: Lines
) -> None:
    origin = make_backend()
    plane.publish(route("/items/{id}", backend(origin.url, name="store"), routeId="r1", name="items"))
    client = connect()
    answer = client.get("/items/7?a=1&token=hidden", 'User-Agent: x "y"', "X-Request-ID: abc-1")
    assert answer.status == 200
    (line,) = lines(1)
    assert line["path"] == "/items/7"
    assert line["query"] == "a=1&token=***"
    assert (line["method"], line["status"], line["flags"]) == ("GET", 200, [])
    assert (line["route"], line["routeId"], line["version"], line["arm"]) == ("items", "r1", "1.0", "stable")
    assert (line["backend"], line["attempts"], line["requestId"]) == ("store", 1, "abc-1")
    assert line["address"] == origin.url.rpartition("/")[2]
    assert line["userAgent"] == 'x "y"'
    assert line["bytesOut"] == len(answer.body)
    assert 0 < line["upstreamMs"] <= line["durationMs"]
