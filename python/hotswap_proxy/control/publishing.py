"""Compile, then publish: how a change gets to the workers, whoever made it. Its callers take turns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from hotswap_proxy.errors import GatewayError, from_core
from hotswap_proxy.settings import Settings

from .addresses import Addresses
from .apply import Problems
from .catalog import CatalogLike, StagedLike
from .health.checker import Checker
from .health.spec import Described, wanted_of
from .jwks import KeyKeeper, Keys, with_keys
from .machine import COMPILER, give_way
from .tls.files import Found, TlsFiles, with_files

log = logging.getLogger(__name__)

Explain = Callable[[Problems], GatewayError | Awaitable[GatewayError]]


class Live(NamedTuple):
    """A change set that is live now. ``reset``: it is all there is. Without the files for TLS."""

    revision: int
    reset: bool
    checks: Described
    payload: bytes


@dataclass(frozen=True, slots=True)
class Staged:
    """A compiled configuration that no request sees yet; ``Publisher.publish`` or ``discard`` ends it."""

    compiled: StagedLike
    files: Found | None = None
    payload: bytes | None = None  # what it was made of, for who keeps it

    def discard(self) -> None:
        self.compiled.discard()


class Publisher:
    """The compiler with all that goes into what it makes: addresses, keys of issuers, files for TLS."""

    def __init__(
        self,
        catalog: CatalogLike,
        settings: Settings,
        addresses: Addresses,
        keys: KeyKeeper,
        health: Checker | None,
    ) -> None:
        self.generation = 0
        self.revision = 0  # of the store, that is live
        self.keep: Callable[[Live], None] | None = None  # is told of all that gets live
        self.last_update: datetime | None = None
        self._catalog = catalog
        self._settings = settings
        self._addresses = addresses
        self._keys = keys
        self._health = health
        self._files = TlsFiles(settings.tls_files)
        # Its own thread: the default executor would spread the compiler's garbage over several malloc arenas.
        self._thread = ThreadPoolExecutor(1, "compile", give_way, (COMPILER,))

    async def stage(self, payload: bytes, explain: Explain = from_core) -> Staged:
        """Compile, with the keys that new routes need if they can be had: they should not begin with 503."""
        kept = payload
        files = self._files.renew()
        if files is not None:
            if await self._are_usable(files):
                payload = with_files(payload, files.texts)
            else:
                files = None
        compiled = await self._compile(payload, explain)
        if keys := await self._keys.missing(compiled.key_sets):
            compiled.discard()
            compiled = await self._compile(with_keys(payload, keys), explain)
            kept = with_keys(kept, keys)
        return Staged(compiled, files, kept if self.keep else None)

    def publish(
        self, staged: Staged, told: Described, *, reset: bool = False, revision: int | None = None
    ) -> None:
        """Make it what workers serve. ``told``: the health checks that came or went with it. ``revision`` of
        the store, if that is another one now.
        """
        if self._health is not None:  # before: a backend that is out must not get the first requests
            checks = {owner: wanted_of(each, self._settings) for owner, each in told.items()}
            self._health.prepare(checks, self._addresses.known, reset=reset)
        self.generation = staged.compiled.publish()
        if revision is not None:
            self.revision = revision
        if staged.files is not None:
            self._files.note(staged.files)
        self.last_update = datetime.now(UTC)
        if self.keep is not None and staged.payload is not None:
            self.keep(Live(self.revision, reset, told, staged.payload))
        self._keys.follow(self._catalog.key_sets)
        if self._health is not None:
            self._health.settle()

    def files_changed(self) -> bool:
        """Whether :meth:`renew_files` would find something new."""
        return self._files.changed()

    async def renew_files(self) -> None:
        """Serve with the files that backends name for TLS as they are now."""
        files = self._files.renew()
        if files is not None and await self._are_usable(files):
            self.publish(Staged(await self._compile(with_files(b"{}", files.texts)), files), {})

    async def take_keys(self, sets: dict[str, Keys]) -> None:
        """Serve with these keys of token issuers; nothing else changes."""
        payload = orjson.dumps({"keySets": sets})
        self.publish(Staged(await self._compile(payload), payload=payload), {})

    def keep_whole(self, payload: bytes, checks: Described) -> None:
        """Tell once more of all that is live."""
        if self.keep is not None:
            if keys := self._keys.known:
                payload = with_keys(payload, keys)
            self.keep(Live(self.revision, True, checks, payload))

    async def _are_usable(self, files: Found) -> bool:
        """Whether what is live could go on with these files. If not, they are no reason to refuse a change,
        and are left alone until they are others.
        """
        try:
            (await self._compile(with_files(b"{}", files.texts))).discard()
        except GatewayError as error:
            log.error("changed files for TLS are not used", extra={"reason": error.message})
            self._files.note(files)
            return False
        return True

    async def _compile(self, payload: bytes, explain: Explain = from_core) -> StagedLike:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._catalog.stage, payload)
        except ValueError as error:  # _core.ConfigError
            problems: Problems | None = getattr(error, "problems", None)
            if problems is None:
                raise
            told = explain(problems)
            raise (told if isinstance(told, GatewayError) else await told) from error
