from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.postgres import PostgresServer, database_of

from hotswap_proxy.settings import Settings
from hotswap_proxy.store import FILE_NAME
from hotswap_proxy.store.migrate import ensure_schema
from tests.fleet.members import Member, member
from tests.gateway import anyio_backend, empty_store

__all__ = ["anyio_backend"]


@pytest.fixture(scope="session")
def migrated(the_postgres: PostgresServer) -> str:
    """The name of a database with the schema: migrations have tests of their own and take a second."""
    url = the_postgres.new_database(name="migrated")
    ensure_schema(Settings(database_url=url).store_place)
    return database_of(url)


@pytest.fixture
def database_url(postgres: PostgresServer, migrated: str) -> Iterator[str]:
    """A PostgreSQL database with the schema in it and nothing else."""
    url = postgres.new_database(template=migrated)
    yield url
    postgres.restore()
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Of nodes that share a store."""
    if request.param == "postgres":
        return Settings(data_dir=tmp_path, database_url=request.getfixturevalue("database_url"))
    (tmp_path / FILE_NAME).write_bytes(empty_store())
    return Settings(data_dir=tmp_path)


@pytest.fixture
async def pair(settings: Settings) -> AsyncIterator[tuple[Member, Member]]:
    """Two nodes that share a store."""
    async with member(settings, "a") as a, member(settings, "b") as b:
        yield a, b
