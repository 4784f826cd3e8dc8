"""The directory of files that backends may name: CAs, and certificates of the gateway itself."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import orjson

from hotswap_proxy.control.filewatch import Signature, signature
from hotswap_proxy.control.tls.bundle import read_text

log = logging.getLogger("hotswap_proxy.control")

MAX_FILES = 1000


class Found(NamedTuple):
    """What is in the directory: the state of each file, and those that can be read as text."""

    states: dict[str, Signature]
    texts: dict[str, str]


class TlsFiles:
    """What is in the directory, read again as long as it is not what was noted last."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._noted: dict[str, Signature] = {}

    def changed(self) -> bool:
        """Whether :meth:`renew` would find something new."""
        return self._look() != self._noted

    def renew(self) -> Found | None:
        """All files, if they differ from those that were noted; else None."""
        states = self._look()
        if states == self._noted:
            return None
        texts: dict[str, str] = {}
        for name in states:
            path = self._directory / name
            try:
                if path.is_file():  # reading a pipe would wait for whoever writes to it
                    texts[name] = read_text(path)
            except (OSError, ValueError) as error:
                log.warning("a file for TLS cannot be read", extra={"file": name, "reason": str(error)})
        return Found(states, texts)

    def note(self, found: Found) -> None:
        """These are in use now, or are known to be of no use."""
        self._noted = found.states

    def _look(self) -> dict[str, Signature]:
        try:
            names = sorted(path.name for path in self._directory.iterdir() if not path.name.startswith("."))
        except OSError:
            return {}
        found = {name: signature(self._directory / name) for name in names[:MAX_FILES]}
        return {name: state for name, state in found.items() if state is not None}


def with_files(payload: bytes, files: dict[str, str]) -> bytes:
    """A change set for the compiler with these files in it."""
    head = b'{"tlsFiles":' + orjson.dumps(files)
    return head + (b"}" if payload == b"{}" else b"," + payload[1:])
