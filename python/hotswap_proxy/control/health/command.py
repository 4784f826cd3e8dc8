"""Custom checks: a command without a shell; it is well when the command exits with 0."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from .registry import Target
from .sockets import Done, not_begun

CONCURRENCY = 16  # processes at a time; the others wait their turn
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_OUTPUT = 200


class CommandProbes:
    """Runs them and calls ``done(target, success, reason)`` for each that ends."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, target: Target) -> None:
        task = asyncio.create_task(self._run(target))
        target.flight = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self, target: Target) -> None:
        target.flight.cancel()
        target.flight = None

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, target: Target) -> None:
        async with self._slots:
            target.started = asyncio.get_running_loop().time()
            success: bool | None
            try:
                success, reason = await run_command(target)
            except OSError as error:
                success, _ = not_begun(error.errno or 0)
                reason = f"the command cannot be run: {error.strerror or error}"
        target.flight = None
        self._done(target, success, reason)


async def run_command(target: Target) -> tuple[bool, str]:
    """(success, reason). Its output, if it fails, is the reason; the process group ends with the timeout."""
    process = await asyncio.create_subprocess_exec(
        *target.spec.command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(target),
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout is not None
    output = b""
    try:
        async with asyncio.timeout(target.spec.timeout):
            # Read to the end, for a command that meets a closed pipe fails; keep only the beginning.
            while data := await process.stdout.read(4096):
                output = (output + data)[:MAX_OUTPUT]
            code = await process.wait()
    except TimeoutError:
        return False, f"timed out after {target.spec.timeout:g} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started as well
            await process.wait()
    told = " ".join(output.decode(errors="replace").split())
    told = "".join(character for character in told if character.isprintable())
    if code == 0:
        return True, "exit status 0"
    how = f"exit status {code}" if code > 0 else f"killed by signal {-code}"
    return False, f"{how}: {told}" if told else how


def environment(target: Target) -> dict[str, str]:
    """Nothing of the node's own environment, where passwords may be."""
    host, _, port = target.authority.rpartition(":")
    return {
        "PATH": _PATH,
        "BACKEND_URL": target.address,
        "BACKEND_HOST": host.strip("[]"),
        "BACKEND_PORT": port,
    }
