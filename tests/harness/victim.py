"""A backend in a process of its own, for tests that take it away."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

SERVER = Path(__file__).with_name("victimserver.py")


class Victim:
    """A backend process that a test may stop and kill."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, on the port it had if it had one."""
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER), str(self.port), self.name], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.kill()
