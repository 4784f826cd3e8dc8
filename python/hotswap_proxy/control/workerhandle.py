"""One worker process, as its supervisor knows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from dataclasses import dataclass, field

log = logging.getLogger("hotswap_proxy.control")


@dataclass(eq=False)
class WorkerHandle:
    """One worker process. ``held``: it could serve; ``ready``: it does; ``left``: it takes no more
    connections; ``ended``: it is no more.
    """

    slot: int
    lane: int
    pid: int
    channel: socket.socket
    started: float = field(default_factory=time.monotonic)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    status: int | None = None

    def command(self, word: bytes) -> None:
        """Tell the worker something; one that is gone does not mind."""
        with contextlib.suppress(OSError):
            self.channel.send(word)

    def give(self, kind: bytes, fd: int) -> None:
        """Send the worker a resource; it gets a descriptor of its own."""
        try:
            socket.send_fds(self.channel, [kind], [fd])
        except BlockingIOError:  # hundreds wait: it hangs, and whoever ends it gives the next one everything
            log.error("a worker takes no resources", extra={"slot": self.slot, "worker_pid": self.pid})
        except OSError:
            pass  # it is gone
