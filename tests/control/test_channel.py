"""Messages between the control process and the spawner."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hotswap_proxy.control import channel


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def test_descriptors_arrive_with_their_own_message(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    left, right = pair
    files = []
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        files.append(os.open(tmp_path / name, os.O_RDONLY))
    channel.send(left, {"n": 0})
    for number, fd in enumerate(files, 1):
        channel.send(left, {"n": number}, (fd,))
        os.close(fd)
    assert channel.receive(right) == ({"n": 0}, [])
    for name, number in (("a", 1), ("b", 2)):
        message, fds = channel.receive(right)
        assert message == {"n": number}
        (fd,) = fds
        assert os.read(fd, 10) == name.encode()
        os.close(fd)


def test_the_end_of_the_other_side_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    left.sendall(b"\0\0\0\5{")
    left.close()
    with pytest.raises(channel.ChannelClosedError):
        channel.receive(right)


def test_a_stream_is_cut_into_messages_wherever_it_breaks(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    messages = [{"text": "é" * size} for size in (0, 1, 300)]
    for message in messages:
        channel.send(left, message)
    left.close()
    stream = b"".join(iter(lambda: right.recv(4096), b""))
    decoder = channel.Decoder()
    found = [message for index in range(len(stream)) for message in decoder.feed(stream[index : index + 1])]
    assert found == messages
