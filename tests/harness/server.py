"""A real server as a process of a test: started, killed, made to hang and started again, always in its place.

Its files are in a directory of its own, it listens on the loopback address only, and it ends with the test
run, whatever becomes of that: the kernel is told to end it when its parent dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path

START_SECONDS = 60.0
_POLL = 0.02
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def program(name: str, *more: Path) -> str:
    """The path of a program, in PATH or in one of these directories."""
    found = shutil.which(name, path=os.pathsep.join([*map(str, more), os.environ.get("PATH", os.defpath)]))
    assert found, f"{name} is not installed; scripts/setup installs it"
    return found


class Server(ABC):
    """``start`` and ``stop`` may be called again and again; port and data stay the same."""

    name: str
    run_as: str | None = None  # another user to run as, when root would be refused
    death_signal = signal.SIGKILL  # when the test run dies; one that takes the server's children along
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"hotswap-test-{self.name}-"))
        if self.run_as is not None:
            user = pwd.getpwnam(self.run_as)
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        self.log = self.directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]: ...

    def configuration(self) -> bytes:
        """What it reads from its standard input."""
        return b""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it is ready, found out by connecting to it."""

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers."""
        if self.runs:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
                preexec_fn=self._end_with_parent,
                **self.identity(),
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(self.configuration())
            self._process.stdin.close()
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self._process.poll() is None, f"{self.name} ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"{self.name} does not answer: {self.log.read_text()[-2000:]}"
            time.sleep(_POLL)

    def identity(self) -> dict[str, object]:
        """Who runs its programs: arguments of Popen."""
        if self.run_as is None:
            return {}
        return {"user": self.run_as, "group": pwd.getpwnam(self.run_as).pw_gid, "extra_groups": []}

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End all its processes at once, as a power cut would; returns when they are gone."""
        if self._process is None:
            return
        if self.runs:
            self._process.send_signal(signal.SIGSTOP)  # so that it makes no more children
        children = self._children()
        for pid in [*children, self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        while any(_state(pid) not in "ZX" for pid in children):
            time.sleep(_POLL)

    def pause(self) -> None:
        """Make it hang: the kernel still accepts connections for it, but nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def restore(self) -> None:
        """Have it answer, whatever a test did to it."""
        self.resume()
        self.start()

    def close(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _signal_all(self, number: int) -> None:
        if self._process is None or not self.runs:
            return
        # The parent first and last: a child made meanwhile is a child of the second look.
        self._process.send_signal(number)
        for pid in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _children(self) -> list[int]:
        assert self._process is not None
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            return [int(pid) for pid in path.read_text().split()]
        except OSError:
            return []

    def _end_with_parent(self) -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(self.death_signal))


def _state(pid: int) -> str:
    """The state letter of a process; X when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
