"""The file that the access log goes to: opened with care, and opened anew after it was renamed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hotswap_proxy.settings import STANDARD_OUTPUT

MODE = 0o640  # the group may read it: whoever ships logs need not be the gateway
_FLAGS = os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY


class LogFileError(OSError):
    """The file cannot be written to; the message is a sentence for the operator."""


class LogFile:
    """A place for lines. ``fd`` is what to write to; each :meth:`reopen` may change it.

    Used by one thread at a time. LogFileError at the start if nothing can be written there.
    """

    def __init__(self, target: str) -> None:
        """``target``: a path, or ``-`` for standard output."""
        self.path = None if target == STANDARD_OUTPUT else Path(target).absolute()
        if self.path is not None:
            self.fd = _open(self.path)
        else:
            self.fd = os.dup(1)
            os.set_blocking(self.fd, True)  # whose pipe it was before: lines wait, and are not thrown away

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return "standard output" if self.path is None else str(self.path)

    def reopen(self) -> bool:
        """Go on in the file that has the name now; False: it has none, as standard output.

        LogFileError leaves everything as it was, so that lines go on to be written to the renamed file.
        """
        if self.path is None:
            return False
        fresh = _open(self.path)
        old, self.fd = self.fd, fresh
        os.close(old)
        return True

    def close(self) -> None:
        """Afterwards there is no ``fd``."""
        os.close(self.fd)


def _open(path: Path) -> int:
    try:
        return _open_carefully(path)
    except LogFileError:
        raise
    except OSError as error:
        reason = error.strerror
        if isinstance(error, FileNotFoundError):
            missing = "the file that it links to" if path.is_symlink() else f"the directory {path.parent}"
            reason = f"{missing} does not exist"
        raise LogFileError(f"cannot write the access log {path}: {reason}") from error


def _open_carefully(path: Path) -> int:
    """Made if it is not there, never truncated. What is opened is checked, not what was there before."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    except FileExistsError:
        pass
    else:
        os.fchmod(fd, MODE)  # the umask of the node would leave only the owner
        return fd
    link = path.lstat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid()):
        raise LogFileError(f"cannot write the access log {path}: it is a link that another user has made")
    # A pipe is opened for reading too: so it waits for no reader, and a reader that restarts misses nothing.
    pipe = stat.S_ISFIFO(path.stat().st_mode)
    fd = os.open(path, (os.O_RDWR if pipe else os.O_WRONLY) | _FLAGS)
    found = os.fstat(fd)
    if not stat.S_ISLNK(link.st_mode) and not os.path.samestat(link, found):
        os.close(fd)
        raise LogFileError(f"cannot write the access log {path}: it was replaced while it was opened")
    if stat.S_ISREG(found.st_mode) and found.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        os.close(fd)
        raise LogFileError(f"cannot write the access log {path}: it is another user's file")
    return fd
