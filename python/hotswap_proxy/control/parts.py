"""The parts of a running node, for what is wired to several of them."""

from __future__ import annotations

from dataclasses import dataclass

from hotswap_proxy import _core
from hotswap_proxy.control.configuration import Configuration
from hotswap_proxy.control.health.alerts import Alerts
from hotswap_proxy.control.health.checker import Checker
from hotswap_proxy.control.journaling import Journaling
from hotswap_proxy.control.nodeview import NodeStatus
from hotswap_proxy.control.supervisor import Supervisor
from hotswap_proxy.fleet.lastgood import LastGood
from hotswap_proxy.fleet.redis import Redis
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store


@dataclass(frozen=True, slots=True)
class Parts:
    """``boot_id`` names this run of the node: counters begin anew with it."""

    settings: Settings
    boot_id: str
    node: _core.Node
    catalog: _core.Catalog
    store: Store
    configuration: Configuration
    checker: Checker
    supervisor: Supervisor
    status: NodeStatus
    alerts: Alerts
    redis: Redis | None = None
    last_good: LastGood | None = None
    journaling: Journaling | None = None  # where an access log or tracing is wanted
