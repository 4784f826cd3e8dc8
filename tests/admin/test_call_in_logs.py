"""What is logged while a call is carried out bears its trace id and its user, and ends with it."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from hotswap_proxy.observe import structured
from tests.gateway import Gateway

pytestmark = pytest.mark.anyio
LOGGER = logging.getLogger("hotswap_proxy.control")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    structured.configure("info", "node-1")
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_lines_of_a_call(
    gateway: Gateway, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        LOGGER.warning("about to break")
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(gateway.node, "nodes", broken)
    answer = await gateway.client.get("/api/v1/gateway/nodes")
    assert answer.status_code == 500
    LOGGER.info("afterwards")
    first, second, last = [
        line for line in map(json.loads, written.getvalue().splitlines()) if "hotswap" in line["logger"]
    ]
    trace_id = answer.json()["error"]["traceId"]
    for line, event in ((first, "about to break"), (second, "GET /api/v1/gateway/nodes failed")):
        assert (line["event"], line["traceId"], line["user"]) == (event, trace_id, "admin")
    assert "RuntimeError: password=***" in second["exception"]
    assert not {"traceId", "user"} & set(last)
