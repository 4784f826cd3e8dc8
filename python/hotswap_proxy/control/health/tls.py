"""TLS of a probe: the same verification that the data plane makes, on a socket that never waits."""

from __future__ import annotations

import ssl
from _socket import socket as Socket  # noqa: N812
from pathlib import Path
from typing import NamedTuple

from hotswap_proxy.control.filewatch import Signature, signature

MAX_CONTEXTS = 1024


class TlsSpec(NamedTuple):
    """The ``tls`` of a backend as stored, defaults filled in. Files are names in the node's directory."""

    verify: bool
    server_name: str | None
    ca_file: str | None
    client_cert_file: str | None
    client_key_file: str | None

    def files(self) -> list[str]:
        return [name for name in self[2:] if name]


class Contexts:
    """One context for each set of settings, made anew when a file has changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[TlsSpec, tuple[list[Signature], ssl.SSLContext]] = {}

    def get(self, spec: TlsSpec) -> ssl.SSLContext:
        """OSError or ssl.SSLError when a file is not there or not usable."""
        settings = spec._replace(server_name=None)
        seen = [signature(self._directory / name) for name in spec.files()]
        found = self._made.get(settings)
        if found is None or found[0] != seen:
            if len(self._made) >= MAX_CONTEXTS:
                self._made.clear()
            found = self._made[settings] = (seen, self._make(spec))
        return found[1]

    def _make(self, spec: TlsSpec) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["http/1.1"])
        if not spec.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif spec.ca_file is not None:
            context.load_verify_locations(self._directory / spec.ca_file)
        else:
            context.load_default_certs()
        if spec.client_cert_file is not None and spec.client_key_file is not None:
            cert, key = self._directory / spec.client_cert_file, self._directory / spec.client_key_file
            context.load_cert_chain(cert, key, "")
        return context


class Channel:
    """TLS over a connected socket; what would wait raises BlockingIOError."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    def shake(self, connection: Socket) -> None:
        """Go on with the handshake; returns when it is complete."""
        while True:
            try:
                self._tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._flush(connection)
                self._fill(connection)
            finally:
                self._flush(connection)

    def send(self, connection: Socket, data: bytes) -> None:
        self._tls.write(data)
        self._flush(connection)

    def recv(self, connection: Socket, size: int) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._fill(connection)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError:
                return b""  # whoever needs to know where the answer ends looks at its length

    def _flush(self, connection: Socket) -> None:
        # Some kilobytes at most: they fit any socket's buffer.
        if self._outgoing.pending:
            connection.send(self._outgoing.read())

    def _fill(self, connection: Socket) -> None:
        data = connection.recv(16384)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()


def explain(error: ssl.SSLError) -> str:
    """A sentence for the status of a check."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    reason = (error.reason or "failed").replace("_", " ").lower()
    return f"TLS: {reason}"
