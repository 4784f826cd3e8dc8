"""Applies the configuration file to the store before the node starts, in a child process.

What validating a file of 10,000 routes leaves behind in a Python heap is some 20 MB that it never gives back;
the child takes it along. It uses the same code as a reload. It is forked while this process has no thread and
no event loop yet.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from hotswap_proxy import _core
from hotswap_proxy.control.configuration import Configuration
from hotswap_proxy.control.reload import AUTHOR, sentences
from hotswap_proxy.errors import GatewayError, StoreUnavailable
from hotswap_proxy.fleet.lastgood import FILE_NAME as LAST_GOOD
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store

EXIT_FAILED, EXIT_CONFIGURATION = 1, 2
REFUSED = 3  # the file is refused, but there is an older configuration to serve
STORE_AWAY = 4  # the same, because the store cannot be reached


def seed(settings: Settings, path: Path, *, dry_run: bool = False) -> int:
    """Make the store agree with the file, or only find out whether it can (``dry_run``); 0, `REFUSED`, or the
    node's exit code, after saying why on standard error.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = EXIT_FAILED
        try:
            code = asyncio.run(_apply(settings, path, dry_run))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)  # the parent's stack is below: its exit handlers are not ours to run
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:  # a signal ends the start: the child has our sockets and our directory
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


async def _apply(settings: Settings, path: Path, dry_run: bool) -> int:
    catalog = _core.Catalog(_core.Node(1))
    try:
        store = await Store.open(settings)
        configuration = Configuration(store, catalog, settings)
        await configuration.load()
        await configuration.apply(path, prune=True, author=AUTHOR, dry_run=dry_run)
        await store.close()
    except GatewayError as error:
        for line in sentences(error):
            print(f"hotswap-proxy: {path}: {line}", file=sys.stderr)
        if isinstance(error, StoreUnavailable):
            kept = settings.database_url is not None and (settings.data_dir / LAST_GOOD).exists()
            return STORE_AWAY if kept else EXIT_FAILED
        if not catalog.routes:
            return EXIT_CONFIGURATION
        if dry_run:
            return REFUSED
        # A mistake in the file must not turn the next restart into an outage.
        print(f"hotswap-proxy: {path} is refused; the last good configuration is served", file=sys.stderr)
        return REFUSED
    return 0
