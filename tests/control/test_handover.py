"""The parts of a hand-over without processes: the line, what is given, who may ask and what for."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotswap_proxy import _core
from hotswap_proxy.control import channel
from hotswap_proxy.control.handover import asking, standing
from hotswap_proxy.control.handover.line import Line, LineClosedError
from hotswap_proxy.control.handover.predecessor import BequestError, Predecessor
from hotswap_proxy.control.handover.words import UpgradeError
from hotswap_proxy.control.health.machine import Health, State
from hotswap_proxy.control.health.registry import Registry
from hotswap_proxy.control.listeners import listen_proxy
from hotswap_proxy.control.succession import Succession


def test_words_come_whole_and_the_end_is_told() -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        here, there = Line(ours), Line(theirs)
        big = {"healths": ["x" * 50] * 5000}
        receiving = asyncio.create_task(there.receive())
        await here.send(big)
        await here.send({"takeOver": True})
        assert await receiving == big
        assert await there.receive() == {"takeOver": True}
        here.close()
        with pytest.raises(LineClosedError):
            await there.receive()
        there.close()

    asyncio.run(scenario())


def test_what_is_given_arrives() -> None:
    ours, theirs = socket.socketpair()
    listening = listen_proxy("127.0.0.1:0", 10)
    lock = os.open("/dev/null", os.O_RDONLY)
    first = {"handOver": 1, "dataDir": "/d", "file": [1, 2, 3, 4], "of a newer version": 1}
    channel.send(ours, first, (lock,))
    for start in (0, 8):
        fds = tuple(sock.fileno() for sock in listening[start : start + 8])
        channel.send(ours, {"sockets": "proxy"}, fds)
    channel.send(ours, {"healths": [["http://127.0.0.1:1", "DOWN", -3]]})
    channel.send(ours, {"complete": True})
    bequest = Predecessor(theirs.detach()).receive()
    assert (bequest.data_dir, bequest.file) == (Path("/d"), (1, 2, 3, 4))
    assert [sock.getsockname() for sock in bequest.sockets["proxy"]] == [s.getsockname() for s in listening]
    assert bequest.standing == [{"healths": [["http://127.0.0.1:1", "DOWN", -3]]}]
    for sock in (*listening, *bequest.sockets["proxy"], ours):
        sock.close()
    os.close(lock)
    os.close(bequest.lock)


def test_a_predecessor_that_dies_while_it_gives() -> None:
    ours, theirs = socket.socketpair()
    channel.send(ours, {"healths": []})
    ours.close()
    predecessor = Predecessor(theirs.detach())
    with pytest.raises(BequestError):
        predecessor.receive()
    predecessor.refuse(["nobody hears this"])
    predecessor.close()


def test_healths_are_told_in_words_and_what_is_unknown_is_left_out() -> None:
    written: dict[str, int] = {}

    class Table:
        def set_backend_status(self, address: str, status: int) -> bool:
            written[address] = status
            return True

    registry = Registry(Table())
    told: list[dict[str, Any]] = [
        {"healths": [["http://127.0.0.1:1", "DOWN", -3], ["http://127.0.0.1:2", "ASLEEP", 1]]},
        {"circuits": {"http://127.0.0.1:1": "Open"}, "out": ["http://127.0.0.1:9"]},
        {"of a newer version": 1},
    ]
    standing.take(told, _core.Node(1), registry)
    assert registry._remembered["http://127.0.0.1:1"][1] == Health(State.DOWN, -3)
    assert "http://127.0.0.1:2" not in registry._remembered


class Busy:
    """An ``Upgrade`` that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def begin(self, *what: Any) -> None:
        self.asked.append(what)
        raise UpgradeError("an upgrade is under way")


@pytest.fixture
def ask(tmp_path: Path) -> Callable[[bytes], tuple[str, list[Any]]]:
    """Sends some bytes after the word, and returns why it failed and what was begun."""

    def send(data: bytes) -> tuple[str, list[Any]]:
        async def scenario() -> tuple[str, list[Any]]:
            place, busy = Succession(tmp_path), Busy()
            await place.relieve(lambda reader, writer: asking.answer(busy, 30.0, reader, writer))  # type: ignore[arg-type]
            question = asking.Asking(tmp_path)
            question._sock.sendall(b"U" + data)
            if len(data) < 4:
                question._sock.shutdown(socket.SHUT_WR)
            with pytest.raises(UpgradeError) as failed:
                await asyncio.to_thread(question.outcome)
            place.close()
            question._sock.close()
            return str(failed.value), busy.asked

        return asyncio.run(scenario())

    return send


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ({"program": "python"}, "program: not an absolute path"),
        ({"program": 1}, "program: not an absolute path"),
        ({"timeout": 0}, "timeout: not a number"),
        ({"timeout": 1e9}, "timeout: not a number"),
        ({"shell": "x"}, "unknown in the request: shell"),
        ([1], "no request"),
    ],
)
def test_questions_that_are_refused(
    ask: Callable[[bytes], tuple[str, list[Any]]], question: Any, reason: str
) -> None:
    said, begun = ask(channel.frame(question))
    assert reason in said and begun == []


def test_a_question(ask: Callable[[bytes], tuple[str, list[Any]]]) -> None:
    assert ask(channel.frame({"program": "/p", "timeout": 5})) == ("an upgrade is under way", [("/p", 5.0)])


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0", b"\0\0\0\x03{,}"])
def test_noise_is_refused(ask: Callable[[bytes], tuple[str, list[Any]]], data: bytes) -> None:
    _, begun = ask(data)
    assert begun == []


def test_who_asks_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_ANSWER_TIMEOUT", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stopped:
        stopped.bind(str(tmp_path / asking.SUCCESSOR_SOCKET))
        stopped.listen()
        with pytest.raises(UpgradeError, match="does not answer"):
            asking.Asking(tmp_path).begin("/usr/bin/python3", 5)
