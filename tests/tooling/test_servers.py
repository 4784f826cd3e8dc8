"""The servers that other tests use: that they can be killed, paused and started again, and leave nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness.postgres import PostgresServer
from harness.redisserver import RedisServer
from harness.wait import eventually

TESTS = Path(__file__).resolve().parent.parent


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_postgres_keeps_its_data_through_a_kill_and_hangs_while_paused(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    postgres.sql('CREATE TABLE t (x text COLLATE pg_catalog."default")', name)
    postgres.sql("INSERT INTO t VALUES ('a'), ('B')", name)
    postgres.kill()
    with pytest.raises(OSError):
        postgres.sql("SELECT 1")
    postgres.start()
    assert postgres.sql("SELECT x FROM t ORDER BY x", name) == [("a",), ("B",)], "not the order of bytes"
    postgres.pause()
    with pytest.raises(TimeoutError):
        postgres.sql("SELECT 1", timeout=0.3)
    postgres.resume()
    assert postgres.sql("SELECT 1") == [(1,)]
    postgres.drop_database(url)


def test_redis_is_killed_and_started_again(redis_server: RedisServer) -> None:
    assert redis_server.command_raw("SET", "a", "1") == b"+OK\r\n"
    redis_server.kill()
    with pytest.raises(OSError):
        redis_server.command_raw("PING")
    redis_server.start()
    assert redis_server.command_raw("GET", "a") == b"$-1\r\n"


def test_a_redis_with_a_password() -> None:
    server = RedisServer("secret word")
    try:
        assert server.command_raw("PING") == b"+PONG\r\n" and "secret%20word@" in server.url
        server.password = None
        assert server.command_raw("PING").startswith(b"-NOAUTH")
    finally:
        server.close()
    assert not server.directory.exists()


def test_servers_end_with_the_run_that_started_them() -> None:
    code = (
        "import os, signal\n"
        "from harness.redisserver import RedisServer\n"
        "server = RedisServer()\n"
        "print(server._process.pid, server.directory, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environ = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    pid, directory = done.stdout.split()
    eventually(lambda: _gone(int(pid)))
    shutil.rmtree(directory)
