"""Addresses of the names in use, as the DNS gave them last."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from .resolver import Resolution

log = logging.getLogger(__name__)


class Addresses:
    """``known``: ``host:port`` → socket addresses, of exactly the names in use."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}

    def unknown(self, names: Mapping[str, str]) -> dict[str, str]:
        """Those of ``names`` that have to be asked for. Known ones stay as they are until their next refresh:
        a DNS that fails now must not stand in the way of taking a backend out.
        """
        return {name: field for name, field in names.items() if not self.known.get(name)}

    def renewed(self, found: Resolution, names: Iterable[str]) -> dict[str, list[str]]:
        """The addresses of exactly these names; the old ones where the DNS fails now."""
        for name, why in sorted(found.errors.items()):
            kept = "; its last addresses stay" if name in self.known else ""
            log.warning("backend %s: %s%s", name, why, kept)
        return {name: found.addresses.get(name) or self.known.get(name, []) for name in names}

    def changes(self, after: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """What of ``after`` differs; the order of a name's addresses means nothing."""
        return {name: new for name, new in after.items() if set(new) != set(self.known.get(name, ()))}
