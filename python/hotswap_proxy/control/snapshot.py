"""Reads the configuration from the store for the compiler: the whole, or what a node has missed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic_core import PydanticCustomError
from sqlalchemy import Connection

from hotswap_proxy.model.urls import UrlRules, check_url
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import backends, revisions, routes
from hotswap_proxy.store.revisions import Entry

from .canary import Running, read_running, routes_of
from .compile import Document, compile_backend, compile_route, named_targets
from .health.spec import Described, described, has_check, owner_of
from .plan import Kind
from .resolver import url_rules

_ITEM = re.compile(r"(upsertRoutes|upsertBackends)\[(\d+)\]")
_KINDS: dict[str, tuple[revisions.Kind, str]] = {
    "upsertRoutes": ("route", "routeId"),
    "upsertBackends": ("backend", "backendId"),
}
Refusals = dict[Entry, str]  # what the compiler would not take → why


@dataclass(slots=True)
class Snapshot:
    """The change set, but for the addresses of ``names``, which are not known yet. ``reset``: it is all there
    is, and what it does not name goes.
    """

    revision: int = 0
    reset: bool = True
    mark: str | None = None  # of the revision
    objects: bytearray = field(default_factory=bytearray)
    removed: dict[str, list[str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    checks: Described = field(default_factory=dict)
    key_sets: dict[str, Any] = field(default_factory=dict)  # of token issuers; else they are fetched
    # Stored when the node's settings still permitted it: kind, id and name of its owner, url, rule, message.
    violations: list[dict[str, str]] = field(default_factory=list)
    rules: UrlRules = field(default_factory=UrlRules)

    @property
    def is_empty(self) -> bool:
        return not (self.reset or self.objects or self.removed)

    def payload(self, addresses: Mapping[str, list[str]]) -> bytes:
        parts = [b'{"reset":true,' if self.reset else b"{", b'"addresses":', orjson.dumps(addresses)]
        parts += [b',"%s":%s' % (key.encode(), orjson.dumps(ids)) for key, ids in self.removed.items()]
        parts += [b',"keySets":', orjson.dumps(self.key_sets)] if self.key_sets else []
        return b"".join([*parts, self.objects, b"}"])

    def append(self, key: str, compiled: Iterable[Document]) -> None:
        # One growing buffer, and never two objects alive: it goes back to the system as a whole, while ten
        # thousand little ones would leave the heap full of holes.
        separator = b',"%s":[' % key.encode()
        for one in compiled:
            self.objects += separator
            self.objects += orjson.dumps(one)
            separator = b","
        if separator == b",":
            self.objects += b"]"

    def note(self, document: Document, kind: Kind, candidate: Document | None = None) -> None:
        """What there is to know of a document that is served, and of another version beside it."""
        both = [document] if candidate is None else [document, candidate]
        if not self.reset or any(map(has_check, both)):
            told = [one for each in both for one in described(each)]
            # Versions have most of their checks in common.
            self.checks[owner_of(kind, document)] = [
                one for index, one in enumerate(told) if one not in told[:index]
            ]
        for each in both:
            self._check_urls(each, kind)
            self.names.update(target.authority for _, target in named_targets(each))

    def backends(self, texts: Iterable[str]) -> Iterator[Document]:
        for text in texts:
            document = orjson.loads(text)
            self.note(document, "backend")
            yield compile_backend(document)

    def routes(
        self, texts: Iterable[str], running: Mapping[str, Running], settings: Settings
    ) -> Iterator[Document]:
        for text in texts:
            document = orjson.loads(text)
            deployment = running.get(document["routeId"])
            self.note(document, "route", deployment.candidate if deployment else None)
            yield compile_route(document, settings, deployment)

    def remove(self, key: str, kind: Kind, ids: Iterable[str]) -> None:
        if gone := sorted(ids):
            self.removed[key] = gone
            self.checks.update((f"{kind}:{id}", []) for id in gone)

    def without(self, problems: Iterable[Mapping[str, Any]]) -> Refusals:
        """Leave out what the compiler found wrong, so that the rest can be served: what was left out. It
        stays as it is on this node; hence nothing is removed any more that is not said to be.
        """
        found: dict[tuple[str, int], str] = {}
        for problem in problems:
            if match := _ITEM.match(str(problem.get("path") or "")):
                found.setdefault((match[1], int(match[2])), str(problem["message"]))
        refused: Refusals = {}
        self.reset = False
        if not found:  # what goes is still needed by something that stays
            gone = self.removed.pop("removeBackends", [])
            return {Entry("backend", id): "it is still in use here" for id in gone}
        kept = orjson.loads(b"{" + bytes(self.objects[1:]) + b"}")
        self.objects.clear()
        for key, items in kept.items():
            kind, name = _KINDS[key]
            for index, item in enumerate(items):
                if (key, index) in found:
                    refused[Entry(kind, item[name])] = found[key, index]
                    self.checks.pop(f"{kind}:{item[name]}", None)
            self.append(key, (item for index, item in enumerate(items) if (key, index) not in found))
        return refused

    def _check_urls(self, document: Document, kind: Kind) -> None:
        for backend in document.get("backends", (document,)):
            try:
                if "url" in backend:  # references have none of their own
                    check_url(backend["url"], self.rules)
            except PydanticCustomError as error:
                owner = {"kind": kind, "id": document[f"{kind}Id"], "name": document["name"]}
                told = {"url": backend["url"], "rule": error.type, "message": error.message()}
                self.violations.append(owner | told)


def read_snapshot(connection: Connection, settings: Settings) -> Snapshot:
    """What a node with these settings serves."""
    head = revisions.head(connection)
    snapshot = Snapshot(head.revision, mark=head.mark, rules=url_rules(settings))
    snapshot.append("upsertBackends", snapshot.backends(backends.documents(connection)))
    texts = routes.documents(connection, settings.environment)
    running = read_running(connection)
    snapshot.append("upsertRoutes", snapshot.routes(texts, running, settings))
    return snapshot


def read_changes(
    connection: Connection, settings: Settings, revision: int, mark: str | None, more: Iterable[Entry] = ()
) -> Snapshot:
    """What a node that serves ``revision`` has missed; ``more`` is read again as well."""
    since = revisions.since(connection, revision, mark)
    if since.entries is None:
        return read_snapshot(connection, settings)
    snapshot = Snapshot(since.head.revision, False, since.head.mark, rules=url_rules(settings))
    entries = since.entries.union(more)
    if not entries:
        return snapshot
    wanted = {entry.entity_id for entry in entries if entry.kind == "backend"}
    found = dict(backends.some(connection, wanted))
    snapshot.append("upsertBackends", snapshot.backends(found.values()))
    snapshot.remove("removeBackends", "backend", wanted - found.keys())
    wanted = {entry.entity_id for entry in entries if entry.kind == "route"}
    wanted |= routes_of(connection, {entry.entity_id for entry in entries if entry.kind == "deployment"})
    found = dict(routes.some(connection, wanted, settings.environment))
    running = read_running(connection, found)
    snapshot.append("upsertRoutes", snapshot.routes(found.values(), running, settings))
    snapshot.remove("removeRoutes", "route", wanted - found.keys())
    return snapshot


def names_in_use(connection: Connection, settings: Settings) -> set[str]:
    """The host:port of every backend whose host is a name, as far as this node needs them."""
    found = routes.dns_names(connection, settings.environment)
    for running in read_running(connection).values():
        found.update(target.authority for _, target in named_targets(running.candidate))
    return found
