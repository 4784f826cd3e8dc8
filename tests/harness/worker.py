"""A data plane in a thread of the test: shared memory, catalog and a worker, no control process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from typing import Any

import uvloop

from hotswap_proxy import _core, _wire
from hotswap_proxy.worker.codec import MAX_HEAD, factories

CODECS = ("httptools", "native")
FILES: dict[str, str] = {}  # that backends may name for TLS; all planes know all of them


def backend(url: str, backend_id: str = "b1", **changes: Any) -> dict[str, Any]:
    """A backend as the catalog takes it, inline in a route."""
    document: dict[str, Any] = {"backendId": backend_id, "name": backend_id, "url": url, "weight": 100}
    document["isEnabled"] = True
    document["pool"] = {"minSize": 10, "maxSize": 100, "maxIdleMs": 300_000, "waitMs": 5_000}
    document["timeouts"] = {"connectMs": 5_000, "readMs": 30_000, "writeMs": 30_000}
    for key, value in changes.items():
        document[key] = document.get(key, {}) | value if isinstance(value, dict) else value
    return document


def route(pattern: str, *backends: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A route as the catalog takes it."""
    return {
        "routeId": changes.pop("routeId", pattern),
        "name": changes.pop("name", pattern),
        "version": "1.0",
        "pathPattern": pattern,
        "hosts": [],
        "methods": ["*"],
        "priority": 0,
        "isEnabled": True,
        "strategy": "RoundRobin",
        "timeoutMs": 30_000,
        "maxRequestBody": 10 << 20,
        "maxResponseBody": 10 << 20,
        "backends": list(backends),
    } | changes


class Plane:
    """One worker serving on 127.0.0.1:``port``; ``publish`` swaps its configuration.

    With a ``bundle`` (see ``Worker.use_tls``) the port speaks TLS. A plane ``beside`` another one is a second
    worker of its node.
    """

    def __init__(
        self,
        codec: str,
        core: dict[str, Any] | None = None,
        bundle: dict[str, Any] | None = None,
        middleware: dict[str, Any] | None = None,
        beside: Plane | None = None,
        journal: _core.Journal | None = None,
        **settings: float,
    ) -> None:
        self._bundle = bundle
        self._middleware = middleware
        self.node = beside.node if beside else _core.Node(2)
        self._lane = 1 if beside else 0
        self._journal = journal
        self._core_settings = json.dumps(core or {}).encode()
        self.catalog = beside.catalog if beside else _core.Catalog(self.node)
        sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = sock.getsockname()[1]
        self._ready = threading.Event()
        self._settings = settings
        max_head = (core or {}).get("maxHeaderBytes", MAX_HEAD)
        self._codec = factories(max_head) if codec == "httptools" else None
        self._fd = os.dup(sock.fileno())
        sock.close()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._main()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.worker = _core.Worker(
            self.node.state_fd,
            self.node.arena_fd,
            self._lane,
            self._core_settings,
            self._journal.fd if self._journal else None,
        )
        runner = None
        if self._middleware is not None:
            from hotswap_proxy.worker.middleware import Runner

            runner = Runner(self.loop, self._middleware)
        self.server = _wire.Server(self.worker, self.loop, self._settings, self._codec, runner)
        if self._bundle is not None:
            self.worker.use_tls(json.dumps(self._bundle).encode())
        self.server.listen(self._fd, self._bundle is not None)
        self._ready.set()
        await self._stop.wait()
        self.server.close()

    def publish(self, *routes: dict[str, Any], reset: bool = True, **changes: Any) -> int:
        document = {"reset": reset, "upsertRoutes": list(routes), "tlsFiles": FILES} | changes
        return self.catalog.stage(json.dumps(document).encode()).publish()

    def call(self, function: Any) -> Any:
        """Run a function or coroutine function on the worker's loop."""

        async def run() -> Any:
            result = function()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)

    def totals(self) -> dict[str, int]:
        """The ledger over all generations."""
        rows = self.node.ledger()
        keys = ("accepted", "completed", "aborted", "lost", "inflight")
        return {key: sum(row[key] for row in rows) for key in keys}

    def active(self, url: str) -> int:
        """Requests in progress on the backend at ``url``."""
        address = url.rpartition("/")[2]
        rows = self.node.backend_stats()
        return sum(int(row["active"]) for row in rows if address in (row["address"] or ""))

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
