"""Changes of one route or backend, worked out on the newest configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from hotswap_proxy.errors import Conflict, Detail, NotFound, from_pydantic
from hotswap_proxy.model import Backend, Model, Route, UrlRules
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Author, Store, VersionWrite, backends, routes, versions
from hotswap_proxy.store.changes import check_deployments
from hotswap_proxy.store.routes import Stored

from .changeset import ChangeSet
from .compile import Document
from .edits import check_rename, expect, merge, merge_route, route_change, taken
from .plan import Plan
from .references import new_id

T = TypeVar("T")
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did, or in a dry run would do. ``stored`` is None for a removed object and in a dry
    run.
    """

    plan: Plan
    generation: int
    stored: Stored | None = None
    staged: VersionWrite | None = None  # instead of being applied


class Objects(ABC):
    """What ``Configuration`` can do with single objects. How a change is carried out, it knows itself."""

    rules: UrlRules
    _store: Store
    _settings: Settings

    @property
    @abstractmethod
    def revision(self) -> int:
        """The newest revision of the store that this node serves."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """What workers serve."""

    @abstractmethod
    async def _edit(self, work: Callable[[], Awaitable[T]]) -> T:
        """Work a change out on the newest configuration; again, if another node was faster."""

    @abstractmethod
    async def _check(self, change: ChangeSet) -> None:
        """Resolve and compile it, and leave it at that."""

    @abstractmethod
    async def _carry_out(self, change: ChangeSet, author: Author, dry_run: bool) -> Changed:
        """Compile, store, publish."""

    # --- routes ----------------------------------------------------------------------------------------

    async def create_route(
        self, document: Mapping[str, Any], *, author: Author | str, dry_run: bool = False
    ) -> Changed:
        """Add a route. ValidationFailed, or Conflict with another route."""

        async def run() -> Changed:
            route = self._validate(Route, document)
            route_id = route.route_id or new_id("rt")
            if await self._store.read(routes.get, route_id):
                raise taken("routeId", route_id)
            return await self._put_route(route, route_id, None, author, dry_run)

        return await self._edit(run)

    async def update_route(
        self,
        route_id: str,
        document: Mapping[str, Any],
        *,
        author: Author | str,
        if_match: str | None = None,
        dry_run: bool = False,
    ) -> Changed:
        """Change the given fields and keep the others. A new version, unless nothing changes; in Production
        it is only staged.
        """

        async def run() -> Changed:
            old = expect(await self._store.read(routes.get, route_id), "route", route_id, if_match)
            route = self._validate(Route, merge_route(old.document, document))
            change = await route_change(self._store, self._settings, route, route_id, old.document)
            if change.plan.needs_approval:
                await self._store.read(check_deployments, change.store)
                return await self._stage_version(change, None, author, dry_run)
            return await self._write_route(change, route_id, author, dry_run)

        return await self._edit(run)

    async def stage_version(
        self,
        route_id: str,
        document: Mapping[str, Any],
        *,
        author: Author | str,
        base: str | None = None,
        description: str | None = None,
        dry_run: bool = False,
    ) -> Changed:
        """Keep what an update of ``base`` (the live version when left out) would make as a version, without
        applying it. It is checked as the update would be.
        """

        async def run() -> Changed:
            live = expect(await self._store.read(routes.get, route_id), "route", route_id, None).document
            source = live
            if base is not None and base != live["version"]:
                found = await self._store.read(versions.get, route_id, base)
                if found is None:
                    raise NotFound(f"no version {base} of route {route_id}")
                source = found["route"]
            route = self._validate(Route, merge_route(source, document))
            change = await route_change(self._store, self._settings, route, route_id, live, source)
            if not change:
                raise Conflict(f"this would be the same as the live version, {live['version']}")
            return await self._stage_version(change, description, author, dry_run)

        return await self._edit(run)

    async def rehearse(self, document: Document) -> None:
        """Whether a version as it is stored could be served in the place of the live one; nothing is changed.
        NotFound without the route, ValidationFailed or Conflict with the compiler's problems.
        """

        async def run() -> None:
            route_id = document["routeId"]
            live = expect(await self._store.read(routes.get, route_id), "route", route_id, None)
            change = ChangeSet(self._settings)
            change.put_route(dict(document), live.document)
            await self._check(change)

        await self._edit(run)

    async def delete_route(
        self, route_id: str, *, author: Author | str, if_match: str | None = None, dry_run: bool = False
    ) -> Changed:
        """Remove a route. Requests on it finish on the generation they started on."""

        async def run() -> Changed:
            old = expect(await self._store.read(routes.get, route_id), "route", route_id, if_match)
            change = ChangeSet(self._settings)
            change.remove_route(old.document)
            return await self._carry_out(change, Author.of(author), dry_run)

        return await self._edit(run)

    async def _put_route(
        self, route: Route, route_id: str, old: Document | None, author: Author | str, dry_run: bool
    ) -> Changed:
        change = await route_change(self._store, self._settings, route, route_id, old)
        return await self._write_route(change, route_id, author, dry_run)

    async def _write_route(
        self, change: ChangeSet, route_id: str, author: Author | str, dry_run: bool
    ) -> Changed:
        done = await self._carry_out(change, Author.of(author), dry_run)
        stored = None if dry_run else await self._store.read(routes.get, route_id)
        return Changed(done.plan, done.generation, stored)

    async def _stage_version(
        self, change: ChangeSet, description: str | None, author: Author | str, dry_run: bool
    ) -> Changed:
        await self._check(change)
        version = change.only_stage(description)
        if not dry_run:
            change.store.based_on = self.revision
            await self._store.commit(change.store, Author.of(author))
        return Changed(change.plan, self.generation, staged=None if dry_run else version)

    # --- backends --------------------------------------------------------------------------------------

    async def create_backend(
        self, document: Mapping[str, Any], *, author: Author | str, dry_run: bool = False
    ) -> Changed:
        """Register a backend."""

        async def run() -> Changed:
            backend = self._validate(Backend, document)
            backend_id = backend.backend_id or new_id("be")
            if await self._store.read(backends.get, backend_id):
                raise taken("backendId", backend_id)
            return await self._put_backend(backend, backend_id, None, author, dry_run)

        return await self._edit(run)

    async def update_backend(
        self,
        backend_id: str,
        document: Mapping[str, Any],
        *,
        author: Author | str,
        if_match: str | None = None,
        dry_run: bool = False,
    ) -> Changed:
        """Change the given fields and keep the others; the routes that refer to it follow at once."""

        async def run() -> Changed:
            old = expect(await self._store.read(backends.get, backend_id), "backend", backend_id, if_match)
            merged = merge(old.document, document, "backendId")
            backend = self._validate(Backend, merged)
            return await self._put_backend(backend, backend_id, old.document, author, dry_run)

        return await self._edit(run)

    async def delete_backend(
        self, backend_id: str, *, author: Author | str, if_match: str | None = None, dry_run: bool = False
    ) -> Changed:
        """Remove a backend that no route refers to. Conflict names the routes which do."""

        async def run() -> Changed:
            old = expect(await self._store.read(backends.get, backend_id), "backend", backend_id, if_match)
            if users := await self._store.read(routes.using, backend_id):
                names = ", ".join(name for _, name in users[:10]) + (" …" if len(users) > 10 else "")
                details = [
                    Detail("backendId", "in_use", f"used by route {name} ({id})") for id, name in users
                ]
                raise Conflict(f"backend {old.document['name']} is used by {names}", details)
            change = ChangeSet(self._settings)
            change.remove_backend(old.document)
            return await self._carry_out(change, Author.of(author), dry_run)

        return await self._edit(run)

    async def _put_backend(
        self, backend: Backend, backend_id: str, old: Document | None, author: Author | str, dry_run: bool
    ) -> Changed:
        if (other := await self._store.read(backends.id_of_name, backend.name)) not in (None, backend_id):
            raise taken("name", backend.name, other)
        if old and old["name"] != backend.name:
            await self._store.read(check_rename, backend_id, old["name"])
        change = ChangeSet(self._settings)
        change.put_backend(backend.document() | {"backendId": backend_id}, old)
        done = await self._carry_out(change, Author.of(author), dry_run)
        stored = None if dry_run else await self._store.read(backends.get, backend_id)
        return Changed(done.plan, done.generation, stored)

    def _validate(self, model: type[M], document: Mapping[str, Any]) -> M:
        try:
            return model.model_validate(document, context=self.rules)
        except ValidationError as error:
            raise from_pydantic(error) from None
