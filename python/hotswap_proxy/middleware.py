"""What a middleware works with: ``Request``, ``Response`` and the type of the function itself.

A middleware is an async function of the operator's, named in the node's settings and used by routes:

    async def middleware(request: Request, call_next: CallNext) -> Response: ...

It gets the whole request and gives the whole answer. ``call_next(request)`` sends the request, or a changed
one, on and returns the answer, which is a 502, 503 or 504 when no backend gave one. It may be called once.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

__all__ = ["CallNext", "Headers", "Middleware", "Request", "Response"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 section 5.5
_TARGET = re.compile(r"[!-~]*")


class Headers:
    """Header fields in their order. Names are compared without case; a name may stand several times.

    Values are text in which each character is one byte (ISO 8859-1). What HTTP does not allow, such as
    a line break, raises ValueError.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Fields = ()) -> None:
        self._fields: list[tuple[str, str]] = []
        pairs = fields.items() if isinstance(fields, Headers | Mapping) else fields
        for name, value in pairs:
            self.add(name, value)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a name."""
        return next(iter(self.get_all(name)), default)

    def get_all(self, name: str) -> list[str]:
        """All values of a name, in order."""
        name = name.lower()
        return [value for key, value in self._fields if key.lower() == name]

    def add(self, name: str, value: str) -> None:
        """One more field."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ValueError(f"the value of {name} has a character that no header may have")
        self._fields.append((name, value.strip(" \t")))

    def items(self) -> list[tuple[str, str]]:
        """Names and values, in order."""
        return list(self._fields)

    def copy(self) -> Headers:
        """A copy to change."""
        copy = Headers()
        copy._fields = self.items()
        return copy

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        """In place of all fields of that name."""
        kept = [(key, old) for key, old in self._fields if key.lower() != name.lower()]
        self.add(name, value)
        self._fields = [*kept, self._fields[-1]]

    def __delitem__(self, name: str) -> None:
        """All fields of that name; it need not be there."""
        self._fields = [(key, value) for key, value in self._fields if key.lower() != name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self._fields])

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._fields == other._fields

    def __repr__(self) -> str:
        return f"Headers({[name for name, _ in self._fields]})"  # values may be secrets


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client, whole. ``replace`` makes a changed one.

    ``headers`` are those that go to the backend: none that belong to the connection (``Connection``,
    ``Transfer-Encoding``, ``Upgrade`` …) or that the gateway writes itself (``Content-Length``,
    ``X-Forwarded-Proto``, ``X-Request-ID`` …). Setting one of these has no effect.
    """

    method: str
    path: str
    """Normalised, still percent-encoded; it is what the route was matched with."""
    query: str
    """Without the question mark; empty when there is none."""
    headers: Headers
    body: bytes
    scheme: str
    """``http`` or ``https``: how the client came."""
    client_ip: str
    request_id: str
    route: str
    """The route's name."""
    identity: Mapping[str, Any] | None = None
    """Who the client is, on a route with authentication; None elsewhere."""
    state: dict[str, Any] = field(default_factory=dict)
    """For middlewares to tell each other; it stays with the request."""

    def replace(self, **changes: Any) -> Request:
        """A request that differs in some fields; the headers are copied, so each may be changed alone."""
        changes.setdefault("headers", self.headers.copy())
        return replace(self, **changes)

    def __post_init__(self) -> None:
        if not isinstance(self.headers, Headers):
            object.__setattr__(self, "headers", Headers(self.headers))
        if not isinstance(self.body, bytes):
            raise TypeError("the body of a request is bytes")
        if not _NAME.fullmatch(self.method):
            raise ValueError(f"{self.method!r} is not a method")
        star = self.path == "*" and self.method == "OPTIONS" and not self.query
        if not star and not (self.path.startswith("/") and _TARGET.fullmatch(self.path)):
            raise ValueError("the path of a request begins with / and is percent-encoded")
        if "?" in self.path or "#" in self.path or "#" in self.query or not _TARGET.fullmatch(self.query):
            raise ValueError("path and query are two fields, both percent-encoded")
        if self.identity is not None:
            object.__setattr__(self, "identity", MappingProxyType(dict(self.identity)))


class Response:
    """One answer, whole. The gateway itself writes ``Content-Length``, ``Via`` and the connection's fields.

    An answer to HEAD, and one with status 204 or 304, has no body: what is given as one is only measured.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int = 200, headers: Fields = (), body: bytes | str = b"") -> None:
        self.status = status
        self.headers = Headers(headers)
        self.body = body.encode() if isinstance(body, str) else body
        self.check()

    def check(self) -> None:
        """Raises ValueError or TypeError for what is no answer; asked once more before it is sent."""
        if not isinstance(self.headers, Headers):
            raise TypeError("the headers of a response are Headers")
        if not isinstance(self.body, bytes):
            raise TypeError("the body of a response is bytes")
        if type(self.status) is not int or not 200 <= self.status <= 999:
            raise ValueError(f"{self.status!r} is not the status of a final answer")


Fields = Headers | Mapping[str, str] | Iterable[tuple[str, str]]
CallNext = Callable[[Request], Awaitable[Response]]
Middleware = Callable[[Request, CallNext], Awaitable[Response]]
