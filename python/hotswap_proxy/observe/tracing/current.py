"""Spans of what the control process does, for those who do it: nothing at all while tracing is off.

Nobody here knows OpenTelemetry; ``spans`` does, and is only imported when tracing is on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hotswap_proxy.deploy.record import Deployment

Value = str | int | float | bool
NO_ATTRIBUTES: Mapping[str, Value] = {}


class Span(Protocol):
    """One that is under way."""

    def note(self, name: str, value: Value) -> None:
        """An attribute that is known only now."""

    def rename(self, name: str) -> None: ...

    def fail(self, kind: str, message: str = "") -> None:
        """It came to nothing; ``kind`` is ``error.type``."""


class Tracer(Protocol):
    """What :func:`use` installs."""

    def span(self, name: str, attributes: Mapping[str, Value]) -> contextlib.AbstractContextManager[Span]: ...

    def call(
        self, name: str, attributes: Mapping[str, Value], headers: Mapping[str, str]
    ) -> contextlib.AbstractContextManager[tuple[Span, str]]: ...

    def smoke_test(self, deployment_id: str) -> contextlib.AbstractContextManager[Span]: ...

    def deployment(self, before: Deployment | None, after: Deployment) -> None: ...


class _Nothing:
    def note(self, name: str, value: Value) -> None: ...

    def rename(self, name: str) -> None: ...

    def fail(self, kind: str, message: str = "") -> None: ...


NOTHING = _Nothing()
_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """From now on; one for the process."""
    global _tracer
    _tracer = tracer


@contextlib.contextmanager
def span(name: str, attributes: Mapping[str, Value] = NO_ATTRIBUTES) -> Iterator[Span]:
    """A part of what is under way: a child of the span around it. An exception that leaves it is noted."""
    if _tracer is None:
        yield NOTHING
        return
    with _tracer.span(name, attributes) as found:
        yield found


@contextlib.contextmanager
def call(
    name: str, attributes: Mapping[str, Value], headers: Mapping[str, str]
) -> Iterator[tuple[Span, str | None]]:
    """A call from outside, and its trace id; None: it has none. ``headers`` may have a ``traceparent``."""
    if _tracer is None:
        yield NOTHING, None
        return
    with _tracer.call(name, attributes, headers) as found:
        yield found


@contextlib.contextmanager
def smoke_test(deployment_id: str) -> Iterator[Span]:
    """A test of a deployment's candidate, in the deployment's trace."""
    if _tracer is None:
        yield NOTHING
        return
    with _tracer.smoke_test(deployment_id) as found:
        yield found


def trace_of(deployment_id: str) -> str | None:
    """The trace id of a deployment, the same at every node; None while tracing is off."""
    if _tracer is None:
        return None
    from hotswap_proxy.observe.tracing.place import Place

    return f"{Place.of('deployment', deployment_id).trace_id:032x}"


def deployment(before: Deployment | None, after: Deployment) -> None:
    """A deployment was moved on, and that is committed; ``before`` None: it is new."""
    if _tracer is not None:
        _tracer.deployment(before, after)
