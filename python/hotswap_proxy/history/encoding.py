"""Histograms as they lie in the store: ``rust/src/state/rollup.rs`` writes them.

Of each bucket that is not empty one number: four times the count and the empty buckets before it; for three
and more of those 3, and the others in a number of their own. Numbers are LEB128: 7 bits a byte, the low ones
first, the highest bit says that more follow. Some 50 bytes for 100 requests, instead of 2,816.
"""

from __future__ import annotations

from collections.abc import Sequence

from hotswap_proxy.observe import histogram as hist


def encode(counts: Sequence[int]) -> bytes:
    """The counts of ``observe.histogram``, all buckets."""
    told = bytearray()
    following = 0
    for bucket, count in enumerate(counts):
        if count:
            gap = bucket - following
            _append(told, count << 2 | min(gap, 3))
            if gap >= 3:
                _append(told, gap - 3)
            following = bucket + 1
    return bytes(told)


def _append(told: bytearray, number: int) -> None:
    while number >= 0x80:
        told.append(number & 0x7F | 0x80)
        number >>= 7
    told.append(number)


def pairs(encoded: bytes) -> list[tuple[int, int]]:
    """(bucket, count), by bucket. What lies outside a histogram, in a damaged row, is left out."""
    found: list[tuple[int, int]] = []
    numbers = iter(_numbers(encoded))
    following = 0
    for first in numbers:
        gap = first & 3
        bucket = following + (gap if gap < 3 else 3 + next(numbers, hist.SIZE))
        if bucket >= hist.SIZE:
            break
        found.append((bucket, first >> 2))
        following = bucket + 1
    return found


def _numbers(encoded: bytes) -> list[int]:
    numbers: list[int] = []
    value = shift = 0
    for byte in encoded:
        if byte < 0x80:
            numbers.append(value | byte << shift)
            value = shift = 0
        else:
            value |= (byte & 0x7F) << shift
            shift += 7
    return numbers


def add(counts: list[int], encoded: bytes) -> None:
    """Add one to the counts of all buckets."""
    for bucket, count in pairs(encoded):
        counts[bucket] += count


def quantile_bucket(encoded: Sequence[bytes], q: float) -> int | None:
    """The bucket of the value that a share ``q`` of all of them does not exceed; None without values."""
    if len(encoded) == 1:  # most are: no need to merge
        found = pairs(encoded[0])
    else:
        merged: dict[int, int] = {}
        for one in encoded:
            for bucket, count in pairs(one):
                merged[bucket] = merged.get(bucket, 0) + count
        found = sorted(merged.items())
    rank = q * sum([count for _, count in found])
    running = 0
    for bucket, count in found:
        running += count
        if running >= rank:
            return bucket
    return None
