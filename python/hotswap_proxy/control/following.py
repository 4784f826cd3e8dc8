"""What a node serves of the store, and how it keeps up with it. Its callers take turns.

The store is the only truth: whoever changed it, this node or another, what changed since the revision that is
served is read, compiled and published. What cannot be compiled here (another node's settings permit it, or
this one lacks a file) stays as it was, is told, and is tried again; the rest goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from hotswap_proxy.errors import GatewayError
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store
from hotswap_proxy.store.revisions import Entry, Head

from .addresses import Addresses
from .apply import Problems
from .memory import trim
from .publishing import Publisher, Staged
from .resolver import Resolver
from .snapshot import Refusals, Snapshot, read_changes, read_snapshot

log = logging.getLogger(__name__)

MAX_VIOLATIONS = 100  # that are shown
MAX_ROUNDS = 20  # of leaving out what the compiler refuses: it tells of a hundred at a time
RETRY_FIRST, RETRY_LAST = 1.0, 60.0  # seconds


class Refused(GatewayError):  # noqa: N818  as in ``errors``
    """The compiler's problems as they are: nobody's request is answered with them."""

    def __init__(self, problems: Problems) -> None:
        super().__init__("; ".join(str(problem["message"]) for problem in problems[:3]))
        self.problems = problems


class Follower:
    """``refused``: what of the store is not served, and why."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        resolver: Resolver,
        addresses: Addresses,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # What is stored and served although the settings forbid it by now, as it was found at the start.
        self.violations: list[dict[str, str]] = []
        self.refused: Refusals = {}
        self.remembered = False  # what is served is what was served last, in another life of the node
        self.failure: str | None = None  # why nothing of what is new could be taken
        self._stale = True  # nobody knows what of the store is served
        self._mark: str | None = None  # of the revision that is served; None: of our own, or unknown
        self._store = store
        self._publisher = publisher
        self._resolver = resolver
        self._addresses = addresses
        self._settings = settings
        self._clock = clock
        self._due = 0.0
        self._pause = RETRY_FIRST

    @property
    def problem(self) -> str | None:
        """Why this node does not serve what the store has, if so."""
        if self.failure is not None:
            return self.failure
        for entry, why in self.refused.items():
            more = f" (and {len(self.refused) - 1} more)" if len(self.refused) > 1 else ""
            return f"{entry.kind} {entry.entity_id}: {why}{more}"
        return None

    @property
    def has_to_try(self) -> bool:
        """Whether something is to be done even if the store has nothing new."""
        return self._stale or (bool(self.refused) and self._clock() >= self._due)

    def serves(self, head: Head) -> bool:
        """Whether that is what is live, as far as the store's numbers say."""
        if head.revision != self._publisher.revision:
            return False
        if self._mark is None:  # our own change was the last one
            self._mark = head.mark
        return head.mark == self._mark

    def doubt(self) -> None:
        """The store may have what is not live: read all of it before the next change."""
        self._stale = True

    def committed(self, changed: Iterable[Entry] = ()) -> None:
        """This node has changed what is stored, and serves it."""
        self._mark = None
        for entry in changed:
            self.refused.pop(entry, None)
        self._due = self._clock()  # perhaps that is what the others needed

    async def serve(self, found: Snapshot, addresses: dict[str, list[str]]) -> None:
        """Serve what was served last, because the store is away; all of it is read again when it is back."""
        found.names = set(addresses)
        self._addresses.known = addresses
        await self._take(found)
        self.remembered = True

    async def keep_whole(self) -> None:
        """Tell who keeps what is live of all of it, if that is what the store has."""
        snapshot: Snapshot = await self._store.read(read_snapshot, self._settings)
        if snapshot.revision == self._publisher.revision and not self._stale:
            self._publisher.keep_whole(snapshot.payload(self._addresses.known), snapshot.checks)
        del snapshot
        trim()

    async def load(self) -> None:
        """Read everything. Names that cannot be resolved are logged, not fatal."""
        snapshot: Snapshot = await self._store.read(read_snapshot, self._settings)
        await self._take(snapshot)
        self._mark = snapshot.mark
        self._stale = self.remembered = False
        self.violations = snapshot.violations[:MAX_VIOLATIONS]
        if self.violations:
            log.warning(
                "backends are served that this node's settings forbid; they were stored under other ones",
                extra={"count": len(snapshot.violations), "first": self.violations[0]},
            )
        del snapshot
        trim()

    async def catch_up(self) -> bool:
        """Serve what the store has by now. True if there was something new."""
        if self._stale:
            await self.load()
            return True
        before = self._publisher.revision
        snapshot: Snapshot = await self._store.read(
            read_changes, self._settings, before, self._mark, list(self.refused) if self.has_to_try else []
        )
        if snapshot.reset:
            del snapshot
            await self.load()
            return True
        if snapshot.revision != before and self.refused and not self.has_to_try:
            # Something changed: what was refused may be welcome now.
            snapshot = await self._store.read(
                read_changes, self._settings, before, self._mark, list(self.refused)
            )
        if snapshot.is_empty:
            self._publisher.revision = snapshot.revision
        else:
            await self._take(snapshot)
        self._mark = snapshot.mark
        return snapshot.revision != before

    async def _take(self, snapshot: Snapshot) -> None:
        whole = snapshot.reset
        known = self._addresses.known
        wanted = snapshot.names if whole else {name for name in snapshot.names if not known.get(name)}
        found = await self._resolver.resolve(wanted)
        addresses = self._addresses.renewed(found, wanted)
        refused: Refusals = {}
        try:
            staged = await self._stage(snapshot, addresses, refused)
        except GatewayError as error:
            self.failure = error.message
            raise
        self.failure = None
        self._addresses.known = addresses if snapshot.reset else known | addresses
        self._publisher.publish(staged, snapshot.checks, reset=snapshot.reset, revision=snapshot.revision)
        self._note(refused)

    async def _stage(self, snapshot: Snapshot, addresses: dict[str, list[str]], refused: Refusals) -> Staged:
        """Compile as much of it as can be; the rest goes to ``refused``."""
        for _ in range(MAX_ROUNDS):
            try:
                return await self._publisher.stage(snapshot.payload(addresses), Refused)
            except Refused as error:
                left_out = snapshot.without(error.problems)
                if not left_out:
                    raise
                refused |= left_out
        return await self._publisher.stage(snapshot.payload(addresses), Refused)

    def _note(self, refused: Refusals) -> None:
        for entry, why in refused.items():
            if self.refused.get(entry) != why:
                log.error(
                    "this node cannot serve what the store has; it goes on with what it had",
                    extra={"kind": entry.kind, "id": entry.entity_id, "reason": why},
                )
        if self.refused and not refused:
            log.info("this node serves all that the store has again")
        self._pause = min(self._pause * 2, RETRY_LAST) if refused and self.refused else RETRY_FIRST
        self._due = self._clock() + self._pause
        self.refused = refused
