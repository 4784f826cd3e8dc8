"""The heavy part of an apply: read a file, compare it with the store, store the difference, tell of it.

It leaves some 30 MB of holes in a Python heap with 10,000 routes. So a running node has it done by a process
of its own (``applying``); this module is what that process runs, and it knows nothing of processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
from sqlalchemy import Connection

from hotswap_proxy import configfile
from hotswap_proxy.errors import GatewayError, from_core
from hotswap_proxy.jsonbody import json_object
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Author, Store, changes

from . import declarative
from .approval import refusal
from .changeset import ChangeSet
from .health.spec import Described
from .resolver import Resolver, resolve_all, url_rules

Problems = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be applied: a file, or the body of a call. ``prune`` removes what it does not name.
    ``based_on``: the revision that is served; if the store has another one by then, Outdated.
    """

    document: bytes | bytearray | Path
    author: Author
    prune: bool
    dry_run: bool = False
    based_on: int | None = None

    @property
    def may_skip_approval(self) -> bool:
        return self.dry_run or isinstance(self.document, Path)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the compiler needs (``Catalog.stage``), the addresses of its names, and its health checks."""

    payload: bytes
    addresses: dict[str, list[str]]
    checks: Described


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did, or in a dry run would do. ``plan`` is the JSON of ``Plan.answer``: with 10,000
    changes nobody wants the objects. ``revision``: the store's, if something was stored.
    """

    added: int
    changed: int
    removed: int
    unchanged: int
    plan: bytes
    revision: int | None = None


class Work(Protocol):
    """One job. First ``prepare``; then, when that could be compiled, ``finish``, or else ``refusal``."""

    async def prepare(self) -> Prepared | None:
        """Validate, compare, resolve; None when there is nothing to change. GatewayError: refused."""

    async def refusal(self, problems: Problems) -> GatewayError:
        """The answer for what the compiler found, in the words of the caller's document."""

    async def finish(self) -> Applied:
        """Store the change in one transaction, unless it is a dry run. GatewayError: nothing was stored.
        Outdated: neither, because another node was faster.
        """


class LocalWork:
    """The job done here, in this process."""

    def __init__(self, job: Job, store: Store, settings: Settings, resolver: Resolver) -> None:
        self._job = job
        self._store = store
        self._settings = settings
        self._resolver = resolver
        self._change = ChangeSet(settings)
        self._revision: int | None = None

    async def prepare(self) -> Prepared | None:
        file = await asyncio.to_thread(self._read)
        self._change = await self._store.read(
            declarative.compare, file, self._settings, prune=self._job.prune
        )
        if not self._change:
            return None
        # Who can write the node's file has the node; a body came by the API, from one person.
        if (names := self._change.plan.needs_approval) and not self._job.may_skip_approval:
            raise refusal(names)
        self._change.store.based_on = self._job.based_on
        addresses = await resolve_all(self._resolver, self._change.names)
        return Prepared(self._change.payload(addresses), addresses, self._change.checks)

    async def refusal(self, problems: Problems) -> GatewayError:
        return self.explain(problems)

    async def finish(self) -> Applied:
        await self.store()
        return self.result()

    def explain(self, problems: Problems) -> GatewayError:
        return from_core(problems, self._change.locate)

    async def store(self, agree: Callable[[], None] = lambda: None) -> None:
        """Write the change. ``agree`` is called when all is written but not committed; if it raises, nothing
        was.
        """
        if self._job.dry_run or not self._change:
            await self._store.read(changes.check_deployments, self._change.store)
            agree()
            return

        def write(connection: Connection) -> int:
            revision = changes.write(connection, self._change.store, self._job.author)
            agree()
            return revision

        self._revision = await self._store.write(write)

    def result(self) -> Applied:
        plan = self._change.plan
        counts = (plan.count("added"), plan.count("changed"), plan.count("removed"), plan.unchanged)
        return Applied(*counts, orjson.dumps(plan.answer()), self._revision)

    def _read(self) -> configfile.ConfigFile:
        document, rules = self._job.document, url_rules(self._settings)
        if isinstance(document, Path):
            return configfile.load(document, rules)
        return configfile.ConfigFile.parse(json_object(document), rules)
