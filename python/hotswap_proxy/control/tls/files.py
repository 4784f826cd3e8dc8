"""The directory of files that backends may name: CAs, and certificates of the gateway itself."""

from __future__ import annotations

import logging
from pathlib import Path

import orjson

from hotswap_proxy.control.filewatch import Signature, signature
from hotswap_proxy.control.tls.bundle import read_text

log = logging.getLogger("hotswap_proxy.control")

MAX_FILES = 1000


class TlsFiles:
    """What is in the directory, read again when it has changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[str, Signature] = {}

    def changed(self) -> bool:
        """Whether :meth:`renew` would find something new."""
        return self._look() != self._seen

    def renew(self) -> dict[str, str] | None:
        """All files by name, if there was a change since the last call; else None."""
        found = self._look()
        if found == self._seen:
            return None
        self._seen = found
        texts: dict[str, str] = {}
        for name in found:
            try:
                texts[name] = read_text(self._directory / name)
            except (OSError, ValueError) as error:
                log.warning("a file for TLS cannot be read", extra={"file": name, "reason": str(error)})
        return texts

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
