"""Listening sockets of a node: one per worker for the proxy (SO_REUSEPORT), one for the admin API.

The control process makes and keeps them, so that what is queued on a dead worker's socket waits for its
replacement.
"""

from __future__ import annotations

import errno
import os
import socket

from hotswap_proxy.settings import parse_address

BACKLOG = 65535  # the kernel cuts it to net.core.somaxconn


class ListenError(OSError):
    """An address cannot be listened on; the text names it and the option."""


def listen_proxy(address: str, count: int, *, share: bool) -> list[socket.socket]:
    """``count`` listening sockets on one address, among which the kernel spreads new connections.

    ``share=False`` refuses an address that any socket listens on, even one of ours: SO_REUSEPORT alone would
    let a second node of the same user take half of the first one's connections. ``share=True`` is for a node
    whose predecessor's workers are still serving.
    """
    family, host, port = _resolve(address, "--proxy")
    sockets: list[socket.socket] = []
    try:
        if not share and port != 0:
            _bind((family, host, port), reuse_port=False).close()
        for _ in range(count):
            sock = _bind((family, host, port), reuse_port=True)
            sockets.append(sock)
            port = sock.getsockname()[
                1
            ]  # with port 0 the kernel chose one for the first, and the others join it
        for sock in sockets:
            sock.listen(BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _named(address, "--proxy", error) from error
    return sockets


def listen_admin(address: str) -> socket.socket:
    """The admin API's listening socket."""
    family, host, port = _resolve(address, "--admin")
    try:
        sock = _bind((family, host, port), reuse_port=False)
        sock.listen(128)
    except OSError as error:
        raise _named(address, "--admin", error) from error
    return sock


def shown(sock: socket.socket) -> str:
    """``http://HOST:PORT`` of a listening socket, as a user would type it."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if sock.family == socket.AF_INET6 else f"http://{host}:{port}"


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
