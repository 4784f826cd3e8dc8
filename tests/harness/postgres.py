"""A PostgreSQL server for tests.

``PostgresServer.new_database()`` gives the URL of an empty database which the role of the URL owns. That role
is no superuser, and its password has characters that a URL has to escape.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

from harness.server import Server, program

ADMIN, ADMIN_PASSWORD = "postgres", "the-admins-password"
ROLE, PASSWORD = "gateway", "p@ss:w/rd %41?#"
# Its text order is not the order of bytes, as in most installations.
_INITDB = ("--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
    "dynamic_shared_memory_type": "mmap",  # in its own directory: nothing is left when it is killed
    "logging_collector": "off",
    "autovacuum": "off",
}


class PostgresServer(Server):
    name = "postgres"
    run_as = "postgres" if os.geteuid() == 0 else None
    death_signal = stop_signal = signal.SIGQUIT  # at once, the sessions too

    def __init__(self) -> None:
        super().__init__()
        found = Path("/usr/lib/postgresql").glob("*/bin")
        self._bin = sorted(found, key=lambda path: int(path.parent.name.partition(".")[0]), reverse=True)
        self.data = self.directory / "data"
        self._numbers = itertools.count(1)
        self._initialize()
        self.start()
        self.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")

    def _initialize(self) -> None:
        password_file = self.directory / "password"
        password_file.write_text(ADMIN_PASSWORD)
        password_file.chmod(0o644)  # the directory is closed to others
        command = [program("initdb", *self._bin), "-D", str(self.data), "-U", ADMIN, "--no-sync"]
        command += ["-A", "scram-sha-256", f"--pwfile={password_file}", *_INITDB]
        identity: dict[str, Any] = self.identity()
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.directory, **identity)
        assert done.returncode == 0, done.stdout + done.stderr

    def command(self) -> list[str]:
        options = [f"-c{name}={value}" for name, value in _OPTIONS.items()]
        return [program("postgres", *self._bin), "-D", str(self.data), "-p", str(self.port), *options]

    def answers(self) -> bool:
        try:
            self.sql("SELECT 1")
        except (OSError, asyncpg.CannotConnectNowError):
            return False
        return True

    def sql(self, statement: str, database: str = "postgres", timeout: float = 10) -> list[Any]:
        """What the superuser gets for a statement; works inside a running event loop, too."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(
                host="127.0.0.1",
                port=self.port,
                user=ADMIN,
                password=ADMIN_PASSWORD,
                database=database,
                timeout=timeout,
                ssl=False,
            )
            try:
                return [tuple(row) for row in await connection.fetch(statement)]
            finally:
                await connection.close(timeout=10)

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, ask()).result()

    def url(self, database: str) -> str:
        return f"postgresql://{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template0", name: str | None = None) -> str:
        """The URL of a new database: empty, or a copy of ``template`` (a name), to which nobody may be
        connected.
        """
        name = name or f"test{next(self._numbers)}"
        self.sql(f'CREATE DATABASE "{name}" OWNER {ROLE} TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, with the sessions on it."""
        self.sql(f'DROP DATABASE IF EXISTS "{database_of(url)}" WITH (FORCE)')


def database_of(url: str) -> str:
    """The name of the database of one of these URLs."""
    return url.rpartition("/")[2]
