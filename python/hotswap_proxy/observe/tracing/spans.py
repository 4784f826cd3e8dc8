"""Spans of the control process, made by the OpenTelemetry SDK: calls of the API, changes, deployments."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hotswap_proxy import __version__
from hotswap_proxy.errors import GatewayError
from hotswap_proxy.observe.tracing import rollouts
from hotswap_proxy.observe.tracing.current import Value
from hotswap_proxy.observe.tracing.place import Happening, Place

if TYPE_CHECKING:
    from hotswap_proxy.deploy.record import Deployment

SCOPE = "hotswap_proxy.control"
MAX_VALUE = 1024  # characters of an attribute

Ended = Callable[[ReadableSpan], None]
_derived: ContextVar[tuple[int, int] | None] = ContextVar("derived", default=None)


def _context(place: Place) -> SpanContext:
    return SpanContext(place.trace_id, place.span_id, is_remote=True, trace_flags=TraceFlags(1))


class _Ids(IdGenerator):
    """Random, but where a place is given."""

    def generate_span_id(self) -> int:
        derived = _derived.get()
        return derived[1] if derived is not None else random.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        derived = _derived.get()
        return derived[0] if derived is not None else random.getrandbits(128) or 1


class _HandOver(SpanProcessor):
    def __init__(self, ended: Sequence[Ended]) -> None:
        self._ended = ended

    def on_end(self, span: ReadableSpan) -> None:
        for ended in self._ended:
            ended(span)


class _Span:
    """See ``current.Span``."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def note(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, kind: str, message: str = "") -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, message[:MAX_VALUE] or None))


class SdkTracer:
    """``ended`` are given every span that has ended, in the thread that ended it."""

    def __init__(self, resource: Mapping[str, str], ended: Sequence[Ended]) -> None:
        provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON),  # there are few, and each is worth it
            resource=Resource(dict(resource)),
            shutdown_on_exit=False,
            id_generator=_Ids(),
            span_limits=SpanLimits(max_attribute_length=MAX_VALUE, max_events=128),
        )
        provider.add_span_processor(_HandOver(ended))
        self._tracer = provider.get_tracer(SCOPE, __version__)

    @contextlib.contextmanager
    def span(self, name: str, attributes: Mapping[str, Value]) -> Iterator[_Span]:
        with self._tracer.start_as_current_span(
            name, attributes=dict(attributes), record_exception=False, set_status_on_exception=False
        ) as found:
            span = _Span(found)
            try:
                yield span
            except Exception as error:
                # What others' exceptions say may be a secret; ours is what the caller is told.
                if isinstance(error, GatewayError):
                    span.fail(error.code, error.message)
                else:
                    span.fail(type(error).__name__)
                raise

    @contextlib.contextmanager
    def call(
        self, name: str, attributes: Mapping[str, Value], headers: Mapping[str, str]
    ) -> Iterator[tuple[_Span, str]]:
        """The span of a call from outside, and its trace id. A ``traceparent`` in ``headers`` is followed."""
        parent = TraceContextTextMapPropagator().extract(headers)
        with self._tracer.start_as_current_span(
            name,
            parent,
            SpanKind.SERVER,
            dict(attributes),
            record_exception=False,
            set_status_on_exception=False,
        ) as found:
            yield _Span(found), trace.format_trace_id(found.get_span_context().trace_id)

    @contextlib.contextmanager
    def within(self, place: Place, name: str, attributes: Mapping[str, Value]) -> Iterator[_Span]:
        """A span that is under way, as a part of what is (or will be) at ``place``."""
        around = trace.set_span_in_context(NonRecordingSpan(_context(place)))
        with self._tracer.start_as_current_span(
            name, around, attributes=dict(attributes), record_exception=False, set_status_on_exception=False
        ) as found:
            yield _Span(found)

    def tell(
        self,
        name: str,
        place: Place,
        times: tuple[int, int],
        attributes: Mapping[str, Value],
        *,
        parent: Place | None = None,
        happenings: Sequence[Happening] = (),
        failed: str | None = None,
    ) -> None:
        """A span that is over, at its place; nanoseconds since 1970. ``failed``: why it is an error."""
        around = trace.set_span_in_context(NonRecordingSpan(_context(parent))) if parent else Context()
        token = _derived.set(place)
        try:
            span = self._tracer.start_span(name, around, attributes=dict(attributes), start_time=times[0])
        finally:
            _derived.reset(token)
        for happening in happenings:
            span.add_event(happening.name, dict(happening.attributes), happening.at)
        if failed is not None:
            span.set_status(Status(StatusCode.ERROR, failed[:MAX_VALUE]))
        span.end(max(times))

    def smoke_test(self, deployment_id: str) -> contextlib.AbstractContextManager[_Span]:
        place = Place.of("deployment", deployment_id)
        return self.within(place, "config.health.check", {"hotswap.deployment.id": deployment_id})

    def deployment(self, before: Deployment | None, after: Deployment) -> None:
        rollouts.tell(self, before, after)

    @staticmethod
    def link(place: Place) -> None:
        """The span under way began what is at ``place``, or moved it on."""
        span = trace.get_current_span()
        if span.is_recording():
            span.add_link(_context(place))
