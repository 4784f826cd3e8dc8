"""What a Service and its clients are to the gateways: connections to any of the endpoints there are now."""

from __future__ import annotations

import random
import threading
from types import TracebackType

from harness.client import Client


class ServiceClients:
    """Keep-alive clients, one thread each, until the end of the ``with`` block.

    A client goes to another endpoint when the answer says `Connection: close`. Anything but a whole 200 is a
    failure, and so is a connection that is refused, or closed without that word.
    """

    def __init__(self, endpoints: list[int], path: str, clients: int = 6) -> None:
        """``endpoints`` are ports; the list may be changed meanwhile."""
        self.endpoints, self._path = endpoints, path
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        self.failures: list[str] = []
        self.answers: dict[int, int] = {}

    def __enter__(self) -> ServiceClients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def count(self, port: int) -> int:
        with self._lock:
            return self.answers.get(port, 0)

    def _run(self) -> None:
        while not self._stop.is_set():
            port = random.choice(self.endpoints)
            try:
                self._one_connection(port)
            except OSError as error:
                with self._lock:
                    self.failures.append(f"{port}: {error!r}")
                return

    def _one_connection(self, port: int) -> None:
        with Client(port) as client:
            while not self._stop.is_set():
                answer = client.get(self._path)
                with self._lock:
                    self.answers[port] = self.answers.get(port, 0) + 1
                    if answer.status != 200:
                        self.failures.append(f"{port}: {answer.status} {answer.body!r}")
                if answer.header("connection") == "close":
                    return
