"""What a service manager (systemd) and a node tell each other: listening sockets that it made, and how the
node is (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)).

Both protocols are a few variables and one datagram; a library would be longer than this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import MutableMapping

log = logging.getLogger("hotswap_proxy.control")

FIRST_FD = 3  # SD_LISTEN_FDS_START
SOCKET_NAMES = ("proxy", "proxy-tls", "admin")  # FileDescriptorName= of a socket unit
_LISTEN = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_NOTIFY, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class ActivationError(RuntimeError):
    """The sockets that a service manager gave are of no use."""


def take_sockets(environ: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The listening sockets that were given, by name. The variables are removed: they are for this process
    only. ActivationError names the socket that cannot be used.
    """
    pid, count, names = (environ.get(name, "") for name in _LISTEN[:3])
    for name in _LISTEN:
        environ.pop(name, None)
    if not count or pid != str(os.getpid()):  # another process's, which forgot to remove them
        return {}
    if not count.isdecimal():
        raise ActivationError(f"LISTEN_FDS is no number: {count!r}")
    found: dict[str, list[socket.socket]] = {}
    named = names.split(":") if names else []
    for index in range(int(count)):
        fd, name = FIRST_FD + index, named[index] if index < len(named) else ""
        if name not in SOCKET_NAMES:
            raise ActivationError(
                f"a socket of the service manager is named {name!r}; "
                f"FileDescriptorName= has to be one of {', '.join(SOCKET_NAMES)}"
            )
        found.setdefault(name, []).append(_listening(fd, name))
    return found


def _listening(fd: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ActivationError(f"the socket {name!r} of the service manager: {error.strerror}") from error
    sock.set_inheritable(False)
    sock.setblocking(False)
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not is_tcp or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ActivationError(f"the socket {name!r} of the service manager is not a listening TCP socket")
    return sock


def is_watching() -> bool:
    """Whether a service manager started this process and wants to know how it is."""
    return bool(os.environ.get(_NOTIFY))


def notify(*lines: str) -> None:
    """Tell the service manager, if there is one: ``READY=1``, ``STATUS=…``. It not listening is no error."""
    address = os.environ.get(_NOTIFY, "")
    if not address:
        return
    if address[0] == "@":  # Linux's abstract namespace
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto("\n".join(lines).encode(), address)


def reloading() -> None:
    """A reload has begun; ``notify("READY=1")`` is to follow (``Type=notify-reload``)."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def ready(status: str) -> None:
    """This process serves, and is the main one of its unit."""
    notify("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")


async def keep_watchdog_quiet() -> None:
    """Twice as often as the service manager wants to hear from us; returns at once if it does not."""
    try:
        interval = int(os.environ.get(_WATCHDOG, "")) / 2_000_000
    except ValueError:
        return
    if os.environ.get(_WATCHDOG_PID, str(os.getpid())) != str(os.getpid()) or interval <= 0:
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)


def for_successor() -> dict[str, str]:
    """This process's environment for the one that takes its place, whose watchdog is its own."""
    return {name: value for name, value in os.environ.items() if name not in (_WATCHDOG_PID, *_LISTEN)}
