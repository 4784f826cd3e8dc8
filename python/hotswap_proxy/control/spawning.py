"""The control process's side of the spawner: start it, ask for workers, learn of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import subprocess
import sys
from typing import Any

from hotswap_proxy.control import channel
from hotswap_proxy.settings import environment_without_secrets

log = logging.getLogger("hotswap_proxy.control")


SPAWN_TIMEOUT = 20.0  # seconds for a fork; the first one waits for the spawner's imports
END_TIMEOUT = 2.0  # seconds between the end of file for the spawner and SIGKILL


class SpawnError(RuntimeError):
    """No worker could be made: the spawner is gone, or the system refused to fork."""


class Spawner:
    """A handle on the spawner process. One that dies is replaced when the next worker is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._decoder = channel.Decoder()
        self._watched = False
        self._ids = itertools.count(1)
        self._starting: dict[int, asyncio.Future[int]] = {}
        self._exits: dict[int, asyncio.Future[int | None]] = {}

    @property
    def pid(self) -> int | None:
        """The spawner's process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process; its imports then run beside ours. Needs no event loop yet."""
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own module
                # -P: `-m` would look for our modules in the current directory first.
                [sys.executable, "-P", "-m", "hotswap_proxy.control.spawner", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment_without_secrets(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours
        self._decoder = channel.Decoder()
        self._watched = False

    async def spawn(
        self, lane: int, settings: bytes, fds: tuple[int, ...], more: dict[str, int] | None = None
    ) -> int:
        """Fork a worker which gets duplicates of ``fds`` and of ``more``, by name (see the spawner); returns
        its process id.
        """
        if self._socket is None:
            self.start()
        sock = self._socket
        assert sock is not None
        loop = asyncio.get_running_loop()
        if not self._watched:
            loop.add_reader(sock, self._on_readable)
            self._watched = True
        number = next(self._ids)
        started: asyncio.Future[int] = loop.create_future()
        self._starting[number] = started
        try:
            more = more or {}
            message = {"spawn": number, "lane": lane, "settings": settings.decode(), "more": list(more)}
            channel.send(sock, message, (*fds, *more.values()))
            async with asyncio.timeout(SPAWN_TIMEOUT):
                return await started
        except TimeoutError:
            if self._socket is sock and self._process is not None:
                self._process.kill()  # its end makes room for a new one; its workers go on without it
            raise SpawnError(f"the spawner does not answer within {SPAWN_TIMEOUT:g} s") from None
        except OSError as error:
            raise SpawnError(f"the spawner does not answer: {error}") from error
        finally:
            self._starting.pop(number, None)

    async def exit_status(self, pid: int, within: float) -> int | None:
        """The exit status of a worker (negative: the signal that killed it); None when nobody can tell in
        time.
        """
        waiting = self._exits.get(pid)
        if waiting is None:
            return None
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), within)
        except TimeoutError:
            return None
        finally:
            if waiting.done():
                self._exits.pop(pid, None)

    def knows(self, pid: int) -> bool:
        """Whether the spawner is still to report the end of this worker: it is not reaped yet."""
        waiting = self._exits.get(pid)
        return waiting is not None and not waiting.done()

    async def close(self) -> None:
        """End the spawner, which leaves any worker alone."""
        self._forget()
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_end, process)

    def _on_readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        for message in self._decoder.feed(data):
            self._on_message(message)

    def _on_message(self, message: dict[str, Any]) -> None:
        if "exited" in message:
            waiting = self._exits.get(message["exited"])
            if waiting is not None and not waiting.done():
                waiting.set_result(message["status"])
            return
        number: int = message.get("started") or message["failed"]
        started = self._starting.get(number)
        if "started" in message:
            # Registered before anything else is read: the worker's end may be the very next message.
            self._exits[message["pid"]] = asyncio.get_running_loop().create_future()
        if started is None or started.done():
            return
        if "failed" in message:
            started.set_exception(SpawnError(f"cannot fork a worker: {message['error']}"))
        else:
            started.set_result(message["pid"])

    def _lost(self) -> None:
        status = _end(self._process) if self._process else None
        log.warning("the spawner ended; the next worker needs a new one", extra={"status": status})
        self._process = None
        self._forget()

    def _forget(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            if self._watched:
                with contextlib.suppress(RuntimeError):
                    asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        for started in self._starting.values():
            if not started.done():
                started.set_exception(SpawnError("the spawner ended"))
        for waiting in self._exits.values():  # their parent is gone: their status is nobody's
            if not waiting.done():
                waiting.set_result(None)


def _end(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a spawner whose socket is closed: it ends by itself, or hangs."""
    try:
        return process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
