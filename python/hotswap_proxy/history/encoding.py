"""Histograms as they lie in the store: ``rust/src/state/rollup.rs`` writes them.

Of each bucket that is not empty the distance from the one before and the count, as LEB128 numbers (7 bits a
byte, low ones first, the highest bit: more follows). Some 30 bytes instead of 2,816.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hotswap_proxy.observe import histogram as hist


def encode(counts: Sequence[int]) -> bytes:
    """The counts of ``observe.histogram``, all buckets."""
    told = bytearray()
    following = 0
    for bucket, count in enumerate(counts):
        if count:
            for number in (bucket - following, count):
                while number >= 0x80:
                    told.append(number & 0x7F | 0x80)
                    number >>= 7
                told.append(number)
            following = bucket + 1
    return bytes(told)


def pairs(encoded: bytes) -> list[tuple[int, int]]:
    """(bucket, count), by bucket. What lies outside a histogram, in a damaged row, is left out."""
    found: list[tuple[int, int]] = []
    numbers = _numbers(encoded)
    following = 0
    for gap, count in zip(numbers[::2], numbers[1::2], strict=False):
        bucket = following + gap
        if bucket >= hist.SIZE:
            break
        found.append((bucket, count))
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


def quantile_bucket(encoded: Iterable[bytes], q: float) -> int | None:
    """The bucket of the value that a share ``q`` of all of them does not exceed; None without values."""
    merged: dict[int, int] = {}
    for one in encoded:
        for bucket, count in pairs(one):
            merged[bucket] = merged.get(bucket, 0) + count
    rank = q * sum(merged.values())
    if not rank:
        return None
    running = 0
    for bucket in sorted(merged):
        running += merged[bucket]
        if running >= rank:
            return bucket
    return max(merged)
