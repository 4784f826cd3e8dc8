"""What the audit log holds besides changes: logins and denials. It is written beside the call, so a store
that cannot be written does not keep anybody from looking.
"""

from __future__ import annotations

import logging

from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.store import AuditEntry, Author, Store, audit

from .limits import AttemptLimit

log = logging.getLogger(__name__)

DENIALS = 10  # rows a minute for each user
LONGEST_PATH = 200


class Trail:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._denials = AttemptLimit(DENIALS)

    async def remember(self, author: Author, entry: AuditEntry) -> None:
        try:
            await self._store.write(audit.append, author, [entry])
        except StoreUnavailable as error:
            # With a full disk an operator must be able to log in and look; nothing can be changed anyway.
            told = (entry.action, author.username, author.client, error)
            log.error("%s of %s from %s is not in the audit log: %s", *told)

    async def denied(self, author: Author, role: str, method: str, path: str) -> None:
        """A known user asked for what he may not do."""
        if author.user_id is None or not self._denials.allows(author.user_id):
            return
        details = {"method": method, "path": path[:LONGEST_PATH], "role": role}
        await self.remember(author, AuditEntry("access.denied", details=details))
