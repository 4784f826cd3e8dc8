"""Asking a running node to upgrade itself, over the private socket in its data directory: both sides.

After the word ``UPGRADE`` come JSON frames (``control.channel``). Asked: ``{"program": …, "timeout": …}``.
Answered: ``{"begun": true, "pid": …, "version": …}``, then either ``{"failed": …}`` or, of the process that
is in charge now, ``{"pid": …, "version": …, "drainTimeout": …}``. Only the node's user and root are heard:
the socket has mode 0700 in a directory of mode 0700, and the kernel says who is at its other end.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotswap_proxy import __version__
from hotswap_proxy.control import channel
from hotswap_proxy.control.handover.words import (
    HAND_OVER_TIMEOUT,
    LONGEST_TIMEOUT,
    PREPARE_TIMEOUT,
    UpgradeError,
)
from hotswap_proxy.worker.protocol import SUCCESSOR_SOCKET, UPGRADE

if TYPE_CHECKING:
    from hotswap_proxy.control.handover.upgrade import Upgrade

_MAX_QUESTION = 8192
_QUESTION_TIMEOUT = 5.0
_ANSWER_TIMEOUT = 10.0
_SLACK = 30.0  # to take everything back
_CREDENTIALS = struct.Struct("3i")  # process, user, group


async def answer(
    upgrade: Upgrade, drain_timeout: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Carry out one request; who asked may go meanwhile."""
    try:
        _check_peer(writer.get_extra_info("socket"))
        async with asyncio.timeout(_QUESTION_TIMEOUT):
            program, timeout = _question(await _frame(reader))
        task = upgrade.begin(program, timeout)
        await _send(writer, {"begun": True, "pid": os.getpid(), "version": __version__})
        taken = await asyncio.shield(task)
    except (UpgradeError, TimeoutError, ValueError, EOFError) as error:
        await _send(writer, {"failed": str(error) or "the request cannot be read"})
    else:
        await _send(writer, {**taken._asdict(), "drainTimeout": drain_timeout})


def _check_peer(sock: Any) -> None:
    if hasattr(socket, "SO_PEERCRED"):
        found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(found)[1] not in (0, os.geteuid()):
            raise UpgradeError("only this node's user and root may upgrade it")


async def _frame(reader: asyncio.StreamReader) -> Any:
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > _MAX_QUESTION:
        raise ValueError("the request is too long")
    return json.loads(await reader.readexactly(length))


def _question(found: Any) -> tuple[str | None, float]:
    if not isinstance(found, dict):
        raise ValueError("no request")
    if unknown := found.keys() - {"program", "timeout"}:
        raise ValueError(f"unknown in the request: {', '.join(sorted(unknown))}")
    program, timeout = found.get("program"), found.get("timeout", PREPARE_TIMEOUT)
    if program is not None and not (isinstance(program, str) and Path(program).is_absolute()):
        raise ValueError("program: not an absolute path")
    if not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST_TIMEOUT:
        raise ValueError(f"timeout: not a number of seconds up to {LONGEST_TIMEOUT:g}")
    return program, float(timeout)


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(channel.frame(message))
    await writer.drain()


class Asking:
    """The side of who asks; blocking. Raises :class:`UpgradeError`."""

    def __init__(self, data_dir: Path) -> None:
        path = data_dir.absolute() / SUCCESSOR_SOCKET
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(_ANSWER_TIMEOUT)
        try:
            self._sock.connect(str(path))
        except OSError as error:
            self._sock.close()
            why = error.strerror or str(error)
            raise UpgradeError(f"no node of this data directory can be asked ({path}: {why})") from error

    def begin(self, program: str, timeout: float) -> dict[str, Any]:
        """Who is asked."""
        try:
            self._sock.sendall(UPGRADE + channel.frame({"program": program, "timeout": timeout}))
        except OSError:
            raise UpgradeError(_BROKEN) from None
        found = self._receive()
        self._sock.settimeout(timeout + HAND_OVER_TIMEOUT + _SLACK)
        return found

    def outcome(self) -> dict[str, Any]:
        """Who is in charge now."""
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        try:
            message, _ = channel.receive(self._sock)
        except TimeoutError:
            raise UpgradeError("the node's control process does not answer; is it stopped?") from None
        except (OSError, channel.ChannelClosedError):
            raise UpgradeError(_BROKEN) from None
        if "failed" in message:
            raise UpgradeError(message["failed"])
        return message


_BROKEN = "the node's control process ended meanwhile; its standard error says more"
