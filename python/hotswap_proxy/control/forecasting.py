"""Has a forecast calculated by a process of its own, one at a time.

It is seconds of pure calculation, which in a thread would take the interpreter away from health checks and
the engine. The same question has the same answer (its seed is part of it), so a fleet calculates it once:
Redis, where there is one, keeps it for some minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError

from hotswap_proxy import __version__
from hotswap_proxy.errors import RateLimited, Unavailable
from hotswap_proxy.settings import environment_without_secrets

if TYPE_CHECKING:
    from hotswap_proxy.fleet.redis import Redis
    from hotswap_proxy.model.simulation import SimulationRequest

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "hotswap_proxy.deploy.judge.forecast")
TIMEOUT = 60.0
KEPT = 300.0  # seconds

_turn = asyncio.Lock()


async def forecast(request: SimulationRequest, cache: Redis | None = None) -> bytes:
    """The SimulationAnswer as JSON. RateLimited while another is calculated, Unavailable after TIMEOUT."""
    question = request.model_dump_json(by_alias=True, exclude_none=True).encode()
    name = f"forecast:{__version__}:{hashlib.sha256(question).hexdigest()}"
    if cache is not None and (known := await cache.get(name)) is not None and _is_answer(known):
        return known
    if _turn.locked():
        raise RateLimited("another forecast is being calculated; ask again in a few seconds", 5)
    async with _turn:
        answer = await _calculate(question)
    if cache is not None:
        await cache.put(name, answer, KEPT)
    return answer


def _is_answer(text: bytes) -> bool:
    """What comes from Redis is only believed to be a forecast if it looks like one."""
    from hotswap_proxy.model.simulation import SimulationAnswer

    try:
        SimulationAnswer.model_validate_json(text)
    except ValidationError:
        return False
    return True


async def _calculate(question: bytes) -> bytes:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, env=environment_without_secrets()
        )
    except OSError as error:
        raise Unavailable(f"no process for the forecast: {error.strerror}") from error
    try:
        async with asyncio.timeout(TIMEOUT):
            answer, problems = await process.communicate(question)
    except TimeoutError:
        raise Unavailable(f"the forecast takes more than {TIMEOUT:g} s; ask for fewer runs") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        log.error("the forecast failed: %s", problems.decode(errors="replace")[-2000:])
        raise Unavailable("the forecast failed; the log says why")
    return answer
