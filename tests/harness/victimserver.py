"""A backend in a process of its own, to be killed, stopped and started again on its port.

    python victimserver.py PORT NAME

Answers every request with ``x-backend: NAME`` and the length of the body it got; ``/wait/<ms>…`` later; an
upgrade becomes an echo. Prints its port when it listens.
"""

from __future__ import annotations

import asyncio
import re
import sys

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Conversation(asyncio.Protocol):
    name = b""

    def __init__(self) -> None:
        self.buffer = b""
        self.echoing = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  uvloop has its own class

    def data_received(self, data: bytes) -> None:
        if self.echoing:
            self.transport.write(data)
            return
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[: end + 4]
            found = LENGTH.search(head)
            length = int(found[1]) if found else 0
            if len(self.buffer) < len(head) + length:
                return
            self.buffer = self.buffer[len(head) + length :]
            self._answer(head, length)

    def _answer(self, head: bytes, length: int) -> None:
        if b"\r\nupgrade:" in head.lower():
            self.echoing = True
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            )
            return
        path = head.split(b" ", 2)[1]
        body = b"%d" % length
        answer = b"HTTP/1.1 200 OK\r\nx-backend: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            self.name,
            len(body),
            body,
        )
        if path.startswith(b"/wait/"):
            delay = int(path.split(b"/")[2]) / 1000
            asyncio.get_running_loop().call_later(delay, self._write, answer)
        else:
            self.transport.write(answer)

    def _write(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


async def main(port: int, name: bytes) -> None:
    Conversation.name = name
    server = await asyncio.get_running_loop().create_server(Conversation, "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2].encode()))
