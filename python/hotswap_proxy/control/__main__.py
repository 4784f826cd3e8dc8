"""The control process: ``hotswap-proxy run`` becomes this by exec, its options in ``HOTSWAP_…`` variables.

An interpreter of its own, so that what the command line needed (typer, rich) is not kept in memory for the
life of the node, and so that the spawner starts before anything heavy is imported.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import NoReturn

from hotswap_proxy.control import signals
from hotswap_proxy.settings import PRIVATE, Settings, SettingsError


def main() -> int:
    """Run a node from the environment's settings; returns the exit code."""
    # Until there is a node that hears them, in spawner and workers for good: a service manager or a terminal
    # may send them to all processes.
    signals.ignore()
    # Started by the control process whose node this one goes on with: its only argument is the line to it.
    predecessor = None
    if len(sys.argv) > 1:
        from hotswap_proxy.control.handover.predecessor import Predecessor

        predecessor = Predecessor(int(sys.argv[1]))
    try:
        settings = Settings.from_environment(os.environ)
        settings.check_combinations()
    except SettingsError as error:
        for problem in error.problems:
            print(f"hotswap-proxy: {problem}", file=sys.stderr)
        if predecessor is not None:
            predecessor.refuse(error.problems)
        return 2
    os.umask(PRIVATE)
    from hotswap_proxy.control.machine import raise_descriptor_limit
    from hotswap_proxy.control.spawning import Spawner

    descriptors = raise_descriptor_limit()  # first: spawner and workers inherit it
    spawner = Spawner()
    spawner.start()  # its imports run while ours do
    from hotswap_proxy.control import main as control

    return control.run(settings, spawner, descriptors, predecessor)


def leave(code: int) -> NoReturn:
    """End at once. ``sys.exit`` would wait for all threads first: for a look-up that a dead name server does
    not answer, for a disk that hangs. What matters has been waited for by then, each thing with a bound.
    """
    logging.shutdown()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
