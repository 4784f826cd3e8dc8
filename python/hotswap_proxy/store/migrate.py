"""Brings the schema to the version this program knows.

A start first asks for the schema's version, one SELECT. Only when it is behind does alembic run, under a
file lock so that two starts do not race, and in a child process: alembic is 10 MB which this process would
never give back.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.settings import PRIVATE, SECRET_VARIABLES

from .database import failure, make_engine

HEAD = "0002"
KNOWN = ("0001", "0002")  # oldest first; a test compares both with the migrations


def current(connection: Connection) -> str | None:
    """The schema's version; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def ensure_schema(path: Path) -> bool:
    """Migrate the SQLite file when it is not at HEAD. True if something was to do. Blocks: call it in a
    thread.

    StoreUnavailable: the file cannot be used, or it was written by a newer program.
    """
    engine = make_engine(path, begin="BEGIN")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(OSError):  # SQLite will say what is wrong; by itself it makes files as the umask allows
            _make_private(path).close()
        if _is_current(engine, path):
            return False
        with _make_private(path.parent / f"{path.name}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_current(engine, path):  # another process did it while this one waited
                return False
            engine.dispose()
            _migrate_in_child(path)
        return True
    except (DBAPIError, OSError) as error:
        raise failure(error, path) from error
    finally:
        engine.dispose()


def _make_private(path: Path) -> BinaryIO:
    """Open a file, made for its owner only if it is not there. SQLite's own files beside it get its mode."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb+")


def _is_current(engine: Engine, path: Path) -> bool:
    with engine.connect() as connection:
        version = current(connection)
    if version is not None and version not in KNOWN:
        raise StoreUnavailable(
            f"the store's schema {version} is newer than this program's {HEAD}; "
            f"run the newer program ({path})"
        )
    return version == HEAD


def _migrate_in_child(path: Path) -> None:
    # -P: `-c` would look for our modules in the current directory first.
    command = [sys.executable, "-P", "-c", f"from {__name__} import main; main()", str(path)]
    environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        why = done.stderr.strip() or f"exit code {done.returncode}"
        raise StoreUnavailable(f"the store's schema cannot be migrated to {HEAD} ({path}: {why})")


def migrate(path: Path) -> None:
    """Run the migrations here and now, in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = make_engine(path)
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def main() -> None:
    """``migrate`` in a process of its own: the reason of a failure is all it prints."""
    os.umask(PRIVATE)
    try:
        migrate(Path(sys.argv[1]))
    except (DBAPIError, OSError) as error:
        sys.exit(str(getattr(error, "orig", error)))
