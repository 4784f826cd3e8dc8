"""The schema: made once, by one process, and never by a guess."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.store import FILE_NAME, migrate
from hotswap_proxy.store.database import make_engine
from hotswap_proxy.store.tables import metadata


def test_the_program_knows_all_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [migrate.HEAD]
    assert tuple(reversed([one.revision for one in script.walk_revisions()])) == migrate.KNOWN


def test_the_migrations_make_the_tables_that_the_queries_use(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    migrate.migrate(path)
    engine = make_engine(path)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_second_start_has_nothing_to_do_and_does_not_import_alembic(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    assert migrate.ensure_schema(path) is True
    code = (
        "import sys; from pathlib import Path; from hotswap_proxy.store.migrate import ensure_schema;"
        f"assert ensure_schema(Path({str(path)!r})) is False; assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_file_is_its_owners_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "made" / FILE_NAME
    before = os.umask(0)
    try:
        assert migrate.ensure_schema(path) is True
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) & 0o077 for file in path.parent.iterdir()] == [0, 0]


def test_starts_at_the_same_time_do_not_race(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hotswap_proxy.store.migrate import ensure_schema;"
        "sys.stdin.read(1); print(ensure_schema(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / FILE_NAME)]
    pipe = subprocess.PIPE
    starts = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    for start in starts:  # all of them wait here with everything imported
        assert start.stdin is not None
        start.stdin.write("x")
        start.stdin.flush()
    told = [start.communicate(timeout=60) for start in starts]
    assert [start.returncode for start in starts] == [0, 0, 0], told
    assert sorted(out.strip() for out, _ in told) == ["False", "False", "True"], "one of them migrated"


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    migrate.migrate(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="newer program"):
        migrate.ensure_schema(path)


def test_a_failed_migration_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (x)")  # in the way of the migration's fifth table
    with pytest.raises(StoreUnavailable, match=r"cannot be migrated.*users"):
        migrate.ensure_schema(path)
    with sqlite3.connect(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    assert tables == {"users"}


def test_versions_from_before_there_was_staging_were_live(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    engine = make_engine(path)
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text("INSERT INTO route_versions VALUES ('rt-1', '1.0', 1, '{}', '2026-01-31T12:00:00Z', 'ann')")
        )
    engine.dispose()
    migrate.migrate(path)
    engine = make_engine(path)
    with engine.connect() as connection:
        row = connection.execute(text("SELECT version, created_by, description, live_at FROM route_versions"))
        assert row.one() == ("1.0", "ann", None, "2026-01-31T12:00:00Z")
    engine.dispose()
