"""What a node has to have to itself before it starts: its data directory and its addresses."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from hotswap_proxy.control import listeners
from hotswap_proxy.control.datadir import DataDir, DataDirError
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


def claim(settings: Settings) -> Claims:
    """StartError if another process has one of them. Sockets of a node that died are taken over."""
    try:
        datadir = DataDir(settings.data_dir)
        heirlooms = datadir.succession.gather if datadir.orphans else None
        proxy = listeners.listen_proxy(settings.proxy, settings.workers, heirlooms)
        proxy_tls = (
            listeners.listen_proxy(settings.proxy_tls, settings.workers, heirlooms, "--proxy-tls")
            if settings.proxy_tls
            else []
        )
        return Claims(datadir, proxy, proxy_tls, listeners.listen_admin(settings.admin))
    except (DataDirError, listeners.ListenError) as error:
        raise StartError([str(error)]) from error
