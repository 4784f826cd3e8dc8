"""The journey of a change: validate, compile, store, publish; in this order, one change at a time.

Compiled before it is stored, so that what is stored can always be served; stored before it is published, so
that what is served survives a restart. If a step fails, nothing has happened.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson

from hotswap_proxy.errors import (
    GatewayError,
    OutcomeUnknown,
    StoreUnavailable,
    Unavailable,
    from_core,
)
from hotswap_proxy.model import Model
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Author, Outdated, Store
from hotswap_proxy.store.changes import check_deployments
from hotswap_proxy.store.revisions import Head

from . import declarative
from .addresses import Addresses
from .apply import Applied, Job, LocalWork, Prepared, Work
from .applying import Applier
from .catalog import CatalogLike
from .changeset import ChangeSet
from .compile import Document
from .following import Follower
from .health.checker import Checker
from .jwks import KeyKeeper, Keys
from .memory import trim
from .objects import Changed, Objects
from .publishing import Live, Publisher, Staged
from .resolver import Resolution, Resolver, resolve_all, url_rules
from .snapshot import Snapshot, names_in_use

log = logging.getLogger(__name__)
T = TypeVar("T")
M = TypeVar("M", bound=Model)

# From so many changed objects on, the memory that a change took is worth giving back to the system.
LARGE = 500
TRIM_DELAY = 1.0
ATTEMPTS = 10  # to work a change out before another node changes something
POLITE_ATTEMPTS = 3  # of those, to apply a file without keeping the other changes of this node waiting


class Configuration(Objects):
    """All changes of a node's routes and backends go through here."""

    def __init__(
        self,
        store: Store,
        catalog: CatalogLike,
        settings: Settings,
        *,
        resolver: Resolver | None = None,
        health: Checker | None = None,
        applier: Applier | None = None,
        keys: KeyKeeper | None = None,
        keep: Callable[[Live], None] | None = None,
    ) -> None:
        """Without an ``applier`` files are applied in this process. ``keep`` is told of what gets live."""
        self.rules = url_rules(settings)
        self.turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext  # to apply a file in
        self.announce: Callable[[int], None] = lambda _revision: None  # tells other nodes of a new revision
        self._store = store
        self._catalog = catalog
        self._settings = settings
        self._resolver = resolver or Resolver(self.rules)
        self._health = health
        self._applier = applier
        self._addresses = Addresses()
        keys = keys or KeyKeeper(self.rules, self._resolver)
        keys.publish = self.take_keys
        self._publisher = Publisher(catalog, settings, self._addresses, keys, health)
        self._publisher.keep = keep
        self._follower = Follower(store, self._publisher, self._resolver, self._addresses, settings)
        self._lock = asyncio.Lock()
        self._applying = asyncio.Lock()  # taken before the other one

    @property
    def generation(self) -> int:
        return self._publisher.generation

    @property
    def revision(self) -> int:
        """The newest revision of the store that this node serves."""
        return self._publisher.revision

    @property
    def violations(self) -> list[dict[str, str]]:
        """What is stored and served although the settings forbid it by now, as it was found at the start."""
        return self._follower.violations

    def serves(self, head: Head) -> bool:
        """Whether the newest revision of the store is what is live."""
        return self._follower.serves(head)

    @property
    def problem(self) -> str | None:
        """Why this node does not serve what the store has, if so."""
        return self._follower.problem

    @property
    def refused_routes(self) -> list[str]:
        """The routes that this node keeps as they were, for it cannot serve what the store has."""
        return self._follower.refused_routes

    @property
    def has_to_try(self) -> bool:
        """Whether ``follow`` has something to do even if the store has nothing new."""
        return self._follower.has_to_try

    @property
    def remembered(self) -> bool:
        """Whether what is served is what was served last, because the store could not be read yet."""
        return self._follower.remembered

    @property
    def last_update(self) -> datetime | None:
        return self._publisher.last_update

    @property
    def routes(self) -> int:
        return self._catalog.routes

    @property
    def backends(self) -> int:
        return self._catalog.backends

    # --- the whole configuration -----------------------------------------------------------------------

    async def load(self) -> int:
        """Serve what the store holds; its generation. Names that cannot be resolved are logged, not fatal."""
        await self._serialised(self._follower.load())
        return self.generation

    async def sync(self) -> bool:
        """Serve what the store has by now, after this process wrote to it by another way than this class, and
        tell the other nodes. True if something was new. StoreUnavailable: it will be, once it can be read.
        """
        changed = await self.follow()
        self.announce(self.revision)
        return changed

    async def follow(self) -> bool:
        """The same when another node may have written."""
        return await self._serialised(self._follower.catch_up())

    async def serve(self, found: Snapshot, addresses: dict[str, list[str]]) -> None:
        """Serve what was served last, until the store can be read."""
        await self._serialised(self._follower.serve(found, addresses))

    async def keep_whole(self) -> None:
        """Tell ``keep`` of all that is live."""
        await self._serialised(self._follower.keep_whole())

    async def refresh_addresses(self) -> bool:
        """Ask the DNS again for the names in use; publish if an answer changed. True if it did."""
        known = set(self._addresses.known)
        try:
            names = await self._store.read(names_in_use, self._settings)
        except StoreUnavailable:  # the DNS is another matter
            names = known
        # Not in the queue of changes: a slow DNS must not hold them up.
        found = await self._resolver.resolve(names)
        return await self._serialised(self._take_addresses(found, names, known - names))

    async def _take_addresses(self, found: Resolution, names: set[str], unused: set[str]) -> bool:
        after = self._addresses.renewed(found, names | (self._addresses.known.keys() - unused))
        changed = self._addresses.changes(after)
        if changed:
            staged = await self._publisher.stage(orjson.dumps({"addresses": changed}))
            self._publisher.publish(staged, {})
        self._addresses.known = after
        if self._health is not None:
            self._health.registry.addresses = after
        return bool(changed)

    async def refresh_tls_files(self) -> None:
        """Serve with the files that backends name for TLS as they are now."""
        if self._publisher.files_changed():
            await self._serialised(self._publisher.renew_files())

    async def take_keys(self, sets: dict[str, Keys]) -> None:
        """Serve with these keys of token issuers; nothing else changes."""
        await self._serialised(self._publisher.take_keys(sets))

    async def apply(
        self, document: bytes | bytearray | Path, *, prune: bool, author: Author | str, dry_run: bool = False
    ) -> Applied:
        """Make the store agree with a file or a body, in one transaction. ``prune`` removes what it does not
        name.
        """
        job = Job(document, Author.of(author), prune, dry_run)
        async with self.turn():
            done = await _to_its_end(self._apply(job))
        if done.added + done.changed + done.removed >= LARGE:  # later, when the caller is done with it too
            asyncio.get_running_loop().call_later(TRIM_DELAY, trim)
        return done

    async def _apply(self, job: Job) -> Applied:
        async with self._applying:
            return await _until_fast_enough(partial(self._attempt, job))

    async def _attempt(self, job: Job, attempt: int) -> Applied:
        """What takes long, and waits for names and files, is done beside other changes: this node goes on
        following the others. If those are always faster, the ones of this node have to wait.
        """
        alone = attempt >= POLITE_ATTEMPTS
        whole, part = (self._lock, nullcontext()) if alone else (nullcontext(), self._lock)
        async with whole:
            async with part:
                await self._follower.catch_up()
                job = replace(job, based_on=self.revision)
            async with self._work(job) as work:
                prepared = await work.prepare()
                if prepared is None:
                    return await work.finish()
                async with part:
                    if self.revision != job.based_on:
                        raise Outdated
                    return await self._finish(job, work, prepared)

    async def _finish(self, job: Job, work: Work, prepared: Prepared) -> Applied:
        staged = await self._publisher.stage(prepared.payload, work.refusal)
        try:
            done = await work.finish()
        except GatewayError as error:
            staged.discard()
            if isinstance(error, OutcomeUnknown):
                with suppress(GatewayError):  # if not now, then with the next change
                    await self._follower.catch_up()
            raise
        except BaseException:
            staged.discard()
            raise
        if job.dry_run or done.revision is None:
            staged.discard()
        else:
            self._addresses.known |= prepared.addresses
            self._publisher.publish(staged, prepared.checks, revision=done.revision)
            self._follower.committed()
            self.announce(self.revision)
        return done

    def _work(self, job: Job) -> AbstractAsyncContextManager[Work]:
        if self._applier is not None:
            return self._applier.work(job)
        return nullcontext(LocalWork(job, self._store, self._settings, self._resolver))

    async def rest(self) -> None:
        """Return when no change is under way. Who calls it sees to it that no new ones come."""
        async with self._applying, self._lock:
            pass

    async def export(self) -> Document:
        """The configuration as a declarative file, without defaults, ids and versions."""
        return await self._store.read(declarative.export)

    # --- the four steps --------------------------------------------------------------------------------

    async def _serialised(self, change: Coroutine[Any, Any, T]) -> T:
        """Run one change after the other."""

        async def run() -> T:
            async with self._lock:
                return await change

        return await _to_its_end(run())

    async def _edit(self, work: Callable[[], Awaitable[T]]) -> T:
        """Work a change out on the newest configuration; again, if another node was faster."""

        async def run(_attempt: int) -> T:
            await self._follower.catch_up()
            return await work()

        return await self._serialised(_until_fast_enough(run))

    async def _compile(self, change: ChangeSet) -> tuple[Staged, dict[str, list[str]]]:
        addresses = await resolve_all(self._resolver, self._addresses.unknown(change.names))
        explain = partial(from_core, locate=change.locate)
        return await self._publisher.stage(change.payload(addresses), explain), addresses

    async def _check(self, change: ChangeSet) -> None:
        staged, _ = await self._compile(change)
        staged.discard()

    async def _carry_out(self, change: ChangeSet, author: Author, dry_run: bool) -> Changed:
        if not change:
            return Changed(change.plan, self.generation)
        staged, addresses = await self._compile(change)
        if dry_run:
            staged.discard()
            await self._store.read(check_deployments, change.store)
            return Changed(change.plan, self.generation)
        change.store.based_on = self.revision
        try:
            revision = await self._store.commit(change.store, author)
        except BaseException:
            staged.discard()
            raise
        self._addresses.known |= addresses
        try:
            self._publisher.publish(staged, change.checks, revision=revision)
            self._follower.committed(change.store.entries())
        except RuntimeError:  # it is stored, so it has to be served
            log.exception("a stored change could not be published; loading the store again")
            self._follower.doubt()
            await self._follower.load()
        self.announce(self.revision)
        return Changed(change.plan, self.generation)


async def _until_fast_enough(work: Callable[[int], Awaitable[T]]) -> T:
    """``work(attempt)``; again, if another node was faster."""
    for attempt in range(ATTEMPTS):
        with suppress(Outdated):
            return await work(attempt)
        # Not in step with the other nodes: the slower one would be so again.
        await asyncio.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))  # noqa: S311  no secret
    raise Unavailable("other nodes change the configuration all the time; nothing was changed")


async def _to_its_end(change: Coroutine[Any, Any, T]) -> T:
    """Once begun it ends, even if who asked for it has gone."""
    running = asyncio.ensure_future(change)
    running.add_done_callback(lambda done: done.cancelled() or done.exception())  # if nobody asks
    return await asyncio.shield(running)
