"""The fork server: a slim process which forks the workers of a node and reports their ends.

Workers are forked from here, not from the control process, because here almost nothing is imported: what
workers have in memory they share with each other, and none of it is the control process's database and web
libraries.

The spawner is started as a fresh interpreter, not forked from the control process: a fork early in its life
would save 0.8 MB for a node, but could not be repeated once threads and heavy imports are there, so a spawner
that dies could not be replaced. It is single-threaded, blocks in ``select`` and ends when the control process
does (end of file on its socket). Its workers do not end with it.

Messages in:  {"spawn": id, "lane": int, "settings": text, "more": [name, …]} with the descriptors listen,
state, arena, control, presence and those that ``more`` names: tls (the listener, where TLS has an address of
its own), journal.
Messages out: {"started": id, "pid": int} | {"failed": id, "error": text} | {"exited": pid, "status": int}
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from typing import Any

from hotswap_proxy.control import channel

# A signal a parent ignores stays ignored in its children, and Python's own handlers stay installed across a
# fork.
_RESET = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


def serve(control: socket.socket) -> None:
    """Fork and reap until the control process closes ``control``."""
    import hotswap_proxy.worker.main  # noqa: F401  once, here: every worker shares these pages

    wakeup_in, wakeup_out = socket.socketpair()
    wakeup_in.setblocking(False)
    wakeup_out.setblocking(False)
    signal.set_wakeup_fd(wakeup_out.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that the wake-up descriptor gets its byte
    # A terminal's Ctrl-C and a service manager's SIGTERM to the whole group are the control process's
    # business.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)
    gc.collect()
    gc.freeze()  # the collector would otherwise write to every shared page
    with contextlib.suppress(channel.ChannelClosedError, OSError):
        while True:
            readable, _, _ = select.select([control, wakeup_in], [], [])
            if wakeup_in in readable:
                with contextlib.suppress(BlockingIOError):
                    wakeup_in.recv(4096)
                _reap(control)
            if control in readable:
                message, fds = channel.receive(control)
                _spawn(message, fds, control, (wakeup_in, wakeup_out))


def _spawn(
    message: dict[str, Any],
    fds: list[int],
    control: socket.socket,
    wakeup: tuple[socket.socket, socket.socket],
) -> None:
    try:
        pid = os.fork()
    except OSError as error:
        channel.send(control, {"failed": message["spawn"], "error": str(error)})
        return
    if pid == 0:
        _become_worker(message, fds, control, wakeup)
    # A copy kept here would hide the end of a worker from the control process, or hold another's socket open.
    for fd in fds:
        os.close(fd)
    channel.send(control, {"started": message["spawn"], "pid": pid})


def _become_worker(
    message: dict[str, Any],
    fds: list[int],
    control: socket.socket,
    wakeup: tuple[socket.socket, socket.socket],
) -> None:
    """The child's side of the fork; never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        for sock in (control, *wakeup):
            sock.close()
        from hotswap_proxy.settings import Settings
        from hotswap_proxy.worker import main as worker

        settings = Settings.from_worker_json(message["settings"].encode())
        listen, state, arena, channel_fd, presence, *rest = fds
        more = dict(zip(message["more"], rest, strict=True))
        worker.main(
            message["lane"],
            listen,
            state,
            arena,
            channel_fd,
            settings,
            presence,
            more.get("tls", -1),
            more.get("journal", -1),
        )
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)  # not sys.exit: the stack below belongs to the spawner


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        channel.send(control, {"exited": pid, "status": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
