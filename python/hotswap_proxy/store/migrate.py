"""Brings the schema to the version this program knows.

A start first asks for the schema's version, one SELECT. Only when it is behind does alembic run, under a lock
so that two starts do not race, and in a child process: alembic is 10 MB which this process would never give
back.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from hotswap_proxy.errors import GatewayError, StoreUnavailable
from hotswap_proxy.postgresurl import SCHEMES, PostgresUrl
from hotswap_proxy.settings import PRIVATE, environment_without_secrets

from .database import failure, make_engine

# A migration leaves the program before it working (tests/store/test_migrate_compatible.py): for a moment both
# write, in an upgrade and in a fleet, and one has to be able to go back. So a schema that is one step newer
# than ours is as good as ours, and one that is two steps newer is not.
HEAD = "0003"
KNOWN = ("0001", "0002", "0003")  # oldest first; a test compares both with the migrations

_NEXT = f"{int(HEAD) + 1:04}"


def current(connection: Connection) -> str | None:
    """The schema's version; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def ensure_schema(place: Path | PostgresUrl) -> bool:
    """Migrate the SQLite file or PostgreSQL database when it is not at HEAD. True if something was to do.
    Blocks: call it in a thread.

    StoreUnavailable: the store cannot be used, or it was written by a newer program.
    """
    if isinstance(place, PostgresUrl):
        return not _is_current(place) and _migrate_in_child(place)  # which takes the lock
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(OSError):  # SQLite will say what is wrong; by itself it makes files as the umask allows
            _make_private(place).close()
        if _is_current(place):
            return False
        with _make_private(place.parent / f"{place.name}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return not _is_current(place) and _migrate_in_child(place)
    except OSError as error:
        raise failure(error, place) from error


def _make_private(path: Path) -> BinaryIO:
    """Open a file, made for its owner only if it is not there. SQLite's own files beside it get its mode."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb+")


def _is_current(place: Path | PostgresUrl) -> bool:
    version = _version(place)
    if version == _NEXT:
        return True
    if version is not None and version not in KNOWN:
        raise StoreUnavailable(
            f"the store's schema {version} is newer than this program's {HEAD}; "
            f"run the newer program ({place})"
        )
    return version == HEAD


def _version(place: Path | PostgresUrl) -> str | None:
    if isinstance(place, PostgresUrl):
        from . import postgres

        return postgres.run(place, postgres.READ, current)
    engine = make_engine(place, begin="BEGIN")
    try:
        with engine.connect() as connection:
            return current(connection)
    except (DBAPIError, OSError) as error:
        raise failure(error, place) from error
    finally:
        engine.dispose()


def _migrate_in_child(place: Path | PostgresUrl) -> bool:
    """False: another process was faster."""
    # -P: `-c` would look for our modules in the current directory first.
    command = [sys.executable, "-P", "-c", f"from {__name__} import main; main()"]
    # By its standard input: a URL has a password, and a command line is for everybody to read.
    what = place.text if isinstance(place, PostgresUrl) else f"{place}"
    done = subprocess.run(  # noqa: S603
        command, env=environment_without_secrets(), input=what, capture_output=True, text=True, check=False
    )
    if done.returncode:
        why = done.stderr.strip() or f"exit code {done.returncode}"
        raise StoreUnavailable(f"the store's schema cannot be migrated to {HEAD} ({place}: {why})")
    return done.stdout.strip() == _MIGRATED


_MIGRATED = "migrated"
_URLS = tuple(f"{scheme}://" for scheme in SCHEMES)


def migrate(place: Path | PostgresUrl) -> bool:
    """Run the migrations here and now, in one transaction. False: there were none to run."""
    if isinstance(place, PostgresUrl):
        from . import postgres

        return postgres.run(place, postgres.SCHEMA, _upgrade)
    engine = make_engine(place)
    try:
        with engine.begin() as connection:
            return _upgrade(connection)
    finally:
        engine.dispose()


def _upgrade(connection: Connection) -> bool:
    from alembic import command
    from alembic.config import Config

    before = current(connection)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before != HEAD


def main() -> None:
    """``migrate`` in a process of its own, of the place that standard input names: the reason of a failure is
    all it says.
    """
    os.umask(PRIVATE)
    what = sys.stdin.read()
    try:
        done = migrate(PostgresUrl.parse(what) if what.startswith(_URLS) else Path(what))
    except (DBAPIError, OSError) as error:
        sys.exit(str(getattr(error, "orig", error)))
    except GatewayError as error:
        sys.exit(error.message)
    print(_MIGRATED if done else "")
