"""Http and Tcp probes on non-blocking sockets: no task, no timer, no stream object for a probe.

2,000 probes a second have 50 µs each, and an asyncio connection with its streams alone takes several times
that. So all sockets hang on one epoll object, edge-triggered, and that one on the event loop; while many are
open it is looked at every few milliseconds only, many events at a time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import struct
from _socket import socket as Socket  # noqa: N812  without the layer on top, which costs as much again
from collections.abc import Callable

from .http import MAX_ANSWER, judge
from .registry import Target

# Closed by a reset: a close in the usual way leaves the port in TIME_WAIT for a minute, 120,000 of them.
_RESET = struct.pack("ii", 1, 0)
_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_WRITABLE = select.EPOLLOUT
_BROKEN = select.EPOLLERR | select.EPOLLHUP
_READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP
BUSY = 16  # open probes from which on events are gathered
GATHER_SECONDS = 0.02
_BATCH = 256
_SOCKET, _ERROR, _LINGER = socket.SOL_SOCKET, socket.SO_ERROR, socket.SO_LINGER
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

# The node's own trouble: counted against the backends, it would take all of them out at once.
_OURS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)

# Whether it succeeded, and why. None: it was not run, and says nothing about the backend.
Outcome = tuple[bool | None, str]
Done = Callable[[Target, bool | None, str], None]


class Flight:
    """One probe under way. ``answer`` is None until the request is sent."""

    __slots__ = ("answer", "connection", "fd", "target")

    def __init__(self, target: Target, connection: Socket, fd: int) -> None:
        self.target = target
        self.connection = connection
        self.fd = fd
        self.answer: bytearray | None = None

    def step(self, mask: int) -> tuple[bool, str] | None:
        """Do what can be done now; the verdict, when there is one."""
        try:
            if self.answer is None:
                if mask & _BROKEN and (code := self.connection.getsockopt(_SOCKET, _ERROR)):
                    return False, explain(code)
                if not mask & _WRITABLE:
                    return None
                if self.target.spec.type == "Tcp":
                    return True, "connected"
                target = self.target
                # A head of some kilobytes fits any socket's buffer.
                self.connection.send(target.spec.request(target.host_field))
                self.answer = bytearray()
                if not mask & _READABLE:
                    return None
            return self._read(self.answer)
        except BlockingIOError:
            return None
        except OSError as error:
            return False, explain(error.errno or errno.EIO)

    def _read(self, answer: bytearray) -> tuple[bool, str] | None:
        spec = self.target.spec
        while True:
            data = self.connection.recv(16384)
            if not answer and data:  # nearly always the whole answer
                verdict = judge(data, False, spec.status, spec.body)
                if verdict is not None:
                    return verdict
            answer += data
            verdict = judge(answer, not data, spec.status, spec.body)
            if verdict is not None or not data or len(answer) > MAX_ANSWER:
                return verdict


class SocketProbes:
    """Runs them and calls ``done(target, success, reason)`` for each that ends by itself."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._flights: dict[int, Flight] = {}
        self._loop.add_reader(self._epoll.fileno(), self._poll)

    def __len__(self) -> int:
        return len(self._flights)

    def start(self, target: Target, host: str, port: int) -> Outcome | None:
        """Begin a probe of an IP address; its outcome, if it has ended at once."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            connection = Socket(family, _STREAM)
        except OSError as error:
            return not_begun(error.errno or errno.EIO)
        code = connection.connect_ex((host, port))
        if code not in (0, errno.EINPROGRESS):
            connection.close()
            return not_begun(code)
        connection.setsockopt(_SOCKET, _LINGER, _RESET)
        fd = connection.fileno()
        target.flight = self._flights[fd] = Flight(target, connection, fd)
        self._epoll.register(fd, _EVENTS)
        return None

    def stop(self, target: Target) -> str:
        """End a probe early. Returns what it was waiting for."""
        flight: Flight = target.flight
        self._close(flight)
        return "the connection" if flight.answer is None else "the whole answer"

    def close(self) -> None:
        """End all of them."""
        for flight in list(self._flights.values()):
            self._close(flight)
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _close(self, flight: Flight) -> None:
        del self._flights[flight.fd]
        flight.target.flight = None
        flight.connection.close()  # epoll forgets it by itself

    def _poll(self) -> None:
        for fd, mask in self._epoll.poll(0, _BATCH):
            flight = self._flights.get(fd)
            if flight is not None and (verdict := flight.step(mask)) is not None:
                self._close(flight)
                self._done(flight.target, *verdict)
        if len(self._flights) >= BUSY:
            self._loop.remove_reader(self._epoll.fileno())
            self._loop.call_later(GATHER_SECONDS, self._watch)

    def _watch(self) -> None:
        if not self._epoll.closed:
            self._loop.add_reader(self._epoll.fileno(), self._poll)


_REASONS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "the network is unreachable",
    errno.EMFILE: "this node has no file descriptors left",
    errno.EADDRNOTAVAIL: "this node has no ports left",
}


def not_begun(code: int) -> Outcome:
    """The outcome of a probe that came to an error number before it could ask."""
    return None if code in _OURS else False, explain(code)


def explain(code: int) -> str:
    """An error number as a reason."""
    return _REASONS.get(code) or os.strerror(code).lower()
