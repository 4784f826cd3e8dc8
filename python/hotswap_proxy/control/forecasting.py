"""Has a forecast calculated by a process of its own, one at a time.

It is seconds of pure calculation, which in a thread would take the interpreter away from health checks and
the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from hotswap_proxy.errors import RateLimited, Unavailable
from hotswap_proxy.settings import environment_without_secrets

if TYPE_CHECKING:
    from hotswap_proxy.model.simulation import SimulationRequest

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "hotswap_proxy.deploy.judge.forecast")
TIMEOUT = 60.0

_turn = asyncio.Lock()


async def forecast(request: SimulationRequest) -> bytes:
    """The SimulationAnswer as JSON. RateLimited while another is calculated, Unavailable after TIMEOUT."""
    if _turn.locked():
        raise RateLimited("another forecast is being calculated; ask again in a few seconds", 5)
    async with _turn:
        return await _calculate(request.model_dump_json(by_alias=True, exclude_none=True).encode())


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
