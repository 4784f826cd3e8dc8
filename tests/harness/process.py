"""A data plane in a process of its own, whose resources can be counted; commands come on standard input.

    python -m harness.process CODEC DESCRIPTORS

prints the port, then answers each line with one of JSON; the end of the input ends it.
"""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent


class Process:
    """The test's side of it."""

    def __init__(self, codec: str, descriptors: int = 1024) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.process", codec, str(descriptors)],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port: int = self._answer()

    def ask(self, question: str, argument: Any = None) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{question} {json.dumps(argument)}\n")
        self.process.stdin.flush()
        return self._answer()

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def close(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.stdout is not None
        self.process.stdout.close()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()


def main() -> None:
    from harness.worker import Plane
    from hotswap_proxy import _wire

    codec, descriptors = sys.argv[1], int(sys.argv[2])
    gc.disable()  # what is freed, reference counts have freed
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    plane = Plane(codec)

    def alive(kind: type) -> int:
        if codec == "httptools":
            gc.collect()  # its parsers refer to themselves
        return sum(type(thing) is kind for thing in gc.get_objects())

    answers: dict[str, Callable[[Any], Any]] = {
        "publish": lambda routes: plane.publish(*routes),
        "cpu": lambda _: time.process_time(),
        "connections": lambda _: plane.server.connections,
        "totals": lambda _: plane.totals(),
        "backends": lambda _: plane.node.backend_stats(),
        "clients": lambda _: alive(_wire.Client),
        "upstreams": lambda _: alive(_wire.Upstream),
    }
    print(plane.port, flush=True)
    for line in sys.stdin:
        question, _, argument = line.partition(" ")
        print(json.dumps(answers[question](json.loads(argument))), flush=True)
    plane.close()


if __name__ == "__main__":
    main()
