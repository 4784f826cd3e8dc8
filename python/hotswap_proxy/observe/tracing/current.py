"""Spans of what the control process does, for those who do it: nothing at all while tracing is off.

Nobody here knows OpenTelemetry; ``spans`` does, and is only imported when tracing is on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Protocol

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

    def span(
        self, name: str, attributes: Mapping[str, Value]
    ) -> contextlib.AbstractContextManager[Span]: ...


class _Nothing:
    def note(self, name: str, value: Value) -> None: ...

    def rename(self, name: str) -> None: ...

    def fail(self, kind: str, message: str = "") -> None: ...


_NOTHING = _Nothing()
_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """From now on; one for the process."""
    global _tracer
    _tracer = tracer


@contextlib.contextmanager
def span(name: str, attributes: Mapping[str, Value] = NO_ATTRIBUTES) -> Iterator[Span]:
    """A part of what is under way: a child of the span around it. An exception that leaves it is noted."""
    if _tracer is None:
        yield _NOTHING
        return
    with _tracer.span(name, attributes) as found:
        yield found
