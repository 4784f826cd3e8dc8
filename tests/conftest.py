"""Real servers for the tests that ask for one: started at the first use, ended with the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.postgres import PostgresServer
from harness.redisserver import RedisServer


@pytest.fixture(scope="session")
def the_postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
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
