"""What the kernel knows of our processes: CPU time, memory, descriptors. Linux; elsewhere only of this
process.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """Memory in bytes (proportional share where known, else resident); descriptors open, and how many may."""

    memory_bytes: int
    open_fds: int | None
    max_fds: int | None


def figures(pid: int) -> ProcessFigures | None:
    """The figures of a process; None when it is gone or the system does not tell."""
    if cpu_seconds(pid) is None:
        return None
    try:
        fds: int | None = len(os.listdir(_PROC / str(pid) / "fd"))  # noqa: PTH208  names are not needed as paths
        most: int | None = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    except (OSError, AttributeError):  # the second: there is no prlimit
        fds = most = None
    return ProcessFigures(memory_bytes(pid), fds, most)


class CpuAccount:
    """CPU time by role (``worker-0``) of all the processes that had it: a replacement does not begin at 0."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[str, float]] = {}  # process id → role, seconds
        self._ended: dict[str, float] = {}

    def note(self, roles: Mapping[int, str]) -> None:
        """Look at the processes that there are (id → role). What one uses after its last look is lost."""
        seen: dict[int, tuple[str, float]] = {}
        for pid, role in roles.items():
            used = cpu_seconds(pid)
            if used is not None:
                seen[pid] = role, used
        for pid, (role, used) in self._running.items():
            now = seen.get(pid)
            if now is None or now[0] != role or now[1] < used:  # ended; its number may be another's by now
                self._ended[role] = self._ended.get(role, 0.0) + used
        self._running = seen

    def seconds(self) -> dict[str, float]:
        """By role."""
        total = dict(self._ended)
        for role, used in self._running.values():
            total[role] = total.get(role, 0.0) + used
        return dict(sorted(total.items()))


def cpu_seconds(pid: int) -> float | None:
    """User and system time of a process."""
    try:
        # The name, in parentheses, may hold spaces and parentheses itself: count from the last one.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError):
        if pid != os.getpid():
            return None
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime


def memory_bytes(pid: int) -> int:
    """Proportional set size, so that pages shared by several processes of the node are counted once."""
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        return 0
    except OSError:
        pass
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        if pid != os.getpid():
            return 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def machine_memory_bytes() -> int:
    """The machine's physical memory."""
    return os.sysconf("SC_PHYS_PAGES") * _PAGE
