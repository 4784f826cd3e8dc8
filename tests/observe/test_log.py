"""Log lines: one shape from every process, whoever writes them; the call they belong to; no secrets."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hotswap_proxy.observe import log, structured
from hotswap_proxy.observe.secrets import HIDDEN, hide
from tests.logs import written

Lines = Callable[[], list[dict[str, Any]]]
LOGGER = logging.getLogger("hotswap_proxy.test")


@pytest.fixture(params=[log.configure, structured.configure], ids=["slim", "structlog"])
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """What has been logged, by either way of writing it."""
    with written(monkeypatch, request.param) as stream:
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object(lines: Lines) -> None:
    LOGGER.warning(
        "two\nlines \x1b[31m", extra={"route": "users", "status": 503, "event": "mine", "n": 1 << 70}
    )
    (line,) = lines()
    assert tuple(line)[:6] == log.HEAD
    assert (line["event"], line["level"], line["logger"]) == (
        "two\nlines \x1b[31m",
        "warning",
        "hotswap_proxy.test",
    )
    assert (line["route"], line["status"], line["event_"], line["n"]) == ("users", 503, "mine", 1 << 70)
    assert (line["pid"], line["nodeId"]) == (os.getpid(), "node-1")
    assert line["time"].endswith("Z") and len(line["time"]) == len("2026-01-01T00:00:00.000Z")


def test_an_exception_is_a_field(lines: Lines) -> None:
    try:
        raise RuntimeError("broken: postgresql://me:pass@word@db/x")
    except RuntimeError:
        LOGGER.exception("failed")
    LOGGER.debug("unseen")
    (line,) = lines()
    assert f"RuntimeError: broken: postgresql://{HIDDEN}@db/x" in line["exception"]
    assert "Traceback" in line["exception"] and set(line) == {*log.HEAD, "exception"}


def test_others_loggers_have_the_same_lines(lines: Lines) -> None:
    logging.getLogger("uvicorn.error").warning("%s is odd", "it", extra={"color_message": "\x1b[1mit is odd"})
    logging.getLogger("alembic.runtime.migration").info("Running upgrade")
    logging.getLogger("alembic.runtime.migration").error("password=hunter2")
    first, second = lines()
    assert (first["event"], set(first)) == ("it is odd", set(log.HEAD))
    assert second["event"] == f"password={HIDDEN}"


def test_what_is_no_text_is_logged_all_the_same(lines: Lines) -> None:
    LOGGER.info(
        "x",
        extra={
            "path": "a\udcffb",
            "bytes_": b"\xff",
            "set_": {1},
            "thing": object,
            "deep": [[[[[[[[[1]]]]]]]]],
        },
    )
    (line,) = lines()
    assert line["path"] == "a\udcffb"
    assert line["bytes_"] == "\\xff"
    assert line["set_"] == [1]


def test_a_call_is_in_the_lines_of_its_tasks_and_threads_until_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with written(monkeypatch):
        formatter = logging.getLogger().handlers[0].formatter
    assert formatter is not None
    seen: list[dict[str, Any]] = []

    def note(event: str) -> None:
        made = logging.LogRecord("x", logging.INFO, __file__, 1, event, (), None)
        seen.append(json.loads(formatter.format(made)))

    async def outlives(ended: asyncio.Event) -> None:
        await ended.wait()
        note("after")

    async def one(trace: str, user: str, ended: asyncio.Event) -> asyncio.Task[None]:
        with structured.call(trace):
            note("before")
            structured.caller(user)
            await asyncio.to_thread(note, "thread")
            await asyncio.create_task(asyncio.to_thread(note, "task"))
            return asyncio.create_task(outlives(ended))

    async def both() -> None:
        ended = asyncio.Event()
        late = await asyncio.gather(
            asyncio.create_task(one("t1", "ann", ended)), asyncio.create_task(one("t2", "ben", ended))
        )
        note("outside")
        ended.set()
        await asyncio.gather(*late)

    asyncio.run(both())
    structured.caller("nobody")  # without a call: nothing
    found = {(line["event"], line.get("traceId"), line.get("user")) for line in seen}
    assert found == {
        *(("before", trace, None) for trace in ("t1", "t2")),
        *((word, "t1", "ann") for word in ("thread", "task")),
        *((word, "t2", "ben") for word in ("thread", "task")),
        ("outside", None, None),
        ("after", None, None),
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@example.com/x?y=1", "https://***@example.com/x?y=1"),
        ("redis://:p@ss@host:6379", "redis://***@host:6379"),
        ("GET https://example.com/@me", "GET https://example.com/@me"),
        ("Authorization: Bearer abc.def123", "Authorization: ***"),
        ("proxy-authorization: Basic dXNlcjpwYXNz\nHost: x", "proxy-authorization: ***\nHost: x"),
        ("Cookie: a=b; c=d\nnext", "Cookie: ***\nnext"),
        ("sent Bearer abcdefgh1234 to it", "sent Bearer *** to it"),
        ("a basic rule is that the bearer of it", "a basic rule is that the bearer of it"),
        ("the token is not valid or has expired", "the token is not valid or has expired"),
        ("HOTSWAP_WEBHOOK_SECRET: the secret must have at least 16 bytes",) * 2,
        ("?access_token=abc&x=1", "?access_token=***&x=1"),
        ("connect(password='hunter 2', user='me')", "connect(password=***, user='me')"),
        ("""{"client_secret": "s", 'apiKey': 'k'}""", """{"client_secret": "***", 'apiKey': "***"}"""),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "***"),
        ("key hsk_abc_0123456789abcdef was used", "key *** was used"),
    ],
)  # fmt: skip
def test_secrets_in_a_text(text: str, shown: str) -> None:
    assert hide(text) == shown


def test_secrets_by_the_name_of_a_field() -> None:
    fields = {
        "password": "x", "jwtSecret": "x", "Authorization": "x", "api_key": "x", "set-cookie": ["x", "y"],
        "apiKeyId": "7", "tokens": "three", "secret": None, "token": 3, "headerName": "X-Token",
        "nested": [{"token": "x", "route": "users"}],
    }  # fmt: skip
    assert hide(fields) == {
        "password": HIDDEN, "jwtSecret": HIDDEN, "Authorization": HIDDEN, "api_key": HIDDEN,
        "set-cookie": [HIDDEN, HIDDEN], "apiKeyId": "7", "tokens": "three", "secret": None, "token": 3,
        "headerName": "X-Token", "nested": [{"token": HIDDEN, "route": "users"}],
    }  # fmt: skip


def test_hiding_takes_time_in_proportion_to_the_text() -> None:
    """No pattern tries again and again: each of these would take minutes if one did."""
    for evil in (
        "://" * 300_000,
        "a" * 1_000_000,
        "token" * 200_000,
        "cookie=" * 100_000,
        "bearer " * 100_000,
        '"token": "' * 50_000,
    ):
        hide(evil)


def test_structlog_is_imported_without_what_it_does_not_need() -> None:
    code = (
        "import sys; from hotswap_proxy.observe import structured; "
        "print(sorted({'rich', 'greenlet', 'attr', 'pygments'} & set(sys.modules)));"
        "import rich, greenlet; print(rich.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "rich"]


def test_workers_do_without_structlog() -> None:
    code = "import sys, hotswap_proxy.worker.main; print('structlog' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
