"""The process of one apply: does the heavy part for the control process, and takes its garbage along.

A fresh interpreter, not a fork of the control process: that has threads and an open SQLite file, whose locks
do not survive a fork; and a helper forked before it had them was measured at 21 MB for the life of the node,
because the control process writes to (the reference counts in) the pages which the two would share. Nothing
is inherited but the three descriptors of the command line: the socket, the document (empty when a path is
given), and the file for what does not fit into messages.

    control → {"settings", "databaseUrl", "path", "prune", "dryRun", "author", "basedOn"}
            ← {"prepared", "sizes": [payload, addresses, checks]}
              {"unchanged"} | {"outdated"} | {"failed", "sizes": [error]}
            → {"go"} | {"problems": […]} of the compiler
            ← {"applied": [added, changed, removed, unchanged], "revision", "sizes": [plan]}
              {"outdated"} | {"failed", …}

The rows are written while the control process compiles; they are committed when it says "go". When it ends or
loses interest (end of file) instead, they are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotswap_proxy.control import channel
from hotswap_proxy.control.machine import APPLIER, give_way

if TYPE_CHECKING:
    from hotswap_proxy.control.apply import LocalWork


class Line:
    """The child's end of the conversation."""

    def __init__(self, sock: socket.socket, result: int) -> None:
        self._sock = sock
        self._result = result

    def hear(self) -> dict[str, Any]:
        """The next message; ChannelClosedError when the control process is not interested any more."""
        return channel.receive(self._sock)[0]

    def tell(self, kind: str, value: Any, *parts: bytes, **more: Any) -> None:
        """Say something, with ``parts`` in the result file."""
        offset = 0
        for part in parts:
            rest = memoryview(part)
            while rest:
                written = os.pwrite(self._result, rest, offset)
                rest, offset = rest[written:], offset + written
        channel.send(self._sock, {kind: value, "sizes": [len(part) for part in parts]} | more)


async def serve(line: Line, document: int) -> None:
    """Do one job."""
    import orjson  # and all that is heavy: here, when signals are dealt with

    from hotswap_proxy.control.apply import Job, LocalWork
    from hotswap_proxy.control.resolver import Resolver, url_rules
    from hotswap_proxy.errors import GatewayError
    from hotswap_proxy.settings import Settings
    from hotswap_proxy.store import Author, Outdated, Store

    order = line.hear()
    settings = Settings.from_worker_json(order["settings"].encode())
    settings = replace(settings, database_url=order["databaseUrl"])
    given = Path(order["path"]) if order["path"] is not None else _contents(document)
    job = Job(given, Author(*order["author"]), order["prune"], order["dryRun"], order["basedOn"])
    store = Store(settings)  # whose schema the control process has seen to
    work = LocalWork(job, store, settings, Resolver(url_rules(settings)))
    try:
        prepared = await work.prepare()
        if prepared is None:
            line.tell("unchanged", True)
        else:
            parts = (prepared.payload, orjson.dumps(prepared.addresses), orjson.dumps(prepared.checks))
            line.tell("prepared", True, *parts)
        await _store(work, line)
        done = work.result()
        counts = [done.added, done.changed, done.removed, done.unchanged]
        line.tell("applied", counts, done.plan, revision=done.revision)
    except Outdated:
        line.tell("outdated", True)
    except GatewayError as error:
        told = {"kind": type(error).__name__, "message": error.message, "details": error.details}
        line.tell("failed", True, orjson.dumps(told, default=tuple))


async def _store(work: LocalWork, line: Line) -> None:
    from hotswap_proxy.errors import GatewayError
    from hotswap_proxy.store import Outdated

    asked = False

    def agree() -> None:
        nonlocal asked
        asked = True
        answer = line.hear()
        if "problems" in answer:
            raise work.explain(answer["problems"])

    try:
        await work.store(agree)
    except Outdated:
        if not asked:
            line.hear()  # whatever it is: it is about what was
        raise
    except GatewayError:
        if not asked:
            agree()  # what the compiler finds says more than what the database made of it
        raise


def _contents(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def main() -> None:
    """Run with the descriptors of socket, document and result."""
    # A signal to the whole group is the control process's business. We end when it does.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    give_way(APPLIER)
    gc.disable()  # a short life with much to allocate and little in cycles
    fd, document, result = map(int, sys.argv[1:4])
    with contextlib.suppress(channel.ChannelClosedError, ConnectionError):
        asyncio.run(serve(Line(socket.socket(fileno=fd), result), document))
    sys.stderr.flush()
    os._exit(0)  # taking ten thousand objects apart one by one is wasted time


if __name__ == "__main__":
    main()
