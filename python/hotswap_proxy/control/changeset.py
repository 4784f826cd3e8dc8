"""One set of changes in its three forms: for the reader (plan), for the store (rows), for the compiler
(JSON).

Everything that changes the configuration, by API or file, one route or ten thousand, is collected here, so
that the three cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import orjson

from hotswap_proxy.errors import Conflict, Detail, ValidationFailed
from hotswap_proxy.model import Target
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import AuditEntry, BackendWrite, RouteWrite, StoreChanges, VersionWrite

from .approval import needs_approval
from .compile import Document, compile_backend, compile_route, named_targets
from .health.spec import Described, described, has_check, owner_of
from .masking import masked_change
from .plan import Action, Kind, ObjectChange, Plan, diff

# Enough of a diff for the audit log to tell what was done; the versions keep the rest.
AUDITED_FIELDS = 50


def etag_of(document: str) -> str:
    """A strong entity tag: equal documents (with their version) have equal tags."""
    return blake2b(document.encode(), digest_size=12).hexdigest()


def next_version(current: str, taken: Iterable[str]) -> str:
    """``"1.0"`` → ``"1.1"``: the last number counted up until no version of the route has that name."""
    used = set(taken)
    head, last = re.fullmatch(r"(.*?)(\d*)", current, re.DOTALL).groups()  # type: ignore[union-attr]
    if not last:
        head, last = f"{current}.", "0"
    number = int(last) + 1
    while f"{head}{number}" in used:
        number += 1
    return f"{head}{number}"


def route_write(document: Document, *, is_new: bool = False, new_version: bool = True) -> RouteWrite:
    """The row of a complete document. ``new_version=False``: a version that there is already becomes the live
    one, which is how a deployment ends.
    """
    text = orjson.dumps(document).decode()
    return RouteWrite(
        is_new=is_new,
        new_version=new_version,
        route_id=document["routeId"],
        name=document["name"],
        document=text,
        version=document["version"],
        is_enabled=document["isEnabled"],
        strategy=document["strategy"],
        environment=document.get("environment"),
        etag=etag_of(text),
        dns_names=_names_of(list(named_targets(document))),
        backend_ids=[backend["backendId"] for backend in document["backends"] if "url" not in backend],
    )


def _names_of(targets: Iterable[tuple[str, Target]]) -> str | None:
    names = [target.authority for _, target in targets]
    return orjson.dumps(names).decode() if names else None


class ChangeSet:
    def __init__(self, settings: Settings, default_environment: str | None = None) -> None:
        """``default_environment``: see ``approval``; needed where routes that there are are changed."""
        self.plan = Plan()
        self.store = StoreChanges()
        self.names: dict[str, str] = {}  # host:port to resolve → the field that names it first
        self.checks: Described = {}
        self._settings = settings
        self._default_environment = default_environment or settings.environment
        # One buffer each: it goes back to the system as a whole, ten thousand pieces would leave holes.
        self._upserts = {"upsertRoutes": bytearray(), "upsertBackends": bytearray()}
        self._removals: dict[str, list[str]] = {"removeRoutes": [], "removeBackends": []}
        self._labels: dict[str, list[str]] = {"upsertRoutes": [], "upsertBackends": []}

    def __bool__(self) -> bool:
        return bool(self.plan.changes)

    def put_route(
        self, new: Document, old: Document | None, taken: Iterable[str] = (), *, label: str = ""
    ) -> Document:
        """Add or change a route. ``new`` is linked (see ``references``); ``taken`` are the versions there
        were.

        A given ``version`` must be a new one (Conflict); without it the last one is counted up. ``label``
        is the path of the route in the caller's document, for problems found later. Returns what will be
        stored.
        """
        if not self._is_changed("route", "routeId", new, old):
            return old or new
        used = set(taken)
        if new.get("version") in used:
            message = (
                f"there was a version {new['version']} already, and versions do not change; give another"
            )
            raise Conflict(message, [Detail(f"{label}.version" if label else "version", "unique", message)])
        if "version" not in new:
            first = old["version"] if old else "1.0"
            new["version"] = next_version(first, used) if old or first in used else first
        self._collect_names(new, label)
        self.store.routes.append(route_write(new, is_new=old is None))
        if old and needs_approval(self._default_environment, old, new):
            self.plan.needs_approval.append(new["name"])
        self._note_checks("route", new if self._is_served(new) else None, old)
        if self._is_served(new):
            self._upsert("upsertRoutes", compile_route(new, self._settings), label)
        elif old and self._is_served(old):
            self._removals["removeRoutes"].append(new["routeId"])
        return new

    def only_stage(self, description: str | None) -> VersionWrite:
        """Keep the changed route as a version and leave the live one alone."""
        (row,) = self.store.routes
        staged = VersionWrite(
            route_id=row.route_id, version=row.version, document=row.document, description=description
        )
        entry = self.store.audit[0]
        details = {"version": row.version, **({"description": description} if description else {})}
        entry = AuditEntry("route.stage", entry.entity_id, entry.entity_name, details | entry.details)
        self.store = StoreChanges(staged=[staged], audit=[entry])
        return staged

    def put_backend(self, new: Document, old: Document | None, *, label: str = "") -> Document:
        """Add or change a registered backend. Returns what will be stored."""
        if not self._is_changed("backend", "backendId", new, old):
            return old or new
        if old is None and ":" in new["backendId"]:  # those that have one from earlier keep it
            field = f"{label}.backendId" if label else "backendId"
            message = (
                f"{new['backendId']} has a colon, which is for the ids of routes' own backends (route:name)"
            )
            raise ValidationFailed.of([Detail(field, "pattern", message)])
        text = orjson.dumps(new).decode()
        self.store.backends.append(
            BackendWrite(
                is_new=old is None,
                backend_id=new["backendId"],
                name=new["name"],
                document=text,
                is_enabled=new["isEnabled"],
                etag=etag_of(text),
                dns_names=self._collect_names(new, label),
            )
        )
        self._note_checks("backend", new, old)
        self._upsert("upsertBackends", compile_backend(new), label)
        return new

    def remove_route(self, old: Document, *, by_apply: bool = False) -> None:
        """``by_apply``: as one of many, where it may be a slip; a DELETE names the one it means."""
        self._record("route", "removed", old["routeId"], old["name"])
        if by_apply and needs_approval(self._default_environment, old):
            self.plan.needs_approval.append(old["name"])
        self.store.removed_routes.append(old["routeId"])
        self._note_checks("route", None, old)
        if self._is_served(old):
            self._removals["removeRoutes"].append(old["routeId"])

    def remove_backend(self, old: Document) -> None:
        self._record("backend", "removed", old["backendId"], old["name"])
        self.store.removed_backends.append(old["backendId"])
        self._note_checks("backend", None, old)
        self._removals["removeBackends"].append(old["backendId"])

    def payload(self, addresses: Mapping[str, list[str]]) -> bytes:
        """The change set as ``Catalog.stage`` takes it."""
        parts: list[bytes | bytearray] = [b'{"addresses":', orjson.dumps(addresses)]
        for key, ids in self._removals.items():
            parts += [b',"', key.encode(), b'":', orjson.dumps(ids)]
        for key, objects in self._upserts.items():
            parts += [b',"', key.encode(), b'":[', objects, b"]"]
        return b"".join([*parts, b"}"])

    def locate(self, problem: Mapping[str, Any]) -> str:
        """The path, in the caller's document, of a problem of the compiler
        (``upsertRoutes[3].pathPattern``).
        """
        found = re.fullmatch(r"(\w+)\[(\d+)\]\.?(.*)", str(problem.get("path") or ""), re.DOTALL)
        if found is None:
            return str(problem.get("path") or "")
        labels = self._labels.get(found[1], [])
        index = int(found[2])
        label = labels[index] if index < len(labels) else ""
        field = found[3].replace("headerRules", "strategyConfig")
        return f"{label}.{field}" if label and field else label or field

    def _note_checks(self, kind: Kind, new: Document | None, old: Document | None) -> None:
        """What is to be health-checked from now on; only where something is or was."""
        for document in (new, old):
            if document is not None and has_check(document):
                self.checks[owner_of(kind, document)] = described(new) if new else []
                return

    def _is_served(self, route: Document) -> bool:
        return route.get("environment") in (None, self._settings.environment)

    def _is_changed(self, kind: Kind, key: str, new: Document, old: Document | None) -> bool:
        """Record the difference; False if there is none. No version given means: not compared."""
        if old is None:
            self._record(kind, "added", new[key], new["name"])
            return True
        compared = new if "version" in new or kind == "backend" else new | {"version": old["version"]}
        fields = tuple(map(masked_change, diff(old, compared)))
        if not fields:
            self.plan.unchanged += 1
            return False
        self._record(kind, "changed", new[key], new["name"], fields)
        return True

    def _record(self, kind: Kind, action: Action, id: str, name: str, fields: tuple[Any, ...] = ()) -> None:
        self.plan.changes.append(ObjectChange(kind, action, id, name, fields))
        verb = {"added": "create", "changed": "update", "removed": "delete"}[action]
        details = {"fields": [change.answer() for change in fields[:AUDITED_FIELDS]]} if fields else {}
        self.store.audit.append(AuditEntry(f"{kind}.{verb}", id, name, details))

    def _collect_names(self, document: Document, label: str) -> str | None:
        found = list(named_targets(document))
        for path, target in found:
            self.names.setdefault(target.authority, f"{label}.{path}" if label else path)
        return _names_of(found)

    def _upsert(self, key: str, compiled: Document, label: str) -> None:
        buffer = self._upserts[key]
        if buffer:
            buffer += b","
        buffer += orjson.dumps(compiled)
        self._labels[key].append(label)
