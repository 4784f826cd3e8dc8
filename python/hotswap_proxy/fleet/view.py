"""What a node shows of its fleet: the other nodes, and what is wrong with what they share."""

from __future__ import annotations

import time
from typing import Any, Protocol

from hotswap_proxy.timestamps import rfc3339

from .following import FollowLoop
from .heartbeat import Heartbeat
from .nodes import AWAY, Node
from .redis import Redis


class Serves(Protocol):
    """What is read of ``Configuration``."""

    @property
    def revision(self) -> int: ...
    @property
    def problem(self) -> str | None: ...
    @property
    def remembered(self) -> bool: ...


class FleetView:
    def __init__(
        self, node_id: str, configuration: Serves, loop: FollowLoop, heartbeat: Heartbeat, redis: Redis | None
    ) -> None:
        self._node_id = node_id
        self._configuration = configuration
        self._loop = loop
        self._heartbeat = heartbeat
        self._redis = redis

    @property
    def store_up(self) -> bool:
        return self._loop.store_up

    @property
    def redis_up(self) -> bool | None:
        """None without Redis."""
        return None if self._redis is None else self._redis.is_up

    @property
    def behind(self) -> bool:
        """Whether the store has a revision that this node does not serve, as far as it knows."""
        return self._configuration.revision != self._loop.newest or self._configuration.problem is not None

    def troubles(self) -> list[dict[str, Any]]:
        """What is wrong: reason (store, redis, configuration, nodeId) and since when, where that is known.
        Everybody may ask for it, so it says no more.
        """
        found: list[dict[str, Any]] = []
        if not self._loop.store_up:
            found.append({"reason": "store", "since": rfc3339(self._loop.store_since)})
        if self._redis is not None and not self._redis.is_up:
            found.append({"reason": "redis", "since": rfc3339(self._redis.since)})
        if self._configuration.problem is not None:
            found.append({"reason": "configuration", "since": None})
        if self._configuration.remembered:
            found.append({"reason": "lastKnownGood", "since": rfc3339(self._loop.store_since)})
        if self._heartbeat.rival is not None:
            found.append({"reason": "nodeId", "since": rfc3339(self._heartbeat.rival_since)})
        return found

    def own(self) -> dict[str, Any]:
        """What of this node concerns the fleet, for those who are logged in."""
        store = {"up": self._loop.store_up, "since": rfc3339(self._loop.store_since)}
        if self._loop.store_error:
            store["error"] = self._loop.store_error
        told: dict[str, Any] = {"store": store}
        if self._redis is not None:
            told["redis"] = {"up": self._redis.is_up, "since": rfc3339(self._redis.since)}
            if self._redis.error:
                told["redis"]["error"] = self._redis.error
        return {
            "revision": self._configuration.revision,
            "behind": self.behind,
            "lastSeen": rfc3339(time.time()),
            "degraded": self.troubles(),
            **told,
        }

    def others(self) -> list[dict[str, Any]]:
        """The other nodes, as the store last knew them."""
        stale = time.monotonic() - self._heartbeat.at > AWAY
        return [self._other(node, stale) for node in self._heartbeat.fleet if node.node_id != self._node_id]

    def _other(self, node: Node, stale: bool) -> dict[str, Any]:
        told = node.document
        status = "Away" if node.is_away else str(told.get("status", "Unknown"))
        return {
            "nodeId": node.node_id,
            "environment": node.environment,
            "version": told.get("version"),
            "status": "Unknown" if stale else status,
            "generation": told.get("generation"),
            "revision": node.revision,
            "behind": node.revision != self._loop.newest or bool(told.get("refused")),
            "lastSeen": rfc3339(node.seen_at),
            "startedAt": rfc3339(node.started_at),
            "lastConfigUpdate": told.get("lastConfigUpdate"),
        }
