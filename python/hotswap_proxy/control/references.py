"""Makes a route's document complete: ids for what has none, and references that exist."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from hotswap_proxy.errors import Detail
from hotswap_proxy.store.backends import Registered

from .compile import Document


def new_id(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(8)}"


class Registry:
    """Registered backends by id and by name; where both fit, the id counts."""

    def __init__(self, backends: Iterable[Registered] = ()) -> None:
        self._ids: dict[str, Registered] = {}
        self._names: dict[str, Registered] = {}
        for backend in backends:
            self.add(backend)

    def add(self, backend: Registered) -> None:
        self._ids[backend.backend_id] = backend
        self._names[backend.name] = backend

    def find(self, key: str) -> Registered | None:
        return self._ids.get(key) or self._names.get(key)

    def has_id(self, backend_id: str) -> bool:
        return backend_id in self._ids


def keys_of(document: Document) -> set[str]:
    """The ids and names by which a route's document could refer to registered backends."""
    return {
        value
        for backend in document["backends"]
        for key in ("backendId", "name")
        if (value := backend.get(key))
    }


def link(document: Document, route_id: str, registry: Registry) -> list[Detail]:
    """Complete a valid route's document in place. Returns what is wrong with its references."""
    document["routeId"] = route_id
    problems: list[Detail] = []
    names: list[str] = []
    ids: list[str] = []
    for index, backend in enumerate(document["backends"]):
        path = f"backends[{index}]"
        linked, name = (_own if "url" in backend else _reference)(backend, route_id, registry, path, problems)
        if linked["backendId"] in ids:
            problems.append(Detail(path, "unique", f"the backend {name} is listed twice"))
        elif name in names:
            problems.append(Detail(f"{path}.name", "unique", f"two backends of the route are called {name}"))
        document["backends"][index] = linked
        names.append(name)
        ids.append(linked["backendId"])
    problems += [
        Detail(field, "exists", f"{name} is not one of the route's backends ({', '.join(names)})")
        for field, name in named_by_rules(document)
        if name not in names
    ]
    return problems


def _own(
    backend: Document, route_id: str, registry: Registry, path: str, problems: list[Detail]
) -> tuple[Document, str]:
    """A backend of the route's own; its id follows from its name and so stays when the route changes."""
    backend_id = backend.get("backendId") or f"{route_id}:{backend['name']}"
    if registry.has_id(backend_id):
        message = f"{backend_id} is a registered backend; refer to it by backendId alone"
        problems.append(Detail(f"{path}.backendId", "unique", message))
    return backend | {"backendId": backend_id}, backend["name"]


def _reference(
    backend: Document, route_id: str, registry: Registry, path: str, problems: list[Detail]
) -> tuple[Document, str]:
    field = "backendId" if "backendId" in backend else "name"
    key: str = backend[field]
    found = registry.find(key)
    if found is None:
        problems.append(Detail(f"{path}.{field}", "exists", f"there is no registered backend {key}"))
        return {"backendId": key}, key
    weight: dict[str, Any] = {"weight": backend["weight"]} if "weight" in backend else {}
    return {"backendId": found.backend_id, **weight}, found.name


def named_by_rules(route: Document) -> Iterator[tuple[str, str]]:
    """(field path, backend name) of every backend that a HeaderBased route's rules name."""
    config = route["strategyConfig"]
    for value, name in config.get("routingRules", {}).items():
        yield f"strategyConfig.routingRules.{value}", name
    if "defaultBackend" in config:
        yield "strategyConfig.defaultBackend", config["defaultBackend"]
