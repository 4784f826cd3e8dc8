"""A strict load: keep-alive clients that count every answer that is no whole 200, and closed connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType

from harness.client import Client

Outcome = tuple[str, str]


class Load:
    """``connections`` threads, each asking on one connection until the end of the ``with`` block."""

    def __init__(
        self,
        port: int,
        path: Callable[[int, int], str],
        connections: int = 24,
        lines: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """``lines`` are further field lines, asked for each request."""
        self._port = port
        self._path = path
        self._lines = lines
        self._stop = threading.Event()
        self._started = threading.Barrier(connections + 1)
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(connections)]
        self._lock = threading.Lock()
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self._started.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, number: int) -> None:
        answers = 0
        failures = []
        with Client(self._port) as client:
            self._started.wait(30)
            while not self._stop.is_set():
                path = self._path(number, answers)
                try:
                    answer = client.get(path, *self._lines())
                except OSError as error:
                    failures.append(f"{path}: {error!r}")
                    break
                answers += 1
                if answer.status != 200:
                    failures.append(f"{path}: {answer.status} {answer.body!r}")
        with self._lock:
            self.answers += answers
            self.failures += failures
