"""From the files that the options name to the bundle that workers use (``_core.Worker.use_tls``)."""

from __future__ import annotations

import logging
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from hotswap_proxy import _core
from hotswap_proxy.control.filewatch import Signature, signature
from hotswap_proxy.settings import Settings

log = logging.getLogger("hotswap_proxy.control")

MAX_FILE = 1 << 20  # bytes; the bundle of a public CA has a quarter of that
TICKET_SECONDS = 6 * 3600  # after which tickets are sealed with a new key; the one before still opens them
SOON_SECONDS = 14 * 86400
_FIELD = re.compile(r"certificates\[(\d+)\]\.(chain|key): (.*)", re.DOTALL)
_CLIENT_CA = "clientCa: "


class TlsError(Exception):
    """Files or options that cannot be used; the text names the option and the file."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate as it is shown. Times are seconds since 1970."""

    file: str
    names: list[str]
    not_before: int
    not_after: int

    def answer(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "names": self.names,
            "notBefore": _rfc3339(self.not_before),
            "notAfter": _rfc3339(self.not_after),
        }


class Bundle:
    """What was last read without a fault. ``document`` is complete but for the ticket keys."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tickets: list[str] = []
        self._tickets_of: str = ""  # digest of what sessions were made under
        self._renewed = 0.0
        self._document: dict[str, Any] = {}
        self.certificates: list[Shown] = []

    def paths(self) -> list[Path]:
        """All files that the options name."""
        settings = self._settings
        paths = [*settings.tls_cert, *settings.tls_key]
        return [Path(path) for path in paths] + ([settings.tls_client_ca] if settings.tls_client_ca else [])

    def signature(self) -> tuple[Signature, ...]:
        return tuple(signature(path) for path in self.paths())

    def load(self) -> None:
        """Read the files again; TlsError, and what was read before stays."""
        document = read(self._settings)
        try:
            found = _core.check_tls(orjson.dumps(document))
        except ValueError as error:
            raise TlsError(self._explain(str(error))) from None
        self.certificates = [
            Shown(file, *facts) for file, facts in zip(self._settings.tls_cert, found, strict=True)
        ]
        self._document = document
        self._warn()
        # A session must not outlive the rules under which its client was let in.
        rules = (document.get("clientAuth"), document.get("clientCa"), document["minVersion"])
        made_under = sha256(orjson.dumps(rules)).hexdigest()
        if made_under != self._tickets_of:
            self._tickets_of = made_under
            self._tickets = []
            self.renew_tickets()

    def renew_tickets(self) -> bool:
        """Make a new ticket key when it is time; True if so."""
        now = time.monotonic()
        if self._tickets and now < self._renewed + TICKET_SECONDS:
            return False
        self._tickets = [os.urandom(32).hex(), *self._tickets[:1]]
        self._renewed = now
        return True

    def descriptor(self) -> int:
        """A sealed file with the bundle, for the workers."""
        import fcntl

        document = self._document | {"ticketKeys": self._tickets, "ticketSeconds": TICKET_SECONDS}
        fd = os.memfd_create("tls", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        rest = memoryview(orjson.dumps(document))
        while rest:
            rest = rest[os.write(fd, rest) :]
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd

    def _explain(self, problem: str) -> str:
        if found := _FIELD.fullmatch(problem):
            is_key = found[2] == "key"
            file = (self._settings.tls_key if is_key else self._settings.tls_cert)[int(found[1])]
            return f"--tls-{'key' if is_key else 'cert'} {file}: {found[3]}"
        if problem.startswith(_CLIENT_CA):
            return f"--tls-client-ca {self._settings.tls_client_ca}: {problem.removeprefix(_CLIENT_CA)}"
        return problem

    def _warn(self) -> None:
        now = time.time()
        for shown in self.certificates:
            facts = {"file": shown.file, "names": shown.names, "notAfter": _rfc3339(shown.not_after)}
            if now > shown.not_after:
                log.warning("a certificate has expired", extra=facts)
            elif now > shown.not_after - SOON_SECONDS:
                log.warning("a certificate expires soon", extra=facts)
            elif now < shown.not_before:
                log.warning("a certificate is not valid yet", extra=facts)
            if not shown.names:
                log.warning("a certificate has no names (subjectAltName)", extra=facts)
        for path in self._settings.tls_key:
            with suppress(OSError):  # replaced at this moment: its successor is looked at as well
                if Path(path).stat().st_mode & 0o007:
                    log.warning("a private key can be read by every user", extra={"file": path})


def read(settings: Settings) -> dict[str, Any]:
    """The bundle as the options say, unchecked but for what can be read. TlsError."""
    certs, keys = settings.tls_cert, settings.tls_key
    if len(certs) != len(keys):
        raise TlsError(
            f"{len(certs)} --tls-cert and {len(keys)} --tls-key: each certificate needs its key, in order"
        )
    if not certs:
        raise TlsError("--proxy-tls needs --tls-cert and --tls-key")
    document: dict[str, Any] = {
        "certificates": [
            {"chain": _text("--tls-cert", Path(cert)), "key": _text("--tls-key", Path(key))}
            for cert, key in zip(certs, keys, strict=True)
        ],
        "clientAuth": settings.tls_client_auth,
        "minVersion": settings.tls_min_version,
        "hstsSeconds": settings.hsts_max_age,
    }
    if settings.tls_client_ca is not None:
        document["clientCa"] = _text("--tls-client-ca", settings.tls_client_ca)
    elif settings.tls_client_auth != "off":
        raise TlsError(f"--tls-client-auth {settings.tls_client_auth} needs --tls-client-ca")
    return document


def _text(option: str, path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise TlsError(f"{option} {path}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise TlsError(f"{option} {path}: {error}") from None


def read_text(path: Path) -> str:
    """A PEM file, bounded. OSError, or ValueError with a rule."""
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(f"the file is larger than {MAX_FILE} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("the file is no text; certificates and keys are needed in PEM form") from None


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
