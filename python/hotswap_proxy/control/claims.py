"""What a node has to have to itself before it starts: its data directory and its addresses."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from hotswap_proxy.control import listeners
from hotswap_proxy.control.datadir import DataDir, DataDirError
from hotswap_proxy.control.handover.predecessor import Bequest
from hotswap_proxy.settings import Settings


class StartError(Exception):
    """The node cannot start; each line is for the operator."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


@dataclass(slots=True)
class Claims:
    """``proxy`` and ``proxy_tls`` have a socket for each worker."""

    datadir: DataDir
    proxy: list[socket.socket]
    proxy_tls: list[socket.socket]
    admin: socket.socket


def claim(
    settings: Settings,
    given: Mapping[str, list[socket.socket]] | None = None,
    bequest: Bequest | None = None,
) -> Claims:
    """StartError if another process has one of them. Sockets of a node that died are taken over.

    ``given``: sockets of a service manager, by name. ``bequest``: of a control process that hands over.
    """
    sockets = dict(bequest.sockets if bequest is not None else given or {})
    if bequest is not None and bequest.data_dir != settings.data_dir:
        raise StartError([f"--data-dir is {settings.data_dir} here, and {bequest.data_dir} in the node"])
    if sockets.get("proxy-tls") and not settings.proxy_tls:
        if bequest is None:
            raise StartError(["there is a socket 'proxy-tls', but --proxy-tls is not set"])
        _close(sockets.pop("proxy-tls"))
    if len(sockets.get("admin", ())) > 1:
        raise StartError(["there is more than one socket 'admin'"])
    try:
        datadir = DataDir(settings.data_dir, bequest.lock if bequest is not None else None)
        orphans = datadir.succession.gather if datadir.succession is not None and datadir.orphans else None
        heirlooms = {
            name: listeners.listen_proxy(
                address, settings.workers, orphans, f"--{name}", sockets.get(name, ())
            )
            for name, address in (("proxy", settings.proxy), ("proxy-tls", settings.proxy_tls))
            if address
        }
        admin = sockets["admin"][0] if sockets.get("admin") else listeners.listen_admin(settings.admin)
        return Claims(datadir, heirlooms["proxy"], heirlooms.get("proxy-tls", []), admin)
    except (DataDirError, listeners.ListenError) as error:
        raise StartError([str(error)]) from error


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
