"""Answers that are sent as they are made, in a thread: the event loop has other things to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from .routing import Answer

# One for all: each would leave its garbage in an arena of its own, and two scrapes take turns by the piece.
_THREAD = ThreadPoolExecutor(1, "stream")


async def streamed(answer: Answer, pieces: Iterator[bytes]) -> StreamingResponse:
    """``pieces`` are made as fast as the client reads. The first one is made before: what fails at once is an
    error answer.
    """
    loop = asyncio.get_running_loop()

    async def rest(first: bytes) -> AsyncIterator[bytes]:
        piece = first
        while piece:
            yield piece
            piece = await loop.run_in_executor(_THREAD, next, pieces, b"")

    first = await loop.run_in_executor(_THREAD, next, pieces, b"")
    return StreamingResponse(rest(first), answer.status, answer.headers, answer.media_type)
