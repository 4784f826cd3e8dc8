"""When a new process is prepared: wait for its turn, and begin where its predecessor has let go."""

from __future__ import annotations

import contextlib
import logging
import os

from hotswap_proxy import _core
from hotswap_proxy.control import servicemanager
from hotswap_proxy.control.configuration import Configuration
from hotswap_proxy.control.datadir import DataDir
from hotswap_proxy.control.handover import standing
from hotswap_proxy.control.handover.predecessor import Predecessor
from hotswap_proxy.control.health.checker import Checker
from hotswap_proxy.errors import StoreUnavailable

log = logging.getLogger("hotswap_proxy.control")


async def take_turn(
    predecessor: Predecessor,
    datadir: DataDir,
    node: _core.Node,
    configuration: Configuration,
    checker: Checker,
) -> None:
    """All is prepared: say so, and return when nobody else writes to the store and all of it is live here."""
    import hotswap_proxy.admin.app  # noqa: F401  now, while somebody else answers

    await predecessor.prepared()
    found = await predecessor.take_over()
    check(predecessor)
    standing.take(found or (), node, checker.registry)
    datadir.take()
    with contextlib.suppress(StoreUnavailable):  # it is followed as soon as it is back
        await configuration.follow()


def check(predecessor: Predecessor) -> None:
    """If it died before this process was in charge, a service manager is about to start the next one: that
    gets the sockets from the workers, these or those, as after any control process that died.
    """
    if predecessor.gone.is_set():
        if servicemanager.is_watching():
            log.error("the process that was to be succeeded has died; leaving the node to the next one")
            os._exit(1)
        log.warning("the process that was to be succeeded has died; going on alone")
