"""Settings of one node: every option of ``hotswap-proxy run``, with its default.

A plain dataclass, so that the slim processes (spawner, workers) can import it without pydantic. Each field has an
environment variable ``HOTSWAP_<FIELD>``; the command line wins over the environment, which wins over the default.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

HttpCodec = Literal["auto", "native", "httptools"]
EnvironmentName = Literal["Development", "QA", "Staging", "Production"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one node runs with. Durations are seconds, sizes are bytes."""

    config: Path | None = None
    proxy: str = "0.0.0.0:8000"  # noqa: S104  the proxy's job is to be reachable
    admin: str = "127.0.0.1:5000"
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    data_dir: Path = Path("data")
    http: HttpCodec = "auto"
    environment: EnvironmentName = "Development"
    node_id: str = field(default_factory=socket.gethostname)
    database_url: str | None = None  # None: SQLite in the data directory
    admin_username: str | None = None
    admin_password: str | None = field(default=None, repr=False)
    jwt_secret: str | None = field(default=None, repr=False)  # None: made once, kept in the data directory
    token_lifetime: float = 8 * 3600
    drain_timeout: float = 30.0
    keepalive_timeout: float = 75.0
    header_timeout: float = 10.0
    max_request_body: int = 10 * 1024 * 1024
    max_response_body: int = 10 * 1024 * 1024
    max_header_bytes: int = 64 * 1024
    allowed_backend_hosts: tuple[str, ...] = ()  # may be plain http in Production, link-local or metadata addresses
    log_level: Literal["debug", "info", "warning", "error"] = "info"
