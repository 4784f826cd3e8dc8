"""What people order about deployments, on any node: read the record, work out the next one, write it.

Each order is one transaction: the record (compare-and-swap, tried once more when another writer was faster),
what the route becomes, the audit log and the revision that nodes follow. Then this node follows it at once.
"""

from __future__ import annotations

from typing import Any

from hotswap_proxy.store.audit import Author

from .record import Deployment


class Commands:
    """All of them raise NotFound for an unknown deployment, Conflict (409) naming state and order for what is
    not possible now, ValidationFailed (400) naming the field. ``dry_run``: all checks, nothing written.
    They return the record as it is (or would be) after the order. Roles are checked by the caller.
    """

    async def create(self, request: Any, author: Author, *, dry_run: bool = False) -> Deployment:
        """A new deployment of a version that there is (``model.deployment.DeploymentCreate``).

        It waits for approval in Production (status Pending) and starts at once elsewhere. Conflict: the route
        has an active deployment, or the version is live already. ValidationFailed: no such version, phases
        that make no sense, versions that match different requests (only Direct can deploy those), or the
        version cannot be served (compiler's problems). NotFound: no such route.
        """
        raise NotImplementedError

    async def approve(self, deployment_id: str, author: Author, *, dry_run: bool = False) -> Deployment:
        """Forbidden for who created it. The engine starts it within a second."""
        raise NotImplementedError

    async def reject(
        self, deployment_id: str, author: Author, reason: str | None = None, *, dry_run: bool = False
    ) -> Deployment:
        raise NotImplementedError

    async def promote(
        self, deployment_id: str, author: Author, target: float | None = None, *, dry_run: bool = False
    ) -> Deployment:
        """To the next phase (from the last one: complete), or to the share ``target`` (percent)."""
        raise NotImplementedError

    async def pause(self, deployment_id: str, author: Author, *, dry_run: bool = False) -> Deployment:
        """The share stays, the phase's clock stands still; it is judged all the same."""
        raise NotImplementedError

    async def resume(self, deployment_id: str, author: Author, *, dry_run: bool = False) -> Deployment:
        raise NotImplementedError

    async def roll_back(
        self, deployment_id: str, author: Author, reason: str | None = None, *, dry_run: bool = False
    ) -> Deployment:
        """All traffic to the previous version; before it has begun, withdraw it."""
        raise NotImplementedError
