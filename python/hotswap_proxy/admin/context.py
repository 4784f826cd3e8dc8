"""What the admin API works on. It holds no state and no rules of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hotswap_proxy.control.configuration import Configuration
from hotswap_proxy.deploy.commands import Commands
from hotswap_proxy.fleet.redis import Redis
from hotswap_proxy.history.windows import History
from hotswap_proxy.observe.tracing.start import Tracing
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store


class NodeView(Protocol):
    """The running node, as far as the API shows it."""

    def health(self) -> dict[str, Any]:
        """Body of GET /gateway/health, with ``ready``."""

    def summary(self) -> dict[str, Any]:
        """Body of GET /gateway/metrics."""

    def prometheus(self, *, openmetrics: bool) -> Iterator[bytes]:
        """Body of GET /metrics, in pieces that another thread may make."""

    def route_statistics(self, route_id: str) -> dict[str, Any]:
        """totalRequests, failedRequests, averageLatencyMs, p99LatencyMs."""

    def backend_rows(self) -> Mapping[str, Mapping[str, Any]]:
        """What is counted of all backends, for many ``backend_statistics``."""

    def backend_statistics(
        self, address: str, rows: Mapping[str, Mapping[str, Any]] | None = None
    ) -> dict[str, Any]:
        """activeConnections, totalRequests, failedRequests, healthStatus, circuitBreaker, ejectedUntil of ``scheme://host:port``."""

    def order_circuit(self, address: str, order: str) -> dict[str, str] | None:
        """Open, Closed or Auto for a circuit breaker: {state, mode}; None if no route has the address."""

    def backend_check(self, address: str, check: Mapping[str, Any]) -> dict[str, Any] | None:
        """``healthCheck`` of GET /gateway/backends/{id}/health; None if the check is not carried out."""

    async def check_now(self, address: str, check: Mapping[str, Any]) -> dict[str, Any] | None:
        """The same after a probe that is made now. Unavailable: it did not get its turn."""

    def nodes(self) -> list[dict[str, Any]]:
        """Body of GET /gateway/nodes."""


@dataclass(slots=True)
class AdminContext:
    settings: Settings
    store: Store
    configuration: Configuration
    node: NodeView
    deployments: Commands
    history: History
    cache: Redis | None = None
    tracing: Tracing | None = None  # while it is on
