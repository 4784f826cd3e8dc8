"""The last spans of the control process, for whoever looks without a collector."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import format_span_id

TRACES = 256
SPANS = 1024  # of all of them


class KeptSpans:
    """``keep`` may be called by any thread."""

    def __init__(self, traces: int = TRACES, spans: int = SPANS) -> None:
        self._traces, self._most = traces, spans
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, list[ReadableSpan]] = OrderedDict()
        self._count = 0

    def keep(self, span: ReadableSpan) -> None:
        """The oldest traces make room for it."""
        context = span.get_span_context()
        if context is None:
            return
        with self._lock:
            self._kept.setdefault(context.trace_id, []).append(span)
            self._count += 1
            while len(self._kept) > self._traces or self._count > self._most:
                _, gone = self._kept.popitem(last=False)
                self._count -= len(gone)

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """Those of one trace, as the API shows them."""
        with self._lock:
            found = list(self._kept.get(int(trace_id, 16), ()))
        return [shown(span) for span in found]


def shown(span: ReadableSpan) -> dict[str, Any]:
    """As ``rust/src/journal/kept.rs`` shows those of requests."""
    context = span.get_span_context()
    start, end = span.start_time or 0, span.end_time or 0
    failed = not span.status.is_ok and not span.status.is_unset
    return {
        "spanId": format_span_id(context.span_id if context is not None else 0),
        "parentSpanId": format_span_id(span.parent.span_id) if span.parent is not None else None,
        "name": span.name,
        "kind": span.kind.name,
        "startTime": _moment(start),
        "durationMs": (end - start) / 1e6,
        "status": "ERROR" if failed else "UNSET",
        "message": span.status.description,
        "attributes": dict(span.attributes or {}),
        "events": [
            {"name": event.name, "time": _moment(event.timestamp), "attributes": dict(event.attributes or {})}
            for event in span.events
        ],
    }


def _moment(unix_ns: int) -> str:
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06}Z"
