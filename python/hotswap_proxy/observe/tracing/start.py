"""Tracing of a node: what is made when it is on, and how it ends."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from hotswap_proxy import __version__, _core, otlpsettings
from hotswap_proxy.observe.exposition import family
from hotswap_proxy.observe.tracing import current
from hotswap_proxy.observe.tracing.exporting import Counts, Exporter, resource_of
from hotswap_proxy.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from hotswap_proxy.observe.tracing.kept import KeptSpans
    from hotswap_proxy.observe.tracing.spans import SdkTracer

log = logging.getLogger("hotswap_proxy.control")


class KeptRequests(Protocol):
    """What is used of ``_core.Journal``: the last sampled requests, as JSON."""

    def export_spans(self, wanted: bool) -> None: ...

    def kept(
        self,
        limit: int,
        route_id: str | None = None,
        status: tuple[int, int] | None = None,
        min_duration_ms: float = 0.0,
    ) -> bytes: ...

    def kept_trace(self, trace_id: str) -> bytes: ...


class Tracing:
    """While it is on. ``spans`` is for who drains the journal."""

    def __init__(self, settings: Settings) -> None:
        # Here, not above: some megabytes, for those who trace.
        from hotswap_proxy.observe.tracing.kept import KeptSpans
        from hotswap_proxy.observe.tracing.spans import SdkTracer

        self.resource = _resource(settings)
        self.exporter = _exporter(settings, self.resource)
        self.requests: KeptRequests | None = None
        self.kept: KeptSpans = KeptSpans()
        self.tracer: SdkTracer = SdkTracer(self.resource, [self._ended])

    @property
    def counts(self) -> Counts:
        return self.exporter.counts if self.exporter is not None else Counts()

    def watch(self, journal: KeptRequests) -> None:
        """The journal of the node's requests."""
        self.requests = journal
        journal.export_spans(self.exporter is not None)

    def metrics(self) -> Iterator[str]:
        """What was counted, as text for Prometheus."""
        counts = self.counts
        text = "Spans given to the collector."
        yield from family("gateway_spans_exported_total", "counter", text, [({}, counts.exported)])
        text = "Spans that were not: no room, refused by the collector, or not delivered in time."
        dropped = [({"reason": reason}, count) for reason, count in counts.dropped.items()]
        yield from family("gateway_spans_dropped_total", "counter", text, dropped)

    def spans(self, spans: bytes) -> None:
        """Of sampled requests, encoded; in any thread."""
        if self.exporter is not None:
            self.exporter.offer(spans)

    def _ended(self, span: ReadableSpan) -> None:
        self.kept.keep(span)
        if self.exporter is not None:
            self.exporter.offer_encoded(lambda: _encoded(span))

    def listed(
        self, limit: int, route_id: str | None, status: tuple[int, int] | None, least_ms: float
    ) -> Any:
        """The last sampled requests, newest first."""
        if self.requests is None:
            return []
        return orjson.loads(self.requests.kept(limit, route_id, status, least_ms))

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """All spans of a trace that are still known, in the order of their beginning."""
        found = orjson.loads(self.requests.kept_trace(trace_id)) if self.requests is not None else []
        found += self.kept.spans(trace_id)
        return sorted(found, key=lambda span: str(span["startTime"]))


def start(stack: AsyncExitStack, settings: Settings) -> Tracing | None:
    """None while it is off. What is started ends with ``stack``, so before whatever still tells of spans."""
    if not settings.traces:
        return None
    tracing = Tracing(settings)
    current.use(tracing.tracer)
    stack.callback(current.use, None)
    if tracing.exporter is not None:
        tracing.exporter.start()
        stack.push_async_callback(tracing.exporter.stop)
        log.info("traces are exported", extra={"collector": tracing.exporter.collector})
    return tracing


def _resource(settings: Settings) -> dict[str, str]:
    extra: Mapping[str, str] = {}
    try:
        extra = otlpsettings.parse_attributes(os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    except ValueError as error:
        log.warning("OTEL_RESOURCE_ATTRIBUTES is ignored", extra={"reason": str(error)})
    return resource_of(settings.service_name, settings.node_id, settings.environment, __version__, extra)


def _exporter(settings: Settings, resource: Mapping[str, str]) -> Exporter | None:
    if settings.otlp_endpoint is None:
        return None
    from hotswap_proxy.observe.tracing.sending import HttpSender

    headers = otlpsettings.parse_headers(settings.otlp_headers or "")
    sender = HttpSender(otlpsettings.traces_url(settings.otlp_endpoint), headers)
    return Exporter(sender, _core.OtlpRequest(list(resource.items()), __version__))


def _encoded(span: ReadableSpan) -> tuple[bytes, int]:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    return encode_spans([span]).SerializeToString(), 1
