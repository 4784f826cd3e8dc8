"""One certificate for all proxies under test: ECDSA P-256, signed by itself, made for the run."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import machine


@dataclass(frozen=True)
class Certificate:
    chain: Path
    key: Path

    @property
    def together(self) -> Path:
        """Both in one file, as HAProxy wants them."""
        return self.chain.with_name("both.pem")


def make(directory: Path) -> Certificate:
    directory.mkdir(parents=True, exist_ok=True)
    made = Certificate(directory / "cert.pem", directory / "key.pem")
    subprocess.run(
        [
            machine.program("openssl"), "req", "-x509", "-newkey", "ec",
            "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=bench.test", "-addext", "subjectAltName=DNS:bench.test",
            "-keyout", str(made.key), "-out", str(made.chain),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    made.together.write_bytes(made.chain.read_bytes() + made.key.read_bytes())
    return made
