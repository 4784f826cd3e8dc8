"""Logging: one JSON object per line on standard error, from every process of a node alike.

What a line is, is said here: its head (``HEAD``), then what came with the message. The slim processes
(workers) write it with the standard library alone; the control process with structlog (``structured``).
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from hotswap_proxy.observe.secrets import hide
from hotswap_proxy.timestamps import rfc3339

# What every LogRecord has; anything else came in by ``extra`` and belongs in the line.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
HEAD = ("time", "level", "logger", "event", "pid", "nodeId")  # of each line, in this order
# Their info lines are about every request and every migration step.
_NOISY = ("httpx", "httpcore", "alembic", "sqlalchemy", "aiosqlite", "uvicorn.access", "uvicorn.error")


def line_of(record: logging.LogRecord, message: str, node_id: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """The line of a record: its head, then ``more``, without secrets. A field that is called like one of the
    head stays, with an underscore behind its name.
    """
    line: dict[str, Any] = {
        "time": rfc3339(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": hide(message),
        "pid": os.getpid(),  # not record.process: that one is cached across forks
        "nodeId": node_id,
    }
    for name, value in more.items():
        line[f"{name}_" if name in HEAD else name] = hide(value, name)
    return line


class JsonFormatter(logging.Formatter):
    """A record as one line."""

    def __init__(self, node_id: str) -> None:
        super().__init__()
        self._node_id = node_id

    def format(self, record: logging.LogRecord) -> str:
        more = {name: value for name, value in vars(record).items() if name not in STANDARD}
        if record.exc_info:
            more["exception"] = self.formatException(record.exc_info)
        line = line_of(record, record.getMessage(), self._node_id, more)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(level: str, node_id: str, formatter: logging.Formatter | None = None) -> None:
    """Send every logger's records of ``level`` and above to standard error, replacing earlier handlers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter or JsonFormatter(node_id))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
