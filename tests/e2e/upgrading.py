"""What tests of upgrades have in common: the load, its route, stages at which a new process can be halted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from e2e.conftest import Api

from tests.upgrades import Upgradable

CLIENTS = {"get": 4, "post": 2, "once": 4, "slow": 2}
ROUTE = {"name": "all", "pathPattern": "/**"}
Start = Callable[..., Upgradable]

# Of a module: the line before which a new process halts.
STAGES = {
    "prepares": ("control/handover/predecessor.py", '        await self._tell({"prepared"'),
    "takes over": ("control/handover/turn.py", "    standing.take(found or (), node"),
    "serves": ("control/handover/predecessor.py", '        await self._tell({"serving": True})'),
    "takes the duties": ("control/main.py", "        await duties.take()\n"),
}


def serve(node: Upgradable, *urls: str, **fields: Any) -> Api:
    api = Api(node)
    api.call("POST", "/gateway/routes", ROUTE | {"backends": [{"url": url} for url in urls]} | fields)
    return api


def add_route(api: Api, path: str, url: str) -> None:
    api.call("POST", "/gateway/routes", {"name": path, "pathPattern": path, "backends": [{"url": url}]})
