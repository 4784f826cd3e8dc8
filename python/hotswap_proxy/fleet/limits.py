"""Rate limits shared by the nodes of a fleet: each tells all others what it let through, all the time.

A node decides alone, on its own bucket, and counts each request it lets through once for every node of the
fleet, as if the others had let one through as well (``rust/src/policy/share.rs``). This module makes that
presumption end: it sends what was let through in numbered batches; a node that hears a batch charges it to
its own buckets and acknowledges it with its next message, behind which is all that it had let through
itself until then. A batch that all have acknowledged is settled: its requests count once. Batches that are
not acknowledged are sent again.

Nodes know each other by these messages, and by their heartbeats in the store. While one of them is not
heard of, or Redis is not, nothing is settled, and every node lives on its share: limit ÷ nodes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol

from .limitmessages import ENTRY, LEAVING, MOST_NODES, STANDING, USAGE, Message, unpack

log = logging.getLogger("hotswap_proxy.control")

Mode = Literal["alone", "sharing", "apart"]
CHANNEL = "limits"
TURN = 0.005  # seconds between messages while there is usage; longer in fleets of more than five
TURN_PER_NODE = 0.001
IDLE = 0.02  # seconds between looks for usage while there was none for a while
BUSY = 0.1  # how long a node counts as busy after the last
WORD = 0.2  # seconds after which a node that has nothing to say says that
SILENCE = 1.0  # seconds after which a node, or Redis, that is not heard of is away
AGAIN = 0.25  # seconds after which a batch is sent again
MOST_BATCHES = 64  # on the way; then usage waits in the tallies
MOST_KEPT = (
    2 * MOST_BATCHES
)  # by a node that is apart while others come and go; what is older is never settled
MOST_ENTRIES = 1000  # of a message


class Buckets(Protocol):
    """What is used of ``_core.Node``."""

    def set_limits_key(self, key: bytes) -> None: ...
    def set_fleet(self, nodes: int) -> None: ...
    def take_limit_usage(self, weight: int, *, most: int = 1000) -> bytes: ...
    def charge_limits(self, entries: bytes, *, at_least: bool = False) -> int: ...
    def settle_limits(self, entries: bytes, weight: int) -> int: ...
    def limit_standing(
        self, weight: int, pending: bytes, start: int = 0, *, most: int = 1000
    ) -> tuple[bytes, int | None]: ...


class Link(Protocol):
    """What is used of the connection to Redis."""

    is_up: bool

    def subscribe(self, channel: str, handler: Callable[[bytes], None]) -> None: ...
    async def publish(self, channel: str, data: bytes) -> bool: ...


@dataclass(slots=True)
class _Peer:
    heard: float
    seen: int  # the last of its batches that was charged
    acknowledged: int = 0  # the last of ours that it has charged


@dataclass(slots=True)
class _Batch:
    number: int
    entries: bytes
    weight: int  # what its requests were counted with
    sent: float | None = None


@dataclass(slots=True)
class Exchanged:
    """Messages with usage, since the start."""

    sent: int = 0
    received: int = 0
    refused: int = 0  # no messages of this version


@dataclass(slots=True)
class Exchange:
    """One node's side of the exchange, without a clock or a connection: ``hear`` what comes, take a ``turn``
    for what to send.

    ``known`` says how many nodes the store knows of. Times are monotonic seconds.
    """

    buckets: Buckets
    boot_id: bytes
    known: Callable[[], int] = lambda: 1
    mode: Mode = "alone"
    nodes: int = 1
    counts: Exchanged = field(default_factory=Exchanged)
    _peers: dict[bytes, _Peer] = field(default_factory=dict)
    _batches: deque[_Batch] = field(default_factory=deque)
    _number: int = 0  # of the last batch
    _echo: float = -SILENCE  # when a message of ours came back
    _spoke: float = -SILENCE
    _owed: bool = False  # acknowledgements
    _newcomers: list[bytes] = field(default_factory=list)
    _former: dict[bytes, int] = field(default_factory=dict)  # peers that fell silent: the last batch charged
    _deaf: float = -SILENCE  # when Redis was last not heard of
    busy_until: float = 0.0

    def hear(self, data: bytes, now: float) -> None:
        """Deal with a message, whoever it is from."""
        message = unpack(data)
        if message is None:
            self.counts.refused += 1
            return
        if message.sender == self.boot_id:
            self._echo = now
            return
        if message.kind == LEAVING:
            self._peers.pop(message.sender, None)
            return
        if message.kind == STANDING:
            if self.boot_id in message.seen:
                self.buckets.charge_limits(message.entries, at_least=True)
            return
        peer = self._peers.get(message.sender)
        if peer is None:
            if len(self._peers) >= MOST_NODES - 1:
                return
            peer = self._peers[message.sender] = _Peer(now, self._former.pop(message.sender, 0))
            self._newcomers.append(message.sender)
            for batch in self._batches:
                batch.sent = None  # it has not heard of them
        peer.heard = now
        peer.acknowledged = max(peer.acknowledged, message.seen.get(self.boot_id, 0))
        # What all others have charged will not come again.
        peer.seen = max(peer.seen, message.oldest - 1)
        if message.entries and message.number == peer.seen + 1:
            peer.seen = message.number
            self.buckets.charge_limits(message.entries)
            self.counts.received += 1
            self._owed = True
            self.busy_until = now + BUSY
        elif message.entries and message.number <= peer.seen:
            self._owed = True  # it has not heard so
        self._settle()

    def turn(self, now: float, is_up: bool) -> list[bytes]:
        """What to send now."""
        for boot in [boot for boot, peer in self._peers.items() if now - peer.heard > SILENCE]:
            self._former[boot] = self._peers.pop(boot).seen
        while len(self._former) > MOST_NODES:
            del self._former[next(iter(self._former))]
        self._count_nodes(now, is_up)
        self._settle()
        if not is_up:
            return []
        messages = [message for boot in self._newcomers for message in self._standing(boot)]
        self._newcomers.clear()
        # Behind an acknowledgement is all that was let through until now; else it has to wait.
        seen = self._seen() if self.mode == "alone" or self._take_all() else {}
        batches = [each for each in self._batches if each.sent is None or now - each.sent > AGAIN]
        if batches:
            self.busy_until = now + BUSY
        for batch in batches:
            batch.sent = now
            self.counts.sent += 1
            messages.append(self._message(batch.number, batch.entries, {}))
        if self._owed or batches or now - self._spoke > WORD:
            messages.append(self._message(self._number + 1, b"", seen))
            self._owed = not seen and bool(self._peers)
            self._spoke = now
        return messages

    def farewell(self) -> bytes:
        """The last message."""
        return Message(self.boot_id, LEAVING, self._number + 1, 0).pack()

    @property
    def interval(self) -> float:
        """Seconds to the next turn of a node that is busy."""
        return max(TURN, TURN_PER_NODE * self.nodes)

    def _count_nodes(self, now: float, is_up: bool) -> None:
        heard, known = 1 + len(self._peers), self.known()
        hears = is_up and now - self._echo <= SILENCE
        if not hears:
            self._deaf = now
        if now - self._deaf <= SILENCE and self.mode != "alone":
            known = max(known, self.nodes)  # others may not have had the time to say a word
        nodes = min(max(heard, known), MOST_NODES)
        if nodes != self.nodes:
            if self.mode != "alone":
                self._drain()  # with the weight that it was counted with
            self.nodes = nodes
            self.buckets.set_fleet(nodes)
        mode: Mode = "alone" if nodes == 1 else "sharing" if hears and heard >= known else "apart"
        if mode != self.mode:
            log.info("rate limits", extra={"mode": mode, "nodes": nodes, "heard": heard})
            self.mode = mode

    def _take_all(self) -> bool:
        """Make batches of what was let through; False if some is left."""
        while len(self._batches) < MOST_BATCHES:
            if self._take() < MOST_ENTRIES * ENTRY:
                return True
        return False

    def _drain(self) -> None:
        while self._take():
            pass

    def _take(self) -> int:
        entries = self.buckets.take_limit_usage(self.nodes, most=MOST_ENTRIES)
        if entries:
            self._number += 1
            self._batches.append(_Batch(self._number, entries, self.nodes))
            while len(self._batches) > MOST_KEPT:
                self._batches.popleft()
        return len(entries)

    def _settle(self) -> None:
        if self.mode == "apart":
            return
        while self._batches:
            batch = self._batches[0]
            if any(peer.acknowledged < batch.number for peer in self._peers.values()):
                return
            self._batches.popleft()
            self.buckets.settle_limits(batch.entries, batch.weight)

    def _seen(self) -> dict[bytes, int]:
        return {boot: peer.seen for boot, peer in self._peers.items()}

    def _message(self, number: int, entries: bytes, seen: dict[bytes, int]) -> bytes:
        oldest = self._batches[0].number if self._batches else self._number + 1
        return Message(self.boot_id, USAGE, number, oldest, seen, entries).pack()

    def _standing(self, newcomer: bytes) -> list[bytes]:
        """What a node that has come needs to know; from one of those that were there."""
        if newcomer not in self._peers or min({self.boot_id, *self._peers} - {newcomer}) != self.boot_id:
            return []
        messages: list[bytes] = []
        pending = b"".join(batch.entries for batch in self._batches)  # it will hear of these by themselves
        start: int | None = 0
        while start is not None:
            entries, start = self.buckets.limit_standing(self.nodes, pending, start, most=MOST_ENTRIES)
            if entries:
                messages.append(Message(self.boot_id, STANDING, 0, 0, {newcomer: 0}, entries).pack())
        return messages


class LimitExchange:
    """The exchange of a running node: its turns, on a connection.

    ``has_key``: whether the buckets are found as on the other nodes. Until then it says nothing.
    """

    def __init__(
        self, buckets: Buckets, link: Link, boot_id: str, known: Callable[[], int], has_key: bool = True
    ) -> None:
        self.exchange = Exchange(buckets, bytes.fromhex(boot_id), known)
        self.has_key = has_key
        self._buckets = buckets
        self._link = link
        self._heard = asyncio.Event()
        link.subscribe(CHANNEL, self._hear)

    def use_key(self, key: bytes) -> None:
        """Find buckets by this key, 16 bytes, which the fleet keeps in its store."""
        self._buckets.set_limits_key(key)
        self.has_key = True

    def _hear(self, data: bytes) -> None:
        self.exchange.hear(data, time.monotonic())
        if self.exchange._owed:
            self._heard.set()

    async def run(self) -> None:
        """Take turns, until cancelled."""
        exchange = self.exchange
        while True:
            now = time.monotonic()
            try:
                self._heard.clear()
                for message in exchange.turn(now, self._link.is_up and self.has_key):
                    await self._link.publish(CHANNEL, message)
            except Exception:
                log.exception("an exchange of rate limits failed; the next one comes")
            # Never sooner than this, however much is heard: messages are made of what comes in between.
            await asyncio.sleep(exchange.interval)
            if time.monotonic() > exchange.busy_until:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, IDLE - exchange.interval)):
                        await self._heard.wait()

    async def stop(self) -> None:
        """Say goodbye, so that the others need not wait for it."""
        if self._link.is_up:
            await self._link.publish(CHANNEL, self.exchange.farewell())
