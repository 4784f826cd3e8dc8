"""What is logged while a call is carried out bears its trace id and its user, and ends with it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from tests.gateway import Gateway
from tests.logs import written

pytestmark = pytest.mark.anyio
LOGGER = logging.getLogger("hotswap_proxy.control")


async def test_lines_of_a_call(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        LOGGER.warning("about to break")
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(gateway.node, "nodes", broken)
    with written(monkeypatch) as stream:
        answer = await gateway.client.get("/api/v1/gateway/nodes")
        LOGGER.info("afterwards")
    assert answer.status_code == 500
    first, second, last = [
        line for line in map(json.loads, stream.getvalue().splitlines()) if "hotswap" in line["logger"]
    ]
    trace_id = answer.json()["error"]["traceId"]
    for line, event in ((first, "about to break"), (second, "GET /api/v1/gateway/nodes failed")):
        assert (line["event"], line["traceId"], line["user"]) == (event, trace_id, "admin")
    assert "RuntimeError: password=***" in second["exception"]
    assert not {"traceId", "user"} & set(last)
