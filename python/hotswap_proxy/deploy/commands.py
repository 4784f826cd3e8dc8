"""What people order about deployments, on any node: read the record, work out the next one, write it.

Each order is one transaction: the record (compare-and-swap, tried once more when another writer was faster),
what the route becomes, the audit log and the revision that nodes follow. Then this node follows it at once.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Connection

from hotswap_proxy.errors import Conflict, Forbidden, NotFound
from hotswap_proxy.store import Outdated, Store, deployments
from hotswap_proxy.store.audit import Author
from hotswap_proxy.store.deployments import Stored
from hotswap_proxy.store.times import database_clock

from . import steps
from .announce import Announce, announce_nothing
from .facts import Facts, Judge
from .plan import DRAIN_TIMEOUT, KEEP_STABLE, phases_of
from .record import Deployment, Event, Person, SmokeTest, Thresholds
from .targets.base import Draft, Target
from .transitions import apply
from .writing import announce_changes, write

if TYPE_CHECKING:
    from hotswap_proxy.model.deployment import DeploymentCreate

log = logging.getLogger(__name__)

ATTEMPTS = 2  # the second when another writer was faster

Order = Callable[[Deployment, Facts], Deployment]


class Follower(Protocol):
    """What is needed of ``control.configuration.Configuration``."""

    async def sync(self) -> object:
        """Serve what the store says."""
        ...


class Commands:
    """All of them raise NotFound for an unknown deployment, Conflict (409) naming state and order for what is
    not possible now, ValidationFailed (400) naming the field. ``dry_run``: all checks, nothing written.
    They return the record as it is (or would be) after the order. Roles are checked by the caller.
    """

    def __init__(
        self,
        store: Store,
        targets: Mapping[str, Target],
        follower: Follower,
        judge: Judge,
        *,
        announce: Announce = announce_nothing,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_change`` is called after each order: the engine need not wait for its next turn."""
        self._store = store
        self._targets = targets
        self._follower = follower
        self._judge = judge
        self._announce = announce
        self._on_change = on_change

    async def create(self, request: DeploymentCreate, author: Author, *, dry_run: bool = False) -> Deployment:
        """A new deployment of a version that there is (``model.deployment.DeploymentCreate``).

        It waits for approval in Production (status Pending) and starts at once elsewhere. Conflict: the route
        has an active deployment, or the version is live already. ValidationFailed: no such version, phases
        that make no sense, versions that match different requests (only Direct can deploy those), or the
        version cannot be served (compiler's problems). NotFound: no such route.
        """
        target = self._targets["route"]
        draft = await target.prepare(request)

        def run(connection: Connection) -> Stored:
            facts = Facts(database_clock(connection), self._judge)
            made = _record(request, draft, _person(author), facts)
            # What was looked at before may have changed meanwhile; this is the moment that counts.
            other = deployments.active_on(connection, made.target_kind, made.route_id)
            if other is None and (problem := target.problem(connection, made)) is not None:
                raise Conflict(problem)
            if made.status == "Approved" and other is None:
                made = steps.begin(made, facts)
            return write(connection, None, made, author, target)

        stored = await (self._store.rehearse if dry_run else self._store.write)(run)
        if not dry_run:
            await self._changed(None, stored.deployment)
        return stored.deployment

    async def approve(self, deployment_id: str, author: Author, *, dry_run: bool = False) -> Deployment:
        """Forbidden for who created it. The engine starts it within a second."""
        person = _person(author)

        def order(deployment: Deployment, facts: Facts) -> Deployment:
            approved = apply(
                deployment,
                "approve",
                facts.at,
                by=person,
                approval_status="Approved",
                approved_by=person,
            )
            if _same(deployment.created_by, person):
                raise Forbidden(
                    f"{person.username} created deployment {deployment_id}; somebody else has to approve it"
                )
            return approved

        return await self._order(deployment_id, author, order, dry_run)

    async def reject(
        self, deployment_id: str, author: Author, reason: str | None = None, *, dry_run: bool = False
    ) -> Deployment:
        """Forbidden for who created it, who can withdraw it."""
        person = _person(author)

        def order(deployment: Deployment, facts: Facts) -> Deployment:
            rejected = apply(
                deployment, "reject", facts.at, by=person, reason=reason, approval_status="Rejected"
            )
            if _same(deployment.created_by, person):
                raise Forbidden(
                    f"{person.username} created deployment {deployment_id}; roll it back to withdraw it"
                )
            return rejected

        return await self._order(deployment_id, author, order, dry_run)

    async def promote(
        self, deployment_id: str, author: Author, target: float | None = None, *, dry_run: bool = False
    ) -> Deployment:
        """To the next phase (from the last one: complete), or to the share ``target`` (percent)."""
        person = _person(author)

        def order(deployment: Deployment, facts: Facts) -> Deployment:
            return steps.promote(deployment, facts, person, target)

        return await self._order(deployment_id, author, order, dry_run)

    async def pause(self, deployment_id: str, author: Author, *, dry_run: bool = False) -> Deployment:
        """The share stays, the phase's clock stands still; it is judged all the same."""
        person = _person(author)

        def order(deployment: Deployment, facts: Facts) -> Deployment:
            return steps.pause(deployment, facts, person)

        return await self._order(deployment_id, author, order, dry_run)

    async def resume(self, deployment_id: str, author: Author, *, dry_run: bool = False) -> Deployment:
        """The phase goes on with the time that was left of it."""
        person = _person(author)

        def order(deployment: Deployment, facts: Facts) -> Deployment:
            return steps.resume(deployment, facts, person)

        return await self._order(deployment_id, author, order, dry_run)

    async def roll_back(
        self, deployment_id: str, author: Author, reason: str | None = None, *, dry_run: bool = False
    ) -> Deployment:
        """All traffic to the previous version; before it has begun, withdraw it."""
        person = _person(author)

        def order(deployment: Deployment, facts: Facts) -> Deployment:
            event = "cancel" if deployment.status in ("Pending", "Approved") else "roll_back"
            return apply(deployment, event, facts.at, by=person, reason=reason)  # type: ignore[arg-type]

        return await self._order(deployment_id, author, order, dry_run)

    async def _order(self, deployment_id: str, author: Author, order: Order, dry_run: bool) -> Deployment:
        def run(connection: Connection) -> tuple[Deployment, Deployment]:
            before = deployments.get(connection, deployment_id)
            if before is None:
                raise NotFound(f"no deployment {deployment_id}")
            total = deployments.total(connection, deployment_id)
            facts = Facts(database_clock(connection), self._judge, total)
            after = order(before.deployment, facts)
            if after is before.deployment:
                return after, after
            target = self._targets[after.target_kind]
            return before.deployment, write(connection, before, after, author, target).deployment

        attempt = 1
        while True:
            try:
                before, after = await (self._store.rehearse if dry_run else self._store.write)(run)
                break
            except Outdated:
                if attempt == ATTEMPTS:
                    raise Conflict(
                        f"deployment {deployment_id} changes faster than this order could be carried out; "
                        "try again"
                    ) from None
                attempt += 1
        if not dry_run:
            await self._changed(before, after)
        return after

    async def _changed(self, before: Deployment | None, after: Deployment) -> None:
        """It is committed: nothing of this may make the order fail."""
        announce_changes(self._announce, before, after)
        self._on_change()
        try:
            await self._follower.sync()
        except Exception:
            log.exception("this node could not follow a deployment at once; it will within a second")


def _person(author: Author) -> Person:
    return Person(username=author.username, user_id=author.user_id)


def _same(one: Person, other: Person) -> bool:
    """Whether both may be the same human: an API key is its owner, names can be changed, and a user who was
    removed and made anew has another id.
    """
    return one.username == other.username or (one.user_id is not None and one.user_id == other.user_id)


def _record(request: DeploymentCreate, draft: Draft, creator: Person, facts: Facts) -> Deployment:
    status, approval = ("Pending", "Pending") if draft.needs_approval else ("Approved", "NotRequired")
    waits = ", waits for approval by another administrator" if draft.needs_approval else ""
    message = (
        f"{request.strategy} deployment of version {request.config_version} of {draft.target_name} "
        f"created by {creator.username}{waits}"
    )
    thresholds = request.thresholds.model_dump() if request.thresholds is not None else {}
    smoke_tests = [SmokeTest(**test.model_dump()) for test in request.smoke_tests or ()]
    is_rolling = request.strategy == "Rolling"
    return Deployment(
        deployment_id=f"dep-{secrets.token_hex(8)}",
        route_id=draft.target_id,
        route_name=draft.target_name,
        stable_version=draft.stable_version,
        config_version=request.config_version,
        strategy=request.strategy,
        environment=draft.environment,
        description=request.description,
        status=status,  # type: ignore[arg-type]
        approval_status=approval,  # type: ignore[arg-type]
        message=message,
        assignment=request.assignment,
        salt=secrets.token_hex(8),
        phases=phases_of(request, draft.members),
        auto_promote=True if request.auto_promote is None else request.auto_promote,
        thresholds=Thresholds(**thresholds),
        smoke_tests=smoke_tests or None,
        keep_stable=(request.keep_stable or KEEP_STABLE) if request.strategy == "BlueGreen" else None,
        drain_timeout=request.drain_timeout or DRAIN_TIMEOUT,
        nodes=draft.members if is_rolling else None,
        nodes_done=[] if is_rolling else None,
        created_by=creator,
        created_at=facts.at,
        events=[Event(at=facts.at, event="create", status=status, message=message, by=creator)],  # type: ignore[arg-type]
    )
