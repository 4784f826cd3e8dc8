"""Each migration leaves the program before it working: an upgrade and a fleet have both at work for a moment,
and an operator who goes back has the newer schema under the older program.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, inspect

from hotswap_proxy.errors import StoreUnavailable
from hotswap_proxy.store import FILE_NAME, migrate
from hotswap_proxy.store.database import make_engine

FIRST_BOUND = "0002"  # the rule holds for migrations after this one


class Table(NamedTuple):
    """What a program that knows this table relies on, and what its writes have to satisfy."""

    columns: dict[str, dict[str, Any]]
    unique: set[tuple[str, ...]]
    foreign: set[tuple[str, ...]]


def upgrade(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def tables(connection: Connection) -> dict[str, Table]:
    found = inspect(connection)
    return {
        name: Table(
            {column["name"]: dict(column) for column in found.get_columns(name)},
            {tuple(each["column_names"]) for each in found.get_unique_constraints(name)}
            | {tuple(map(str, each["column_names"])) for each in found.get_indexes(name) if each["unique"]},
            {tuple(each["constrained_columns"]) for each in found.get_foreign_keys(name)},
        )
        for name in found.get_table_names()
    }


def incompatibilities(before: dict[str, Table], after: dict[str, Table]) -> list[str]:
    """What a program that was written for ``before`` trips over."""
    found = []
    for name, old in before.items():
        if (new := after.get(name)) is None:
            found.append(f"table {name} is gone")
            continue
        for column, was in old.columns.items():
            now = new.columns.get(column)
            if now is None:
                found.append(f"{name}.{column} is gone")
            elif was["nullable"] and not now["nullable"]:
                found.append(f"{name}.{column} has to be given now")
            elif str(was["type"]) != str(now["type"]):
                found.append(f"{name}.{column} is {now['type']} now")
        for column, now in new.columns.items():
            if column not in old.columns and not now["nullable"] and now["default"] is None:
                found.append(f"{name}.{column} is new and has no default")
        if new.unique - old.unique or new.foreign - old.foreign:
            found.append(f"{name} has a new constraint")
    return found


def test_the_program_before_works_with_the_schema_after(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / FILE_NAME)
    before: dict[str, Table] = {}
    for revision in (each for each in migrate.KNOWN if each >= FIRST_BOUND):
        upgrade(engine, revision)
        with engine.connect() as connection:
            after = tables(connection)
        assert incompatibilities(before, after) == [], revision
        before = after
    engine.dispose()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE backends DROP COLUMN document",
        "ALTER TABLE backends ADD COLUMN more TEXT NOT NULL DEFAULT ''; DROP TABLE nodes",
        "CREATE UNIQUE INDEX one ON nodes (revision)",
    ],
)
def test_what_would_break_it_is_found(tmp_path: Path, change: str) -> None:
    migrate.migrate(tmp_path / FILE_NAME)
    engine = make_engine(tmp_path / FILE_NAME)
    with engine.connect() as connection:
        before = tables(connection)
    with sqlite3.connect(tmp_path / FILE_NAME) as raw:
        raw.executescript(change)
    with engine.connect() as connection:
        assert incompatibilities(before, tables(connection))
    engine.dispose()


def test_one_step_newer_is_as_good_as_ours_and_two_are_not(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    migrate.migrate(path)
    for ahead in (1, 2):
        with sqlite3.connect(path) as connection:
            version = f"{int(migrate.HEAD) + ahead:04}"
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        if ahead == 1:
            assert migrate.ensure_schema(path) is False
        else:
            with pytest.raises(StoreUnavailable, match="newer program"):
                migrate.ensure_schema(path)
