"""Listening sockets of a node: one per worker for the proxy (SO_REUSEPORT), one for the admin API.

The control process makes and keeps them, so that what is queued on a dead worker's socket waits for its
replacement.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from hotswap_proxy.control.succession import Enough, Fits
from hotswap_proxy.settings import parse_address

# Collects the sockets of orphaned workers that fit, until there are enough (see ``Succession.gather``).
Gather = Callable[[Fits, Enough], list[socket.socket]]
BACKLOG = 65535  # the kernel cuts it to net.core.somaxconn


class ListenError(OSError):
    """An address cannot be listened on; the text names it and the option."""


def listen_proxy(
    address: str,
    count: int,
    gather: Gather | None = None,
    option: str = "--proxy",
    given: Sequence[socket.socket] = (),
) -> list[socket.socket]:
    """``count`` listening sockets on one address, among which the kernel spreads new connections.

    An address that any socket listens on is refused, even if it is one of ours: SO_REUSEPORT alone would
    let a second node of the same user take half of the first one's connections. Unless our predecessor's
    workers are still serving: then ``gather`` collects their sockets, and those on this address are used
    again. Sockets that are ``given`` decide the address themselves.
    """
    if given:
        return _shared(list(given), count)
    family, host, port = _resolve(address, option)
    sockets: list[socket.socket] = []
    try:
        if gather is not None:
            sockets += _inherited(gather, (host, port), count)
        elif port != 0:
            _bind((family, host, port), reuse_port=False).close()
        for _ in range(count - len(sockets)):
            sock = _bind((family, host, port), reuse_port=True)
            sockets.append(sock)
            # With port 0 the kernel chose one for the first, and the others join it.
            port = sock.getsockname()[1]
        for sock in sockets:
            sock.listen(BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _named(address, option, error) from error
    return sockets


def _inherited(gather: Gather, where: tuple[str, int], count: int) -> list[socket.socket]:
    """What of the orphans' sockets on an address is of use here. Those too many close with the orphans."""
    there = listening(where[1])
    found = gather(
        lambda sock: sock.getsockname()[:2] == where,
        # A replaced worker's socket may be held by two: each has it once in the kernel's list, by its inode.
        lambda found: there is not None and len(_distinct(found)) >= min(count, there),
    )
    useful = _distinct(found)[:count]
    for sock in found:
        if sock not in useful:
            sock.close()
    return useful


def _shared(given: list[socket.socket], count: int) -> list[socket.socket]:
    """One for each of ``count`` workers. Where there are fewer, several workers accept on one; those too many
    are closed, and so are their queues if nobody else has them.
    """
    there = _distinct(given)
    more = (there[index % len(there)].dup() for index in range(len(there), count))
    found = [*there[:count], *more]
    for sock in given:
        if sock not in found:
            sock.close()
    return found


def _distinct(sockets: list[socket.socket]) -> list[socket.socket]:
    return list({os.fstat(sock.fileno()).st_ino: sock for sock in reversed(sockets)}.values())[::-1]


def listening(port: int) -> int | None:
    """How many sockets of this machine listen on a port; None where the kernel does not tell (not Linux)."""
    wanted = f":{port:04X}"
    try:
        tables = [Path(f"/proc/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    except OSError:
        return None
    rows = (line.split(None, 4) for table in tables for line in table)
    return sum(row[3] == "0A" and row[1].endswith(wanted) for row in rows)


def listen_admin(address: str) -> socket.socket:
    """The admin API's listening socket."""
    family, host, port = _resolve(address, "--admin")
    try:
        sock = _bind((family, host, port), reuse_port=False)
        sock.listen(128)
    except OSError as error:
        raise _named(address, "--admin", error) from error
    return sock


def shown(sock: socket.socket, scheme: str = "http") -> str:
    """``http://HOST:PORT`` of a listening socket, as a user would type it."""
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{scheme}://{host}:{port}"


def _resolve(address: str, option: str) -> tuple[socket.AddressFamily, str, int]:
    try:
        family, host, port = parse_address(address)
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return family, str(found[0][4][0]), port
    except (OSError, ValueError) as error:
        raise _named(address, option, error) from error


def _bind(where: tuple[socket.AddressFamily, str, int], *, reuse_port: bool) -> socket.socket:
    family, host, port = where
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # [::] takes IPv4 clients too, as in most servers outside nginx; another IPv6 address is not
            # affected.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _named(address: str, option: str, error: Exception) -> ListenError:
    reason = str(error)
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        reason = os.strerror(error.errno).lower()
        if error.errno == errno.EADDRINUSE:
            reason = "the address is in use by another process"
        elif error.errno == errno.EACCES:
            reason += " (ports below 1024 need the capability CAP_NET_BIND_SERVICE)"
    return ListenError(f"cannot listen on {address} ({option}): {reason}")
