"""The shape of the cases: bytes in, and what may come out. The tables are in ``cases``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

# The backend must see exactly what the client sent, but for the fields that the gateway adds.
SAME: Final = b"the same"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BAD: Final = frozenset({400})


def head(line: str = "GET / HTTP/1.1", *fields: str, host: str | None = "x") -> bytes:
    """A request head; ``Host: x`` unless told otherwise."""
    lines = [line, *([] if host is None else [f"Host: {host}"]), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


@dataclass(frozen=True)
class Request:
    """What one client sends on one connection, and what becomes of it."""

    id: str
    rule: str  # section of RFC 9112 unless it says otherwise
    send: bytes
    status: tuple[int | frozenset[int], ...]  # of the answers, in order
    seen: tuple[bytes, ...] = ()  # what the backend sees, in order; SAME for what was sent
    closes: bool = True  # the gateway closes after the last answer; else it takes another request
    own: bool = False  # `seen` names the gateway's own fields too, X-Request-ID aside
    contains: tuple[bytes, ...] = ()  # stands in what the client gets


def refused(id: str, rule: str, send: bytes, *status: int) -> Request:
    """Answered with one of ``status`` (400), closed, and not a byte reaches the backend."""
    return Request(id, rule, send, (frozenset(status or (400,)),))


def served(id: str, rule: str, send: bytes, *seen: bytes, **more: object) -> Request:
    """Answered with 200 by the backend, on a connection that goes on."""
    want = seen or (SAME,)
    fixed = {"status": (200,) * len(want), "seen": want, "closes": False} | more
    return Request(id, rule, send, **fixed)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Answer:
    """What a backend answers, and what the client gets of it."""

    id: str
    rule: str
    sends: tuple[bytes, ...]  # one packet each
    then: str = "keep"  # the backend's connection: keep, close, reset
    request: bytes = field(default_factory=head)
    status: int = 502
    fields: tuple[str, ...] | None = None  # all that the client gets, but for those the gateway adds
    body: bytes | None = None  # as it should be understood, None: whatever
    interim: tuple[int, ...] = ()
    whole: bool = True  # the client can tell that nothing is missing
    keeps: bool = True  # the client's connection goes on
    reused: bool | None = None  # the backend's connection serves the next request; None: whatever
    chunked: bool = False  # the client gets chunks


@dataclass(frozen=True)
class Life:
    """A conversation in steps; see ``test_life_cases`` for the verbs."""

    id: str
    rule: str
    steps: tuple[tuple[str, object], ...]
    settings: tuple[tuple[str, float], ...] = ()
