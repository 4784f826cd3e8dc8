"""What a node begins with: the configuration of the store or, if that is away, the last one that was live."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.store import Store

from .lastgood import LastGood

if TYPE_CHECKING:
    from hotswap_proxy.control.configuration import Configuration

log = logging.getLogger("hotswap_proxy.control")


async def begin(store: Store, configuration: Configuration, last_good: LastGood | None) -> None:
    """Serve something. StoreUnavailable: there is nothing to serve."""
    try:
        await store.prepare()
        await configuration.load()
    except StoreUnavailable as error:
        if last_good is None:
            raise
        found = await asyncio.to_thread(last_good.read)
        if found is None:
            message = f"{error.message}; there is no last good configuration to start with ({last_good.path})"
            raise StoreUnavailable(message) from error
        log.error(
            "the store is away; starting with the configuration that was live last",
            extra={"reason": error.message, "revision": found.revision, "file": str(last_good.path)},
        )
        last_good.fleet_id = found.fleet_id
        await configuration.serve(found.snapshot(), found.addresses)
