"""Keeps the certificates of a running node up to date: looks at their files, on SIGHUP at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hotswap_proxy.control.filewatch import INTERVAL
from hotswap_proxy.control.tls.bundle import Bundle, TlsError
from hotswap_proxy.settings import Settings

log = logging.getLogger("hotswap_proxy.control")


class CertificateKeeper:
    """Loads the bundle again when a file has changed, and publishes it when it is good."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._seen = bundle.signature()
        self._asked = False

    @classmethod
    def of(cls, settings: Settings) -> CertificateKeeper | None:
        """Of the certificates of the options, read and found good; None without any. Raises TlsError."""
        if not (settings.tls_cert or settings.tls_key or settings.proxy_tls):
            return None
        keeper = cls(Bundle(settings))
        keeper.bundle.load()
        return keeper

    def ask(self) -> None:
        """Read the files soon, changed or not (SIGHUP)."""
        self._asked = True

    async def run(
        self,
        publish: Callable[[int], None],
        note: Callable[[str | None], None],
        interval: float = INTERVAL,
    ) -> None:
        """Until cancelled. ``publish`` gets the descriptor of each new bundle, ``note`` each outcome."""
        before = self._seen
        while True:
            await asyncio.sleep(interval)
            now = self.bundle.signature()
            # Two files make one certificate: both have to hold still before they are read.
            changed = now != self._seen and now == before and None not in now
            before = now
            try:
                if changed or self._asked:
                    self._asked, self._seen = False, now
                    note(self._reload(publish))
                elif self.bundle.renew_tickets():
                    publish(self.bundle.descriptor())
            except Exception:
                log.exception("certificates could not be renewed; those in use stay")

    def _reload(self, publish: Callable[[int], None]) -> str | None:
        try:
            self.bundle.load()
        except TlsError as error:
            log.error("certificates refused; those in use stay", extra={"reason": str(error)})
            return str(error)
        publish(self.bundle.descriptor())
        shown = [
            {"names": one.names, "notAfter": one.answer()["notAfter"]} for one in self.bundle.certificates
        ]
        log.info("certificates loaded", extra={"certificates": shown})
        return None
