"""What workers tell of single requests: which of it is wanted, and the memory it goes through.

A worker writes one record per request into a ring in shared memory, where an access log or tracing is
wanted; the control process drains the rings (``_core.Journal.drain``) in a thread of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from hotswap_proxy import _core
    from hotswap_proxy.settings import Settings


class Wanted(TypedDict):
    """Members of a worker's core settings. Shares are from 0 to 1."""

    accessLog: bool
    accessLogSample: float  # of uneventful requests: status below 400 and no response flag
    tracing: bool
    traceSample: float  # of the traces that begin here
    traceForcedLimit: int  # traces a second and worker that callers may have recorded by their flag


def wanted(settings: Settings) -> Wanted:
    """What the core of a worker is to tell."""
    return {
        "accessLog": settings.logs_requests,
        "accessLogSample": settings.access_log_sample,
        "tracing": settings.traces,
        "traceSample": settings.trace_sample,
        "traceForcedLimit": settings.trace_forced_limit,
    }


def is_wanted(settings: Settings) -> bool:
    """Whether anybody will read a journal."""
    members = wanted(settings)
    return members["accessLog"] or members["tracing"]


def open_journal(settings: Settings, lanes: int) -> _core.Journal | None:
    """The journal of a node, for all lanes of its workers; None where nobody wants one."""
    if not is_wanted(settings):
        return None
    from hotswap_proxy import _core

    return _core.Journal(lanes, redact=settings.access_log_redact)
