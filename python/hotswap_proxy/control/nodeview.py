"""The node as the admin API shows it: health, summary, statistics. Reads only; nothing here waits."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from hotswap_proxy import __version__
from hotswap_proxy.control.health.checker import Checker
from hotswap_proxy.control.health.report import report
from hotswap_proxy.control.health.spec import read_spec
from hotswap_proxy.control.regions import Regions
from hotswap_proxy.control.spawning import Spawner
from hotswap_proxy.control.standing import STATES, circuit, ejected_until
from hotswap_proxy.control.supervisor import Supervisor
from hotswap_proxy.control.tls.bundle import Bundle, Shown
from hotswap_proxy.errors import Unavailable
from hotswap_proxy.fleet.limits import Exchange
from hotswap_proxy.fleet.view import FleetView
from hotswap_proxy.observe import histogram as hist
from hotswap_proxy.observe import process
from hotswap_proxy.observe.figures import Row, Statistics
from hotswap_proxy.observe.rates import Rate
from hotswap_proxy.settings import Settings
from hotswap_proxy.timestamps import rfc3339

if TYPE_CHECKING:
    from hotswap_proxy.control.scraping import Scraping

log = logging.getLogger("hotswap_proxy.control")

_NO_ROW: Row = {
    "address": None,
    "status": 0,
    "circuit": "Closed",
    "ejectedUntil": 0.0,
    "active": 0,
    "requests": 0,
    "failed": 0,
}
MAX_REFUSED = 100  # routes that other nodes are told of by name
HEALTH_SECONDS = 1.0  # /health is public and is asked often: what costs time is found once in this time
STATUS_NAMES = {0: "Unknown", 1: "Healthy", 2: "Unhealthy", 3: "Draining"}


class ConfigurationView(Protocol):
    """What is read of ``Configuration``."""

    @property
    def generation(self) -> int: ...
    @property
    def last_update(self) -> datetime | None: ...
    @property
    def routes(self) -> int: ...
    @property
    def backends(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def problem(self) -> str | None: ...
    @property
    def refused_routes(self) -> list[str]: ...
    @property
    def violations(self) -> list[dict[str, str]]: ...


class NodeMemory(Statistics, Protocol):
    """What is used of ``_core.Node``."""

    def order_circuit(self, address: str, order: str) -> str | None: ...


class NodeStatus:
    """Implements the admin API's ``NodeView``."""

    def __init__(
        self,
        settings: Settings,
        node: NodeMemory,
        configuration: ConfigurationView,
        supervisor: Supervisor,
        spawner: Spawner,
        checker: Checker,
        regions: Regions | None = None,
    ) -> None:
        self._settings = settings
        self._node = node
        self._configuration = configuration
        self._supervisor = supervisor
        self._spawner = spawner
        self._checker = checker
        self._regions = regions
        self._started = time.monotonic()
        self.started_at = datetime.now(UTC)
        self._requests = Rate()
        self._cpu = Rate()
        self.cpu = process.CpuAccount()
        self.draining = False
        self.outliers = 0  # ejected so far
        self.limits: Exchange | None = None  # with the other nodes of a fleet
        self._reload_error: str | None = None
        self._certificate_error: str | None = None
        self.certificates: Bundle | None = None
        self.fleet: FleetView | None = None
        self.scraping: Scraping | None = None
        self._costly = (0, 0)
        self._costly_until = 0.0

    def note_reload(self, reason: str | None) -> None:
        """What became of the last reload of the configuration file: None, or why it was refused."""
        self._reload_error = reason

    def note_certificates(self, reason: str | None) -> None:
        """What became of the last reload of the certificates: None, or why they were refused."""
        self._certificate_error = reason

    def refusals(self) -> dict[str, bool]:
        """Sources of configuration, and whether what they had last was refused."""
        return {
            "file": self._reload_error is not None,
            "certificates": self._certificate_error is not None,
            "store": self._configuration.problem is not None,
        }

    @property
    def _config_error(self) -> str | None:
        return self._reload_error or self._certificate_error or self._configuration.problem

    def sample(self) -> None:
        """Note the totals that rates are made of; called once a second."""
        now = time.monotonic()
        self._requests.add(now, sum(row["accepted"] for row in self._node.ledger()))
        self.note_cpu()
        self._cpu.add(now, sum(self.cpu.seconds().values()))

    def note_cpu(self) -> None:
        """Look at what each process has used."""
        roles = {os.getpid(): "control"}
        if self._spawner.pid is not None:
            roles[self._spawner.pid] = "spawner"
        self.cpu.note(roles | {one.pid: f"worker-{one.slot}" for one in self._supervisor.workers})

    @property
    def workers_ready(self) -> int:
        """Workers that accept, those that drain apart."""
        return len({h.slot for h in self._supervisor.workers if h.ready.is_set() and not h.left.is_set()})

    @property
    def ready(self) -> bool:
        """Whether this node should get traffic: a configuration is live and a worker accepts."""
        return self.workers_ready > 0 and not self.draining and self._configuration.generation > 0

    def health(self) -> dict[str, Any]:
        """Body of ``GET /gateway/health``. CPU and memory are shares of the machine, in percent."""
        configuration = self._configuration
        unhealthy, memory = self._costly_figures()
        return {
            "status": self._status(),
            "ready": self.ready,
            "version": __version__,
            "nodeId": self._settings.node_id,
            "uptime": round(time.monotonic() - self._started, 3),
            "generation": configuration.generation,
            "revision": configuration.revision,
            "workers": len(self._supervisor.workers),
            "activeConnections": self._active_connections(),
            "routesConfigured": configuration.routes,
            "backendsHealthy": configuration.backends - unhealthy,
            "backendsUnhealthy": unhealthy,
            "backendsTotal": configuration.backends,
            "requestsPerSecond": round(self._requests.per_second, 2),
            "cpuUsage": round(100 * self._cpu.per_second / (os.cpu_count() or 1), 2),
            "memoryUsage": round(100 * memory / process.machine_memory_bytes(), 2),
            "memoryBytes": memory,
            "lastConfigUpdate": self._last_update(),
            # Everybody may ask: what is wrong in which file is in the log and in GET /gateway/nodes.
            "configError": self._config_error is not None,
            "geoipError": self._regions is not None and self._regions.error is not None,
            "degraded": self.fleet.troubles() if self.fleet is not None else [],
        }

    def beat(self) -> dict[str, Any]:
        """What other nodes are told of this one."""
        return {
            "status": self._status(),
            "version": __version__,
            "generation": self._configuration.generation,
            "refused": self._configuration.problem is not None,
            "refusedRoutes": self._configuration.refused_routes[:MAX_REFUSED],
            "lastConfigUpdate": self._last_update(),
        }

    def _last_update(self) -> str | None:
        moment = self._configuration.last_update
        return rfc3339(moment) if moment is not None else None

    def _costly_figures(self) -> tuple[int, int]:
        """Backends that their checks keep out, and the memory of all processes."""
        now = time.monotonic()
        if now >= self._costly_until:
            unhealthy = self._checker.registry.counts()["unhealthy"]
            memory = sum(process.memory_bytes(pid) for pid in self.processes().values())
            self._costly, self._costly_until = (unhealthy, memory), now + HEALTH_SECONDS
        return self._costly

    def summary(self) -> dict[str, Any]:
        """Body of ``GET /gateway/metrics``."""
        requests = failed = 0
        series = self._node.series_stats()
        for row in series:
            requests += row["requests"]
            failed += row["failed"]
        merged = hist.merge(row["histogram"] for row in series)
        ledger = self._node.ledger()
        backends = self._live_backends()
        states = Counter(STATES[row["circuit"]][0] for row in backends)
        return {
            "totalRequests": requests,
            "failedRequests": failed,
            "errorRate": round(failed / requests, 6) if requests else 0.0,
            "requestsPerSecond": round(self._requests.per_second, 2),
            "activeConnections": self._active_connections(),
            "latency": hist.milliseconds(merged),
            "backends": [self._backend(row) for row in backends],
            "circuitBreakers": {
                "closed": states["Closed"],
                "open": states["Open"],
                "halfOpen": states["HalfOpen"],
            },
            "generation": self._node.generation,
            "ledger": {
                **{
                    key: sum(row[key] for row in ledger)
                    for key in ("accepted", "completed", "aborted", "lost")
                },
                "inFlight": sum(row["inflight"] for row in ledger),
                "generations": [row for row in ledger if row["generation"] is not None],
            },
        }

    def prometheus(self, *, openmetrics: bool) -> Iterator[bytes]:
        """Body of ``GET /metrics``, in pieces that another thread may make."""
        if self.scraping is None:
            raise Unavailable("this node is still starting")
        return self.scraping.pieces(openmetrics=openmetrics)

    def route_statistics(self, route_id: str) -> dict[str, Any]:
        """``statistics`` of a route, over all its arms."""
        rows = self._node.series_stats(route_id)
        latency = hist.milliseconds(hist.merge(row["histogram"] for row in rows))
        return {
            "totalRequests": sum(row["requests"] for row in rows),
            "failedRequests": sum(row["failed"] for row in rows),
            "averageLatencyMs": latency["average"],
            "p99LatencyMs": latency["p99"],
        }

    def backend_rows(self) -> dict[str, Row]:
        """What is counted of all backends, by address: one look for many ``backend_statistics``."""
        return {row["address"]: row for row in self._live_backends()}

    def backend_statistics(self, address: str, rows: Mapping[str, Row] | None = None) -> dict[str, Any]:
        """``statistics`` and health of the backend at ``scheme://host:port``."""
        found = (self.backend_rows() if rows is None else rows).get(address, _NO_ROW)
        shown = {key: value for key, value in self._backend(found).items() if key != "address"}
        # A backend that no route uses is in no worker's table, but may be checked.
        checked = self._checker.registry.status(address)
        return shown if checked is None else shown | {"healthStatus": STATUS_NAMES[checked]}

    def order_circuit(self, address: str, order: str) -> dict[str, str] | None:
        """Hold the circuit breaker of ``scheme://host:port`` Open or Closed, or leave it to itself (Auto)."""
        state = self._node.order_circuit(address, order)
        return None if state is None else circuit({"circuit": state})

    def backend_check(self, address: str, check: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is known by ``check`` (as it is stored) of an address; None if it is not carried out."""
        target = self._checker.registry.find(address, read_spec(check))
        return None if target is None else report(target)

    async def check_now(self, address: str, check: Mapping[str, Any]) -> dict[str, Any] | None:
        """The same after a probe that is made now."""
        running = self._checker.check_now(address, read_spec(check))
        return None if running is None else report(await running)

    def nodes(self) -> list[dict[str, Any]]:
        """Body of ``GET /gateway/nodes``: this node with all there is to know of it, then the others."""
        fleet = self.fleet
        own = fleet.own() if fleet is not None else {"revision": self._configuration.revision}
        others = fleet.others() if fleet is not None else []
        return [
            own
            | {
                "nodeId": self._settings.node_id,
                "environment": self._settings.environment,
                "version": __version__,
                "status": self._status(),
                "configError": self._config_error,
                "geoip": self._regions.report() if self._regions is not None else None,
                "generation": self._configuration.generation,
                "lastConfigUpdate": self._last_update(),
                "certificates": [one.answer() for one in self._certificates()],
                "startedAt": rfc3339(self.started_at),
                "urlViolations": self._configuration.violations,
                "workers": [
                    {
                        "worker": handle.slot,
                        "pid": handle.pid,
                        "status": _worker_status(handle.ready.is_set(), handle.left.is_set()),
                    }
                    for handle in self._supervisor.workers
                ],
            },
            *others,
        ]

    def _certificates(self) -> list[Shown]:
        return self.certificates.certificates if self.certificates is not None else []

    def _status(self) -> str:
        if self.draining:
            return "Draining"
        if not self.ready:
            return "Unhealthy"
        broken = self._regions is not None and self._regions.error is not None
        degraded = self.workers_ready < self._settings.workers or self._config_error is not None or broken
        lacking = self.fleet is not None and bool(self.fleet.troubles())
        return "Degraded" if degraded or lacking else "Healthy"

    def processes(self) -> dict[str, int]:
        """Process ids by name; of workers that drain, one for each slot."""
        found = {"control": os.getpid()}
        if self._spawner.pid is not None:
            found["spawner"] = self._spawner.pid
        for handle in self._supervisor.workers:
            name = f"worker-{handle.slot}"
            found[f"{name}-draining" if name in found or handle.left.is_set() else name] = handle.pid
        return found

    def _active_connections(self) -> int:
        return sum(lane["client_connections"] for lane in self._node.lane_stats())

    def _live_backends(self) -> list[Row]:
        return [row for row in self._node.backend_stats() if row["address"] is not None]

    @staticmethod
    def _backend(row: Row) -> dict[str, Any]:
        return {
            "address": row["address"],
            "activeConnections": row["active"],
            "totalRequests": row["requests"],
            "failedRequests": row["failed"],
            "healthStatus": STATUS_NAMES.get(row["status"], "Unknown"),
            "circuitBreaker": circuit(row),
            "ejectedUntil": ejected_until(row),
        }


def _worker_status(ready: bool, left: bool) -> str:
    if left:
        return "Draining"
    return "Healthy" if ready else "Starting"
