"""What the control process asks of the operating system: its place behind the workers, and enough descriptors."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading

# Niceness. One change among 10,000 routes is compiled in 40-95 ms, a file of as many is read in seconds: on a machine
# without an idle core that is time which requests wait. The kernel gives a thread at 5 a third of the weight of
# a worker, at 10 a tenth. Not lower for the compiler: a change shall be live soon on a busy machine too.
COMPILER, APPLIER = 5, 10


def give_way(niceness: int) -> None:
    """Let workers run before the calling thread (of a process with one thread: before the process)."""
    if sys.platform == "linux":  # elsewhere niceness belongs to whole processes
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def raise_descriptor_limit() -> tuple[int, int]:
    """Use as many descriptors as we may; (limit before, limit now). Processes that are started later inherit it.

    The usual soft limit of 1,024 is there for programs that use select(); we do not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS has an upper bound of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
