"""Gives spans to a collector: OTLP over HTTP, from a thread of its own.

What a collector does, or does not, costs the node nothing but spans: they wait in a queue with a bound, and
what does not fit, or cannot be delivered, is dropped and counted.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hotswap_proxy.observe.tracing.sending import Sender, Sent

log = logging.getLogger("hotswap_proxy.control")

BATCH_SECONDS = 1.0  # longest that a span waits for others
BATCH_BYTES = 512 * 1024  # some 512 requests
QUEUE_BYTES = 4 * 1024 * 1024  # the node has little memory to spare for a collector that is away
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # between attempts; doubled each time, and jittered
GIVE_UP = 30.0  # seconds after its first attempt a batch is dropped
LONGEST_ASKED = 30.0  # of Retry-After
FAREWELL = 3.0  # seconds at the end for what is left

# From the spans (the field `spans` of ScopeSpans, again and again) to a request's body, and their number.
Wrap = Callable[[bytes], tuple[bytes, int]]
Encode = Callable[[], tuple[bytes, int]]


class Batch(NamedTuple):
    """The body of one request, compressed."""

    body: bytes
    spans: int


@dataclass(slots=True)
class Counts:
    """Of spans, since the node started."""

    exported: int = 0
    dropped: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("queue_full", "refused", "undelivered"), 0)
    )


class Exporter:
    """``offer`` and ``offer_encoded`` may be called by any thread; they return at once."""

    def __init__(
        self,
        sender: Sender,
        wrap: Wrap,
        *,
        batch_seconds: float = BATCH_SECONDS,
        first_pause: float = FIRST_PAUSE,
        give_up: float = GIVE_UP,
        queue_bytes: int = QUEUE_BYTES,
        farewell: float = FAREWELL,
    ) -> None:
        self._sender = sender
        self._wrap = wrap
        self._batch_seconds, self._first_pause = batch_seconds, first_pause
        self._give_up, self._queue_bytes, self._farewell = give_up, queue_bytes, farewell
        self._lock = threading.Condition()
        self._loose: list[bytearray] = []  # spans that wait for others
        self._waiting = 0  # bytes of them
        self._due = 0.0  # when they go, at the latest
        self._encoders: list[Encode] = []
        self._queue: deque[Batch] = deque()
        self._queued = 0  # bytes
        self._under_way = 0  # spans of the batch that is being delivered
        self._deadline: float | None = None  # of the end
        self._well, self._whole = True, True
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self.counts = Counts()

    @property
    def collector(self) -> str:
        """Where it is, for a log line."""
        return self._sender.name

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Send what is left, for a moment; the rest is dropped."""
        with self._lock:
            self._deadline = time.monotonic() + self._farewell
            self._lock.notify()
        await asyncio.to_thread(self._thread.join, self._farewell + 0.5)
        with self._lock:
            left = self._under_way + sum(batch.spans for batch in tuple(self._queue))
            left += sum(self._wrap(bytes(spans))[1] for spans in self._loose) + len(self._encoders)
        if left:  # or an attempt hangs, which ends with the process
            self.counts.dropped["undelivered"] += left
            log.warning("the last traces were not exported", extra={"spans": left})

    def offer(self, spans: bytes) -> None:
        """Spans as the core encodes them; they go with others."""
        with self._lock:
            if self._waiting + len(spans) > self._queue_bytes:
                self.counts.dropped["queue_full"] += self._wrap(spans)[1]
                return
            if not self._loose:
                self._due = time.monotonic() + self._batch_seconds
            if not self._loose or len(self._loose[-1]) + len(spans) > BATCH_BYTES:
                self._loose.append(bytearray())
            self._loose[-1] += spans
            self._waiting += len(spans)
            self._lock.notify()

    def offer_encoded(self, encode: Encode) -> None:
        """A body of its own with the number of its spans; encoded in the exporter's thread."""
        with self._lock:
            if len(self._encoders) >= 1000:
                self.counts.dropped["queue_full"] += 1
                return
            self._encoders.append(encode)
            self._lock.notify()

    # --- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                if not self._turn():
                    break
            except Exception:
                log.exception("traces cannot be exported")
                time.sleep(self._first_pause)
        self._sender.close()

    def _turn(self) -> bool:
        """Wait for a batch and deliver it; False at the end."""
        with self._lock:
            while not self._ready():
                if self._deadline is not None:
                    return False
                self._lock.wait(self._due - time.monotonic() if self._loose else None)
            found = self._take()
        self._enqueue(found)
        while self._queue and not self._ended():
            self._deliver()
        return not self._ended()

    def _ready(self) -> bool:
        return bool(self._queue or self._encoders) or self._loose_is_due()

    def _loose_is_due(self) -> bool:
        if not self._loose:
            return False
        return len(self._loose) > 1 or self._deadline is not None or time.monotonic() >= self._due

    def _take(self) -> list[Encode]:
        """What is to become batches now; with the lock."""
        found, self._encoders = self._encoders, []
        if self._loose_is_due():
            found += [partial(self._wrap, bytes(spans)) for spans in self._loose]
            self._loose, self._waiting = [], 0
        return found

    def _ended(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _enqueue(self, found: list[Encode]) -> None:
        for encode in found:
            try:
                body, spans = encode()
            except Exception:  # one that cannot be encoded must not take the others with it
                log.exception("a span cannot be encoded")
                self.counts.dropped["undelivered"] += 1
                continue
            batch = Batch(gzip.compress(body, 1), spans)
            self._queue.append(batch)
            self._queued += len(batch.body)
        while self._queued > self._queue_bytes:
            oldest = self._queue.popleft()
            self._queued -= len(oldest.body)
            self.counts.dropped["queue_full"] += oldest.spans

    def _deliver(self) -> None:
        """The oldest batch, until it is delivered or given up."""
        batch = self._queue.popleft()
        self._queued -= len(batch.body)
        self._under_way = batch.spans
        try:
            self._attempt(batch)
        finally:
            self._under_way = 0

    def _attempt(self, batch: Batch) -> None:
        begun, pause = time.monotonic(), self._first_pause
        while True:
            remaining = None if self._deadline is None else max(0.1, self._deadline - time.monotonic())
            sent = self._sender.send(batch.body, remaining)
            self._note(sent)
            if sent.delivered:
                self.counts.exported += batch.spans - min(sent.rejected, batch.spans)
                self.counts.dropped["refused"] += min(sent.rejected, batch.spans)
                return
            if not sent.retry:
                self.counts.dropped["refused"] += batch.spans
                return
            # Jittered: the nodes of a fleet lose their collector together, and must not come back together.
            wait = sent.retry_after if sent.retry_after is not None else pause * random.uniform(0.5, 1.5)  # noqa: S311
            pause = min(2 * pause, LONGEST_PAUSE)
            if time.monotonic() + wait - begun > self._give_up or not self._pause(min(wait, LONGEST_ASKED)):
                self.counts.dropped["undelivered"] += batch.spans
                return

    def _pause(self, seconds: float) -> bool:
        """Wait, and meanwhile make batches of what comes; False: there is no time left."""
        until = time.monotonic() + seconds
        while True:
            with self._lock:
                now = time.monotonic()
                end = until if self._deadline is None else min(until, self._deadline)
                if now >= end:
                    return self._deadline is None or now < self._deadline
                if not self._loose_is_due():
                    self._lock.wait(min(end - now, self._batch_seconds))
                found = self._take()
            self._enqueue(found)

    def _note(self, sent: Sent) -> None:
        """One line when it begins to fail, one when it is well again."""
        if sent.delivered != self._well:
            self._well = sent.delivered
            if sent.delivered:
                log.warning("traces are exported again", extra={"collector": self._sender.name})
            else:
                log.error(
                    "traces cannot be exported",
                    extra={"collector": self._sender.name, "reason": sent.reason},
                )
        whole = not (sent.delivered and (sent.rejected or sent.reason))
        if sent.delivered and whole != self._whole:
            self._whole = whole
            if not whole:
                log.warning(
                    "the collector refuses some spans",
                    extra={"collector": self._sender.name, "reason": sent.reason, "spans": sent.rejected},
                )


def resource_of(
    service_name: str, node_id: str, environment: str, version: str, extra: Mapping[str, str]
) -> dict[str, str]:
    """What is said once for all spans of a node. The operator's own attributes win but for the name."""
    own = {
        "service.version": version,
        "service.instance.id": node_id,
        "deployment.environment.name": environment,
    }
    return own | dict(extra) | {"service.name": service_name}
