"""A declarative file against the store: what has to change, and the store as a file.

Ten thousand routes go through here one by one; what is kept of each is its row and its compiled form.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sqlalchemy import Connection

from hotswap_proxy.configfile import ConfigFile, Item
from hotswap_proxy.errors import Conflict, Detail, ValidationFailed
from hotswap_proxy.model import Backend, HealthCheck, Model, Route
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import backends, routes
from hotswap_proxy.store.backends import Registered

from .approval import default_environment
from .changeset import ChangeSet
from .compile import Document
from .masking import masked, restore
from .references import Registry, link, named_by_rules, new_id

BATCH = 250

Renamed = dict[str, tuple[str, str]]  # backend id → its name before, and where the file renames it


def compare(connection: Connection, file: ConfigFile, settings: Settings, *, prune: bool) -> ChangeSet:
    """The changes which make the store agree with ``file``; objects are the same by id, or else by name.

    Without ``prune`` what the file does not name stays. ValidationFailed: a reference leads nowhere.
    Conflict: a name belongs to an object that stays.
    """
    change = ChangeSet(settings, default_environment(connection, settings))
    registry, renamed, unwanted = _compare_backends(connection, file, change, prune)
    _compare_routes(connection, file, change, registry, renamed, prune)
    for backend in unwanted:  # planned last, and removed last: until then routes may refer to them
        change.remove_backend(backend)
    return change


def _compare_backends(
    connection: Connection, file: ConfigFile, change: ChangeSet, prune: bool
) -> tuple[Registry, Renamed, list[Document]]:
    registry = Registry()
    renamed: Renamed = {}
    wanted = _Wanted(file.backends, "backends")
    unwanted: list[Document] = []

    def put(item: Item, backend_id: str, old: Document | None, label: str) -> None:
        registry.add(Registered(backend_id, item.name))
        if old and old["name"] != item.name:
            renamed[backend_id] = (old["name"], label)
        change.put_backend(orjson.loads(item.document) | {"backendId": backend_id}, old, label=label)

    for text in backends.documents(connection):
        old = orjson.loads(text)
        if found := wanted.take(old["backendId"], old["name"], stays=not prune):
            put(found[1], old["backendId"], old, found[0])
        elif prune:
            unwanted.append(old)
        else:
            registry.add(Registered(old["backendId"], old["name"]))
    for label, item in wanted.rest():
        put(item, item.id or new_id("be"), None, label)
    return registry, renamed, unwanted


def _compare_routes(
    connection: Connection,
    file: ConfigFile,
    change: ChangeSet,
    registry: Registry,
    renamed: Renamed,
    prune: bool,
) -> None:
    wanted = _Wanted(file.routes, "routes")
    problems: list[Detail] = []
    batch: list[tuple[Document, Document | None, str]] = []

    def put(item: Item, route_id: str, old: Document | None, label: str) -> None:
        new = orjson.loads(item.document)
        wrong = link(new, route_id, registry) + restore(new, old)
        problems.extend(Detail(f"{label}.{path}", rule, message) for path, rule, message in wrong)
        if old and new | {"version": new.get("version", old["version"])} == old:
            change.plan.unchanged += 1
            return
        batch.append((new, old, label))
        if len(batch) >= BATCH:
            flush()

    def flush() -> None:
        history = routes.history(connection, [new["routeId"] for new, _, _ in batch])
        if not problems:
            for new, old, label in batch:
                change.put_route(new, old, history.get(new["routeId"], ()), label=label)
        batch.clear()

    for text in routes.documents(connection):
        old = orjson.loads(text)
        if found := wanted.take(old["routeId"], old["name"], stays=not prune):
            put(found[1], old["routeId"], old, found[0])
        elif prune:
            change.remove_route(old, by_apply=True)
        else:
            problems.extend(_named_by(old, renamed))
    for label, item in wanted.rest():
        put(item, item.id or new_id("rt"), None, label)
    flush()
    if problems:
        raise ValidationFailed.of(problems)


def _named_by(route: Document, renamed: Renamed) -> Iterator[Detail]:
    """What is wrong with renaming backends under a HeaderBased route that stays as it is and names them."""
    names = {name for _, name in named_by_rules(route)}
    for backend in route["backends"]:
        name, label = renamed.get(backend["backendId"], ("", ""))
        if name in names:
            who = f"route {route['name']} ({route['routeId']}), which is not in the file,"
            yield Detail(f"{label}.name", "in_use", f"{who} sends requests to it by the name {name}")


class _Wanted:
    """The file's objects which have not met their counterpart in the store yet."""

    def __init__(self, items: list[Item], kind: str) -> None:
        self._items = items
        self._kind = kind
        self._left = set(range(len(items)))
        self._ids = {item.id: index for index, item in enumerate(items) if item.id}
        # An object with an id is looked for by it alone, so that it can be renamed.
        self._names = {item.name: index for index, item in enumerate(items) if not item.id}
        self._renamed = {item.name: index for index, item in enumerate(items) if item.id}

    def take(self, id: str, name: str, *, stays: bool) -> tuple[str, Item] | None:
        """The object, with its path, that is the store's ``id`` or else has its ``name``.

        ``stays``: if there is none, the store's object stays; then Conflict if the file gives its name away.
        """
        index = self._ids.get(id, self._names.get(name))
        if index is None:
            if stays and (index := self._renamed.get(name)) is not None:
                message = f"{name} is taken by {id}"
                raise Conflict(message, [Detail(f"{self._kind}[{index}].name", "unique", message)])
            return None
        self._left.discard(index)
        return f"{self._kind}[{index}]", self._items[index]

    def rest(self) -> Iterator[tuple[str, Item]]:
        for index in sorted(self._left):
            yield f"{self._kind}[{index}]", self._items[index]


def export(connection: Connection) -> Document:
    """The store as a file: references by name, and nothing that is a default or belongs to this store."""
    names: dict[str, str] = {}
    told_backends: list[Document] = []
    for text in backends.documents(connection):
        backend = orjson.loads(text)
        names[backend["backendId"]] = backend["name"]
        told_backends.append(_own_values(backend))
    told_routes: list[Document] = []
    for text in routes.documents(connection):
        route = _without(_ROUTE, masked(orjson.loads(text)), "routeId", "version")
        route["backends"] = [
            _own_values(backend)
            if "url" in backend
            else {"name": names[backend["backendId"]], **_without({}, backend, "backendId")}
            for backend in route["backends"]
        ]
        told_routes.append(route)
    return {"version": "1", "backends": told_backends, "routes": told_routes}


def _own_values(backend: Document) -> Document:
    told = _without(_BACKEND, backend, "backendId")
    if "healthCheck" in told:
        told["healthCheck"] = _without(_HEALTH_CHECK, told["healthCheck"])
    return told


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
_HEALTH_CHECK = _defaults(HealthCheck.model_fields)
_ROUTE = _defaults(Route.model_fields)
