"""The control process's side of an apply: one process for each, which does the heavy part (``applier``)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from hotswap_proxy import errors
from hotswap_proxy.errors import Detail, GatewayError, OutcomeUnknown, Unavailable
from hotswap_proxy.settings import Settings, environment_without_secrets
from hotswap_proxy.store import Outdated

from . import channel
from .apply import Applied, Job, Prepared, Problems

log = logging.getLogger("hotswap_proxy.control")

# -P: `-m` would look for our modules in the current directory first.
COMMAND = (sys.executable, "-P", "-m", "hotswap_proxy.control.applier")
# A file system that hangs must not keep other changes waiting for ever. Names alone may take 30 seconds.
PREPARE_SECONDS = 120.0


class Applier:
    """Makes processes that apply files to the store of a node with these settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def work(self, job: Job) -> AsyncIterator[RemoteWork]:
        """A process for this job; it is gone when the context is left."""
        try:
            work = RemoteWork(job, self._settings)
        except OSError as error:  # no memory, no process, no descriptor left
            raise Unavailable(f"no process can be started to apply this: {error}") from error
        try:
            yield work
        finally:
            await work.close()


class RemoteWork:
    """A ``Work`` whose heavy part is done by a process of its own."""

    def __init__(self, job: Job, settings: Settings) -> None:
        self._job = job
        self._settings = settings
        self._decoder = channel.Decoder()
        self._committing = False
        self._socket, theirs = socket.socketpair()
        self._result = -1
        document = -1
        try:
            self._result = os.memfd_create("result")
            document = os.memfd_create("document")
            if not isinstance(job.document, Path):
                _write(document, job.document)
            fds = (theirs.fileno(), document, self._result)
            self._process = subprocess.Popen(  # noqa: S603  our own module
                [*COMMAND, *map(str, fds)],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                env=environment_without_secrets(),
            )
        except BaseException:
            self._socket.close()
            if self._result >= 0:
                os.close(self._result)
            raise
        finally:
            theirs.close()
            if document >= 0:
                os.close(document)
        self._socket.setblocking(False)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def prepare(self) -> Prepared | None:
        job = self._job
        order = {
            "settings": self._settings.worker_json().decode(),
            "databaseUrl": self._settings.database_url,  # a secret: not for its environment
            "path": str(job.document) if isinstance(job.document, Path) else None,
            "prune": job.prune,
            "dryRun": job.dry_run,
            "author": list(job.author),
            "basedOn": job.based_on,
        }
        try:
            async with asyncio.timeout(PREPARE_SECONDS):
                answer, parts = await self._ask(order)
        except TimeoutError:
            raise Unavailable(
                f"not prepared within {PREPARE_SECONDS:.0f} seconds; nothing was changed"
            ) from None
        return (
            Prepared(parts[0], orjson.loads(parts[1]), orjson.loads(parts[2]))
            if "prepared" in answer
            else None
        )

    async def refusal(self, problems: Problems) -> GatewayError:
        try:
            await self._ask({"problems": problems})
        except GatewayError as error:
            return error
        raise AssertionError("the applier went on with what the compiler had refused")

    async def finish(self) -> Applied:
        self._committing = not self._job.dry_run
        answer, parts = await self._ask({"go": True})
        added, changed, removed, unchanged = answer["applied"]
        return Applied(added, changed, removed, unchanged, parts[0], answer["revision"])

    async def close(self) -> None:
        """End the process, if it has not, but let it finish what it was told to commit."""
        self._socket.close()
        os.close(self._result)
        if not self._committing:
            self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def _ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._socket, channel.frame(message))
            answers: list[dict[str, Any]] = []
            while not answers:
                data = await loop.sock_recv(self._socket, 65536)
                if not data:
                    raise ConnectionResetError
                answers = self._decoder.feed(data)
        except ConnectionError:
            raise await self._lost() from None
        parts, offset = [], 0
        for size in answers[0]["sizes"]:
            parts.append(os.pread(self._result, size, offset))
            offset += size
        if "outdated" in answers[0]:
            self._committing = False
            raise Outdated
        if "failed" in answers[0]:
            self._committing = False
            raise _error(parts[0])
        return answers[0], parts

    async def _lost(self) -> Unavailable:
        status = await asyncio.to_thread(self._process.wait)
        log.error("the process of an apply ended unexpectedly", extra={"pid": self.pid, "status": status})
        reason = f"signal {-status}" if status < 0 else f"exit code {status}"
        how = f"the process that applied this ended unexpectedly ({reason})"
        if not self._committing:
            return Unavailable(f"{how}; nothing was changed")
        return OutcomeUnknown(
            f"{how} while it was committing; what the store has now is live: look before trying again"
        )


def _write(fd: int, data: bytes | bytearray) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    rest.release()


def _error(data: bytes) -> GatewayError:
    told = orjson.loads(data)
    kind: type[GatewayError] = getattr(errors, told["kind"])
    return kind(told["message"], [Detail(*detail) for detail in told["details"]])
