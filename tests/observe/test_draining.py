"""The thread that drains the journal, with a journal that does what the test says."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotswap_proxy.observe import draining as module
from hotswap_proxy.observe.draining import Draining
from hotswap_proxy.observe.logfile import LogFile
from tests.processes import eventually

NOTHING = {"records": 0, "lines": 0, "linesLost": 0, "error": None, "dropped": 0, "corrupt": 0}
pytestmark = pytest.mark.anyio


class Journal:
    """Answers what is put into ``answers``, a function being called for its answer; then nothing."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any] | Callable[[int], dict[str, Any]]] = []
        self.looks = 0
        self.fds: list[int] = []
        self.dropped = 0

    def drain(self, log_fd: int) -> dict[str, Any]:
        self.looks += 1
        self.fds.append(log_fd)
        if not self.answers:
            return NOTHING
        answer = self.answers.pop(0)
        return NOTHING | (answer(log_fd) if callable(answer) else answer)


@pytest.fixture
def journal() -> Journal:
    return Journal()


async def test_it_counts_and_hands_on_spans(journal: Journal, tmp_path: Path) -> None:
    spans: list[bytes] = []
    draining = Draining(journal, LogFile(str(tmp_path / "log")), spans.append)
    journal.answers = [
        {"records": 3, "lines": 2, "spans": b"one"},
        {"records": 1, "lines": 1, "linesLost": 4, "error": "No space left on device"},
        {"records": 1, "corrupt": 6, "spans": b""},
    ]
    journal.dropped = 5
    draining.start()
    await draining.stop()
    counts = draining.counts
    assert (counts.lines, counts.lost, counts.broken) == (3, 4, 6)
    assert spans == [b"one"]
    text = "".join(draining.metrics())
    for line in (
        "gateway_access_log_lines_total 3",
        "gateway_access_log_errors_total 4",
        'gateway_journal_dropped_total{reason="full"} 5',
        'gateway_journal_dropped_total{reason="broken"} 6',
    ):
        assert line in text.splitlines()


async def test_at_the_end_it_looks_until_there_is_nothing(journal: Journal) -> None:
    draining = Draining(journal, None)
    journal.answers = [{"records": 1}] * 10
    draining.start()
    await draining.stop()
    assert not journal.answers
    assert set(journal.fds) == {-1}
    assert "access_log" not in "".join(draining.metrics())


async def test_it_survives_every_error(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_fd: int) -> dict[str, Any]:
        raise MemoryError("none left")

    draining = Draining(journal, None)
    journal.answers = [broken, broken, {"records": 1, "lines": 1}, broken]
    draining.start()
    eventually(lambda: draining.counts.lines, "the look after the error")
    eventually(lambda: not journal.answers, "it fails again")
    await draining.stop()
    assert caplog.text.count("the journal cannot be read") == 2, "once when it begins to fail"


async def test_an_idle_node_is_seldom_looked_at(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    draining = Draining(journal, None)
    waits: list[float] = []
    ended = threading.Event()

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 8:
            journal.answers = [{"records": 1}]
        if len(waits) == 9:
            draining._ending.set()
            ended.set()
        return False

    monkeypatch.setattr(draining._wake, "wait", wait)
    draining.start()
    assert ended.wait(10)
    await draining.stop()
    assert waits[:4] == [0.04, 0.08, module.LONGEST, module.LONGEST]
    assert waits[8] == module.SHORTEST


async def test_errors_are_told_at_the_edges(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    draining = Draining(journal, LogFile(str(tmp_path / "log")))
    full = {"records": 1, "linesLost": 1, "error": "No space left on device"}
    well = {"records": 1, "lines": 1}
    journal.answers = [full, full, {"records": 1}, full, well, well]
    draining.start()
    await draining.stop()
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "the access log cannot be written",
        "the access log is written again",
    ]
    assert caplog.records[0].reason == "No space left on device"  # type: ignore[attr-defined]


async def test_opened_anew_between_two_looks(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "logs" / "log"
    path.parent.mkdir()
    draining = Draining(journal, LogFile(str(path)))

    def line(fd: int) -> dict[str, Any]:
        os.write(fd, b"line\n")
        return {"records": 1, "lines": 1}

    draining.start()
    path.rename(tmp_path / "log.1")
    draining.reopen()
    eventually(path.exists, "the new file")
    journal.answers = [line]
    eventually(lambda: draining.counts.lines == 1, "the line")
    assert (path.read_text(), (tmp_path / "log.1").read_text()) == ("line\n", "")
    path.parent.rename(tmp_path / "moved")
    draining.reopen()
    eventually(lambda: "the access log stays the file it was" in caplog.text, "the error")
    journal.answers = [line]
    eventually(lambda: draining.counts.lines == 2, "the second line")
    await draining.stop()
    assert (tmp_path / "moved" / "log").read_text() == "line\nline\n"


async def test_a_disk_that_hangs_does_not_keep_the_node_from_its_end(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_WITHIN", 0.05)
    entered, released = threading.Event(), threading.Event()

    def hang(_fd: int) -> dict[str, Any]:
        entered.set()
        released.wait(30)
        return {}

    monkeypatch.setattr(module, "HANGS_AFTER", 0.0)
    journal.answers = [hang]
    draining = Draining(journal, LogFile(str(tmp_path / "log")))
    draining.start()
    assert entered.wait(10)
    for _ in range(3):
        draining.check()
    journal.dropped = 7
    for _ in range(3):
        draining.check()
    assert 'gateway_journal_dropped_total{reason="full"} 7' in "".join(draining.metrics())
    await draining.stop()
    released.set()
    draining._thread.join(10)
    draining.check()
    assert [record.getMessage() for record in caplog.records] == [
        "the access log hangs; lines wait while there is room",
        "requests are missing in the access log or traces",
        "the access log is not written to its end",
        "the access log hangs no more",
    ]
