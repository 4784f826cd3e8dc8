"""Giving memory back: only when there is some, and without pretending that what is needed is garbage."""

from __future__ import annotations

from hotswap_proxy.control.memory import GROWTH, MemoryKeeper, heap_trimmer, resident_bytes


class Process:
    """A process of ``used`` bytes, of which the next trims free so many each."""

    def __init__(self, used: int) -> None:
        self.used = used
        self.freed: list[int] = []
        self.trims = 0

    def trim(self) -> None:
        self.trims += 1
        self.used -= self.freed.pop(0) if self.freed else 0


def test_it_acts_on_growth_only() -> None:
    process = Process(used=100 * GROWTH)
    keeper = MemoryKeeper(lambda: process.used, process.trim)
    keeper.check()
    process.trims = 0
    keeper.check()
    assert process.trims == 0
    process.used += 3 * GROWTH
    process.freed = [3 * GROWTH]
    keeper.check()
    assert process.trims == 1  # the first trim was enough: no collection
    process.used += 3 * GROWTH  # needed, not free
    keeper.check()
    assert process.trims == 3
    keeper.check()
    assert process.trims == 3  # it is the new normal


def test_free_pages_really_go_back() -> None:
    trim = heap_trimmer()
    blocks = [bytes(1000) for _ in range(40_000)]  # above pymalloc's 512 bytes: from the C heap
    keep = blocks[-1]
    full = resident_bytes()
    del blocks
    trim()
    assert full - resident_bytes() > 30_000_000
    assert len(keep) == 1000
