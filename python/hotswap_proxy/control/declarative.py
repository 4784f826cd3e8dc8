"""A declarative file against the store: what has to change, and the store as a file."""

from __future__ import annotations

from typing import Generic, TypeVar

import orjson
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sqlalchemy import Connection

from hotswap_proxy.configfile import ConfigFile
from hotswap_proxy.errors import Detail, ValidationFailed
from hotswap_proxy.model import Backend, Model, Route
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import backends, routes
from hotswap_proxy.store.backends import Registered

from .changeset import ChangeSet
from .compile import Document
from .references import Registry, link, new_id

Obj = TypeVar("Obj", Backend, Route)


def compare(connection: Connection, file: ConfigFile, settings: Settings, *, prune: bool) -> ChangeSet:
    """The changes which make the store agree with ``file``; objects are the same by id, or else by name.

    Without ``prune`` what the file does not name stays. ValidationFailed: a reference leads nowhere.
    """
    change = ChangeSet(settings)
    registry, unwanted = _compare_backends(connection, file, change, prune)
    _compare_routes(connection, file, change, registry, prune)
    for backend in unwanted:  # planned last, and removed last: until then routes may refer to them
        change.remove_backend(backend)
    return change


def _compare_backends(
    connection: Connection, file: ConfigFile, change: ChangeSet, prune: bool
) -> tuple[Registry, list[Document]]:
    registry = Registry()
    wanted = _Wanted(file.backends, "backend_id")
    unwanted: list[Document] = []
    for text in backends.documents(connection):
        old = orjson.loads(text)
        found = wanted.take(old["backendId"], old["name"])
        if found is None:
            if prune:
                unwanted.append(old)
            else:
                registry.add(Registered(old["backendId"], old["name"]))
            continue
        index, backend = found
        new = backend.document() | {"backendId": old["backendId"]}
        registry.add(Registered(new["backendId"], new["name"]))
        change.put_backend(new, old, label=f"backends[{index}]")
    for index, backend in wanted.rest():
        new = backend.document() | {"backendId": backend.backend_id or new_id("be")}
        registry.add(Registered(new["backendId"], new["name"]))
        change.put_backend(new, None, label=f"backends[{index}]")
    return registry, unwanted


def _compare_routes(
    connection: Connection, file: ConfigFile, change: ChangeSet, registry: Registry, prune: bool
) -> None:
    wanted = _Wanted(file.routes, "route_id")
    problems: list[Detail] = []

    def linked(index: int, route: Route, route_id: str) -> Document:
        document, wrong = link(route, route_id, registry)
        problems.extend(Detail(f"routes[{index}].{path}", rule, message) for path, rule, message in wrong)
        return document

    changed: list[tuple[Document, Document, str]] = []
    for text in routes.documents(connection):
        old = orjson.loads(text)
        found = wanted.take(old["routeId"], old["name"])
        if found is None:
            if prune:
                change.remove_route(old)
            continue
        new = linked(*found, old["routeId"])
        if new | {"version": new.get("version", old["version"])} == old:
            change.plan.unchanged += 1
        else:
            changed.append((new, old, f"routes[{found[0]}]"))
    added = [
        (linked(index, route, route.route_id or new_id("rt")), f"routes[{index}]")
        for index, route in wanted.rest()
    ]
    if problems:
        raise ValidationFailed.of(problems)
    # Only a given id can have a past; generated ones are new.
    known = [old["routeId"] for _, old, _ in changed] + [one.route_id for one in file.routes if one.route_id]
    history = routes.history(connection, known)
    for new, old, label in changed:
        change.put_route(new, old, history.get(old["routeId"], ()), label=label)
    for new, label in added:
        change.put_route(new, None, history.get(new["routeId"], ()), label=label)


class _Wanted(Generic[Obj]):
    """The file's objects which have not met their counterpart in the store yet."""

    def __init__(self, objects: list[Obj], key: str) -> None:
        self._objects: dict[int, Obj] = dict(enumerate(objects))
        self._ids = {id: index for index, one in enumerate(objects) if (id := getattr(one, key))}
        # An object with an id is looked for by it alone, so that it can be renamed.
        self._names = {one.name: index for index, one in enumerate(objects) if not getattr(one, key)}

    def take(self, id: str, name: str) -> tuple[int, Obj] | None:
        """The object (with its index in the file) that is the store's ``id`` or else has its ``name``."""
        index = self._ids.get(id, self._names.get(name))
        return None if index is None else (index, self._objects.pop(index))

    def rest(self) -> list[tuple[int, Obj]]:
        return list(self._objects.items())


def export(connection: Connection) -> Document:
    """The store as a file: references by name, and nothing that is a default or belongs to this store."""
    names: dict[str, str] = {}
    told_backends: list[Document] = []
    for text in backends.documents(connection):
        backend = orjson.loads(text)
        names[backend["backendId"]] = backend["name"]
        told_backends.append(_without(_BACKEND, backend, "backendId"))
    told_routes: list[Document] = []
    for text in routes.documents(connection):
        route = _without(_ROUTE, orjson.loads(text), "routeId", "version")
        route["backends"] = [
            _without(_BACKEND, backend, "backendId")
            if "url" in backend
            else {"name": names[backend["backendId"]], **_without({}, backend, "backendId")}
            for backend in route["backends"]
        ]
        told_routes.append(route)
    return {"version": "1", "backends": told_backends, "routes": told_routes}


def _without(defaults: Document, document: Document, *keys: str) -> Document:
    return {
        key: value
        for key, value in document.items()
        if key not in keys and (key not in defaults or defaults[key] != value)
    }


def _defaults(fields: dict[str, FieldInfo]) -> Document:
    """A model's defaults as they are stored."""
    found = {
        field.alias: field.get_default(call_default_factory=True, validated_data={})
        for field in fields.values()
    }
    return {
        alias: value.document() if isinstance(value, Model) else value
        for alias, value in found.items()
        if alias is not None and value is not None and value is not PydanticUndefined
    }


_BACKEND = _defaults(Backend.model_fields)
_ROUTE = _defaults(Route.model_fields)
