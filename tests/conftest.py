"""Real servers for the tests that ask for one: started at the first use, ended with the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.postgres import PostgresServer
from harness.redisserver import RedisServer

from hotswap_proxy.postgresurl import PostgresUrl
from hotswap_proxy.store.migrate import migrate

MIGRATED = "migrated"  # a database to make copies of


@pytest.fixture(scope="session")
def the_postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    migrate(PostgresUrl.parse(server.new_database(name=MIGRATED)))
    yield server
    server.close()


@pytest.fixture(scope="session")
def the_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def postgres(the_postgres: PostgresServer) -> Iterator[PostgresServer]:
    """The run's PostgreSQL server. A test may kill, pause and stop it: it is put right afterwards."""
    the_postgres.restore()
    yield the_postgres
    the_postgres.restore()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """An empty database."""
    url = postgres.new_database()
    yield url
    postgres.restore()
    postgres.drop_database(url)


@pytest.fixture
def redis_server(the_redis: RedisServer) -> Iterator[RedisServer]:
    """The run's Redis server, empty. A test may kill, pause and stop it: it is put right afterwards."""
    the_redis.restore()
    the_redis.clear()
    yield the_redis
    the_redis.restore()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Runs a test with both databases: None, or the URL of a PostgreSQL database with an empty schema.

    ``@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)`` is for what is about one of them.
    """
    if request.param == "sqlite":
        yield None
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database(MIGRATED)
    yield url
    server.restore()
    server.drop_database(url)
