"""What nodes of a fleet say to each other about rate limits, in bytes.

A message is a head, acknowledgements and entries, little-endian. The head: ``HSL`` and a version (4 bytes),
the sender's boot id (8), what it is (1), how many acknowledgements (2), number of its batch (8), number of
the sender's oldest batch that is not acknowledged by all (8). An acknowledgement: another node's boot id
(8), the number of the last of its batches that was charged (8). Entries are the core's
(``_core.Node.take_limit_usage``), 32 bytes each, to the end.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

USAGE, STANDING, LEAVING = 0, 1, 2
_MARK = b"HSL\x01"
_HEAD = struct.Struct("<4s8sBHQQ")
_ACK = struct.Struct("<8sQ")
ENTRY = 32
MOST_NODES = 256  # acknowledgements of a message
LARGEST = 64 * 1024  # bytes of a message: 1,000 entries and some more of a last set, all acknowledgements


@dataclass(frozen=True, slots=True)
class Message:
    """``number``: of the batch in ``entries``; without entries, of the next. In a STANDING message the only
    acknowledgement names the node it is for.
    """

    sender: bytes
    kind: int
    number: int
    oldest: int
    seen: dict[bytes, int] = field(default_factory=dict)
    entries: bytes = b""

    def pack(self) -> bytes:
        head = _HEAD.pack(_MARK, self.sender, self.kind, len(self.seen), self.number, self.oldest)
        return head + b"".join(_ACK.pack(*item) for item in self.seen.items()) + self.entries


def unpack(data: bytes) -> Message | None:
    """None for what is no message of this version."""
    if not _HEAD.size <= len(data) <= LARGEST:
        return None
    mark, sender, kind, acks, number, oldest = _HEAD.unpack_from(data)
    end = _HEAD.size + acks * _ACK.size
    if mark != _MARK or kind > LEAVING or acks > MOST_NODES or end > len(data) or (len(data) - end) % ENTRY:
        return None
    seen = dict(_ACK.iter_unpack(data[_HEAD.size : end]))
    return Message(sender, kind, number, oldest, seen, data[end:])
