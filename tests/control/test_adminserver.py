"""The admin API's HTTP server against clients that send too much, too slowly, or do not read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from hotswap_proxy.control import adminserver
from hotswap_proxy.control.adminserver import AdminServer
from hotswap_proxy.control.listeners import listen_admin

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class App:
    """Answers with the length of the body it got, or with ``size`` bytes; refuses ``/refuse`` unread."""

    def __init__(self, size: int = 0) -> None:
        self.size = size
        self.ended = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        length = 0
        while scope["path"] != "/refuse":
            message = await receive()
            length += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = b"x" * self.size or str(length).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.ended += 1


@contextlib.asynccontextmanager
async def serving(app: App) -> AsyncIterator[Callable[[], Coroutine[Any, Any, Client]]]:
    sock = listen_admin("127.0.0.1:0")
    server = AdminServer(app, sock)
    await server.begin()
    port, writers = sock.getsockname()[1], []

    async def connect() -> Client:
        client = await asyncio.open_connection("127.0.0.1", port)
        writers.append(client[1])
        return client

    try:
        yield connect
    finally:
        for writer in writers:
            writer.close()
        await server.end()
        sock.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one answer."""
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
        return int(head.split()[1]), await reader.readexactly(int(fields.get(b"content-length", 0)))


async def closed(reader: asyncio.StreamReader, within: float) -> bool:
    """Whether the server closes the connection in time, without a word."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(within):
            assert await reader.read(1) == b""
        return True
    return reader.exception() is not None


def test_connections_are_kept_and_pipelined_requests_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adminserver, "HEAD_TIMEOUT", 0.3)

    async def scenario() -> None:
        async with serving(App()) as connect:
            reader, writer = await connect()
            for _ in range(3):
                writer.write(GET)
                assert await answer(reader) == (200, b"0")
                await asyncio.sleep(0.4)  # idle for longer than a head may take
            writer.write(GET + GET + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
            assert [await answer(reader) for _ in range(2)] == [(200, b"0")] * 2
            writer.write(b"llo" + GET)
            assert [await answer(reader) for _ in range(2)] == [(200, b"5"), (200, b"0")]
            writer.write(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
            assert await answer(reader) == (200, b"0")
            writer.write(b"hello" + GET)
            assert await answer(reader) == (200, b"0")

    asyncio.run(scenario())


def test_connections_without_a_request_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adminserver, "IDLE_TIMEOUT", 0.3)

    async def scenario() -> None:
        async with serving(App()) as connect:
            reader, writer = await connect()
            writer.write(GET)
            assert (await answer(reader))[0] == 200
            assert await closed(reader, 3)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("before", "beginning"), [(b"", b""), (b"", b"GET / HTTP/1.1\r\nX: "), (GET, b"GET / HTTP/1.1\r\nX: ")]
)
def test_a_head_that_does_not_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, before: bytes, beginning: bytes
) -> None:
    monkeypatch.setattr(adminserver, "HEAD_TIMEOUT", 0.5)

    async def scenario() -> None:
        async with serving(App()) as connect:
            reader, writer = await connect()
            writer.write(before + beginning)
            if before:
                assert (await answer(reader))[0] == 200
            if beginning:  # byte by byte: each is in time, all of them are not
                for _ in range(3):
                    await asyncio.sleep(0.1)
                    writer.write(b"x")
            assert await closed(reader, 3)

    asyncio.run(scenario())


def test_a_body_has_more_time_the_longer_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adminserver, "BODY_TIMEOUT", 0.5)
    monkeypatch.setattr(adminserver, "SLOWEST", 1000)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n"

    async def scenario() -> None:
        async with serving(App()) as connect:
            reader, writer = await connect()
            writer.write(head)
            for _ in range(4):
                writer.write(b"x" * 500)
                await asyncio.sleep(0.25)
            assert await answer(reader) == (200, b"2000")
            reader, writer = await connect()
            writer.write(head)
            for _ in range(3):
                await asyncio.sleep(0.1)
                writer.write(b"x")
            assert await closed(reader, 3)

    asyncio.run(scenario())


def test_a_head_without_end_takes_no_memory() -> None:
    async def scenario() -> None:
        async with serving(App()) as connect:
            reader, writer = await connect()
            writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000)
            status, _ = await answer(reader)
            assert 400 <= status < 500
            reader, writer = await connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 30_000 + b"\r\n\r\n")
            assert (await answer(reader))[0] == 200

    asyncio.run(scenario())


def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adminserver, "WRITE_TIMEOUT", 0.3)

    async def scenario() -> None:
        async with serving(App(size=30_000_000)) as connect:
            reader, writer = await connect()
            writer.write(GET)
            for _ in range(4):  # slowly is good enough
                await asyncio.sleep(0.2)
                await reader.readexactly(5_000_000)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(1)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(10_000_000)

    asyncio.run(scenario())


def test_too_many_connections_are_refused_and_then_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adminserver, "MAX_CONNECTIONS", 3)

    async def scenario() -> None:
        async with serving(App()) as connect:
            clients = [await connect() for _ in range(6)]
            reader, writer = clients[0]
            writer.write(GET)
            assert (await answer(reader))[0] == 503
            clients += [await connect() for _ in range(3)]
            assert await closed(clients[-1][0], 3)
            for _, writer in clients:
                writer.close()
            await asyncio.sleep(0.2)
            reader, writer = await connect()
            writer.write(GET)
            assert (await answer(reader))[0] == 200

    asyncio.run(scenario())
