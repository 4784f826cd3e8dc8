"""Logging of the control process: the line of ``log`` by structlog, with the call it belongs to.

Whatever is logged while a call of the admin API is carried out, by whichever module, bears its trace id and
user. Workers have no such calls and do without structlog; ``docs/logs.md`` has the figures.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import sys
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from hotswap_proxy.observe import log


@contextlib.contextmanager
def _withheld(*names: str) -> Iterator[None]:
    """While optional modules are tried for, they are not to be had: they would cost memory for nothing."""
    absent = [name for name in names if name not in sys.modules]
    # None is what the import system takes for a module that does not exist.
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


if TYPE_CHECKING:
    import structlog
else:
    # 4 MB for tracebacks in colours; 0.7 MB for an interface that is deprecated
    with _withheld("rich", "greenlet"):
        structlog = importlib.import_module("structlog")

Event = MutableMapping[str, Any]


@dataclass(slots=True)
class _Call:
    """Not just its fields: tasks that a call begins inherit its context, and may outlive it by days."""

    trace_id: str
    user: str | None = None
    over: bool = False


@contextlib.contextmanager
def call(trace_id: str) -> Iterator[None]:
    """What is logged inside, also in tasks begun inside, belongs to this call."""
    made = _Call(trace_id)
    with structlog.contextvars.bound_contextvars(call=made):
        try:
            yield
        finally:
            made.over = True


def caller(user: str) -> None:
    """Who makes the call that is being carried out is known now."""
    found = structlog.contextvars.get_contextvars().get("call")
    if isinstance(found, _Call):
        found.user = user


def configure(level: str, node_id: str) -> None:
    """As ``log.configure``; loggers of the standard library, ours and others', are rendered by structlog."""

    def arrange(_logger: Any, _method: str, event: Event) -> Event:
        record: logging.LogRecord = event.pop("_record")
        message = event.pop("_message")
        for other in ("_from_structlog", "color_message"):
            event.pop(other, None)
        return log.line_of(record, message, node_id, event)

    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            _set_message_aside,
            structlog.stdlib.ExtraAdder(),
            structlog.contextvars.merge_contextvars,
            _unfold_call,
            structlog.processors.format_exc_info,
        ],
        processors=[arrange, structlog.processors.JSONRenderer(serializer=_json)],
    )
    log.configure(level, node_id, formatter)


def _set_message_aside(_logger: Any, _method: str, event: Event) -> Event:
    """What came by ``extra`` may be called ``event``."""
    event["_message"] = event.pop("event")
    return event


def _unfold_call(_logger: Any, _method: str, event: Event) -> Event:
    found = event.pop("call", None)
    if isinstance(found, _Call):
        if not found.over:
            event.setdefault("traceId", found.trace_id)
            if found.user is not None:
                event.setdefault("user", found.user)
    elif found is not None:
        event["call"] = found
    return event


def _json(line: Any, **_options: Any) -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except (TypeError, ValueError):  # a lone surrogate, a whole number of more than 64 bits
        return json.dumps(line, default=str)
