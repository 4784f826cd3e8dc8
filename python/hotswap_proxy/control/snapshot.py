"""Reads the whole configuration from the store for the compiler: at start, and after the store was
restored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import orjson
from pydantic_core import PydanticCustomError
from sqlalchemy import Connection

from hotswap_proxy.settings import Settings
from hotswap_proxy.store import backends, routes

from hotswap_proxy.model.urls import UrlRules, check_url

from .compile import Document, compile_backend, compile_route, named_targets
from .health.spec import Described, described, has_check, owner_of
from .plan import Kind
from .resolver import url_rules


@dataclass(slots=True)
class Snapshot:
    """The change set, but for the addresses of ``names``, which are not known yet."""

    objects: bytearray = field(default_factory=bytearray)
    names: set[str] = field(default_factory=set)
    checks: Described = field(default_factory=dict)
    # Stored when the node's settings still permitted it: kind, id, name of what it belongs to, url, rule, message.
    violations: list[dict[str, str]] = field(default_factory=list)
    rules: UrlRules = field(default_factory=UrlRules)

    def payload(self, addresses: Mapping[str, list[str]]) -> bytes:
        return b"".join((b'{"reset":true,"addresses":', orjson.dumps(addresses), self.objects, b"}"))

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

    def documents(self, texts: Iterator[str], kind: Kind) -> Iterator[Document]:
        for text in texts:
            document = orjson.loads(text)
            if has_check(document):
                self.checks[owner_of(kind, document)] = described(document)
            self._check_urls(document, kind)
            self.names.update(target.authority for _, target in named_targets(document))
            yield document

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
    snapshot = Snapshot(rules=url_rules(settings))
    registered = snapshot.documents(backends.documents(connection), "backend")
    snapshot.append("upsertBackends", map(compile_backend, registered))
    texts = routes.documents(connection, settings.environment)
    served = snapshot.documents(texts, "route")
    snapshot.append("upsertRoutes", (compile_route(document, settings) for document in served))
    return snapshot
