"""Nodes that apply a file take turns: working the same ten thousand routes out twice is wasted time.

Nothing depends on it. Without Redis, or when somebody takes too long, the store finds out who was faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .redis import Redis

LOCK = "apply"
HELD = 60.0  # seconds; longer than an apply takes
PATIENCE = 20.0
LOOK = 0.1


@asynccontextmanager
async def turn(redis: Redis, owner: str) -> AsyncIterator[None]:
    """Wait until no other node applies a file, for a while."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while True:
        async with redis.lock(LOCK, HELD, owner) as has:
            if has or not redis.is_up or loop.time() >= deadline:
                yield
                return
        await asyncio.sleep(LOOK)
