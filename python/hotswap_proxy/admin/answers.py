"""Shapes that several endpoints answer with."""

from __future__ import annotations

from typing import Any

import orjson

from hotswap_proxy.control.masking import masked
from hotswap_proxy.control.objects import Changed
from hotswap_proxy.deploy.record import Deployment
from hotswap_proxy.store import VersionWrite
from hotswap_proxy.store.routes import Stored

from .models import Page
from .routing import Answer


def page(name: str, items: list[Any], total: int, query: Page) -> Answer:
    """One page of a list. ``nextOffset`` is null on the last one."""
    end = query.offset + len(items)
    more = end < total and bool(items)
    return Answer(
        {
            name: items,
            "total": total,
            "limit": query.limit,
            "offset": query.offset,
            "hasMore": more,
            "nextOffset": end if more else None,
        }
    )


def stored(found: Stored, *, status: int = 200, **more: Any) -> Answer:
    """A route or backend, with its entity tag."""
    return Answer(masked(found.answer()) | more, status, {"etag": f'"{found.etag}"'})


def written(done: Changed, *, status: int = 200) -> Answer:
    """The object after a write; in a dry run, the difference. ``configChangeApplied``: every worker serves
    it.
    """
    if done.stored is None:
        return Answer({"dryRun": True, **done.plan.answer()})
    return stored(done.stored, status=status, configChangeApplied=True, generation=done.generation)


def proposed(staged: VersionWrite, deployment: Deployment) -> Answer:
    """The route as it will be once the deployment is approved; nothing of it is served yet."""
    route = masked(orjson.loads(staged.document))
    return Answer(route | {"configChangeApplied": False, "deploymentId": deployment.deployment_id})


def removed(done: Changed, *, dry_run: bool) -> Answer:
    return Answer({"dryRun": True, **done.plan.answer()}) if dry_run else Answer(status=204)
