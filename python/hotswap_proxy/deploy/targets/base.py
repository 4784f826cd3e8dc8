"""What can be deployed to, as the engine sees it: the arms of a route, the instances of a service one day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Connection

from hotswap_proxy.deploy.facts import Member, Smoke
from hotswap_proxy.deploy.record import Deployment, TargetKind
from hotswap_proxy.errors import Conflict
from hotswap_proxy.model.base import Environment
from hotswap_proxy.store.audit import Author

if TYPE_CHECKING:
    from hotswap_proxy.model.deployment import DeploymentCreate


@dataclass(frozen=True, slots=True)
class Draft:
    """What a target says of a deployment that is asked for. ``members``: for Rolling, in their order."""

    target_id: str
    target_name: str
    stable_version: str
    environment: Environment
    needs_approval: bool
    members: list[str]


class CannotGoLive(Conflict):
    """The version cannot become the live one any more, and that will not change by itself."""


class Target(Protocol):
    """One kind of target. Methods with a connection are part of the caller's transaction."""

    kind: TargetKind

    async def prepare(self, request: DeploymentCreate) -> Draft:
        """NotFound, Conflict or ValidationFailed when this cannot be deployed."""
        ...

    def problem(self, connection: Connection, deployment: Deployment) -> str | None:
        """Why the deployment cannot go on, in one sentence: what it was for is gone or has changed."""
        ...

    def members(self, connection: Connection, deployment: Deployment) -> Mapping[str, Member]:
        """Those that are alive now, by id, and how far they are."""
        ...

    async def verify(self, deployment: Deployment) -> Smoke:
        """Test the candidate version before it gets traffic. Ends within a bounded time and never raises."""
        ...

    def make_live(self, connection: Connection, deployment: Deployment, version: str, author: Author) -> None:
        """``version`` becomes the one that is served; CannotGoLive when it cannot."""
        ...
