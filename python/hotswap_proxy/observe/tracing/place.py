"""Where spans are that no single process sees from their beginning to their end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from hotswap_proxy.observe.tracing.current import Value


class Place(NamedTuple):
    """Where a span is, or will be: ids that follow from what it is about, so that whichever node tells of a
    part of it, without having seen the others, tells it in the same place.
    """

    trace_id: int
    span_id: int

    @classmethod
    def of(cls, kind: str, identifier: str) -> Place:
        digest = hashlib.blake2b(f"{kind} {identifier}".encode(), digest_size=24).digest()
        return cls(int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:]) or 1)


class Happening(NamedTuple):
    """A moment in a span; nanoseconds since 1970."""

    name: str
    at: int
    attributes: Mapping[str, Value]
