"""The data directory of a node: its locks, and where orphaned workers find a new control process."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from hotswap_proxy.control.succession import Succession
from hotswap_proxy.settings import PRIVATE

log = logging.getLogger("hotswap_proxy.control")


class DataDirError(RuntimeError):
    """The data directory cannot be used."""


class DataDir:
    """Held for the life of the control process.

    ``node.lock`` is locked by the control process alone. ``workers.lock`` is locked (shared) by an open file
    that every worker inherits, so it is locked as long as any worker lives, whatever became of its control
    process.

    A successor gets ``lock`` from its predecessor: one open file, locked as long as either of them has it. It
    does not show itself in the directory before ``take``.
    """

    def __init__(self, path: Path, lock: int | None = None) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._node_fd = _open(path / "node.lock") if lock is None else lock
            if not os.path.samestat(os.fstat(self._node_fd), (path / "node.lock").stat()):
                raise DataDirError(f"the lock of the data directory {path} was replaced while a node has it")
            self.presence_fd = _open(path / "workers.lock")
        except OSError as error:
            raise DataDirError(f"cannot use the data directory {path}: {error.strerror}") from error
        if not _try_lock(self._node_fd, fcntl.LOCK_EX):
            holder = os.pread(self._node_fd, 20, 0).decode(errors="replace").strip() or "unknown"
            raise DataDirError(f"the data directory {path} is in use by another node (process {holder})")
        self.path = path
        if path.stat().st_mode & PRIVATE:
            log.warning(
                "others may enter the data directory; it holds password hashes and the token secret",
                extra={"path": str(path), "mode": f"{path.stat().st_mode & 0o777:04o}", "wanted": "0700"},
            )
        # Workers of an earlier control process, which died without draining them.
        self.orphans = not _try_lock(self.presence_fd, fcntl.LOCK_EX)
        fcntl.flock(self.presence_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        self.succession: Succession | None = None
        if lock is None:
            self.take()

    @property
    def lock(self) -> int:
        """The open file that is locked, for a successor."""
        return self._node_fd

    def take(self) -> Succession:
        """Be found here: by the process id in the lock, and where orphaned workers look."""
        os.ftruncate(self._node_fd, 0)
        os.pwrite(self._node_fd, f"{os.getpid()}\n".encode(), 0)
        self.succession = Succession(self.path)
        return self.succession

    def let_go(self) -> None:
        """Be found here no more; the lock stays. ``take`` takes it back."""
        if self.succession is not None:
            self.succession.close()
            self.succession = None

    def leave(self) -> None:
        """Leave the directory to the successor, which has the lock too."""
        self.let_go()
        if self._node_fd >= 0:
            os.close(self._node_fd)
            self._node_fd = -1

    async def close(self) -> None:
        """Give the directory back."""
        self.leave()
        os.close(self.presence_fd)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
