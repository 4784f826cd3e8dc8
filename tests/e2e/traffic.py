"""Paced keep-alive clients, as a program of its own: a connection that is closed without an announcement
and an odd answer are noted.

    traffic.py REQUESTS_PER_SECOND CLIENTS PORT…

Each second it prints one JSON line of what came since the start: ``answers`` by version and status
(``"v2 500"``), ``closed`` connections, and the first ``errors``. It ends when standard input does, with a
last line. A client goes on with a new connection after it has lost one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter

HEAD = b"GET /users/7 HTTP/1.1\r\nHost: shop.test\r\nX-Client: %d\r\n\r\n"


class Traffic:
    def __init__(self, rate: float, clients: int, ports: list[int]) -> None:
        self.rate, self.clients, self.ports = rate, clients, ports
        self.answers: Counter[str] = Counter()
        self.closed = 0
        self.errors: list[str] = []
        self.ending = False

    async def client(self, number: int) -> None:
        port = self.ports[number % len(self.ports)]
        pause = self.clients / self.rate
        loop = asyncio.get_running_loop()
        due = loop.time() + pause * number / self.clients
        while not self.ending:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError as error:
                self.lost(f"port {port}: {error!r}")
                await asyncio.sleep(0.05)
                continue
            with contextlib.closing(writer):
                while not self.ending:
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    due = max(due + pause, loop.time() - 5 * pause)
                    try:
                        async with asyncio.timeout(35):
                            answer, ends = await self.ask(reader, writer, number)
                        self.answers[answer] += 1
                        if ends:  # announced: the process behind this connection drains
                            break
                    except (OSError, EOFError, ValueError, TimeoutError) as error:
                        if not self.ending:
                            self.lost(f"port {port}: {error!r}")
                        break

    def lost(self, why: str) -> None:
        self.closed += 1
        if len(self.errors) < 10:
            self.errors.append(why)

    @staticmethod
    async def ask(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> tuple[str, bool]:
        writer.write(HEAD % number)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        await reader.readexactly(int(fields["content-length"]))
        ends = fields.get("connection") == "close"
        return f"{fields.get('x-version', '-')} {head[0].split()[1]}", ends

    def told(self) -> str:
        return json.dumps({"answers": self.answers, "closed": self.closed, "errors": self.errors})

    async def run(self) -> None:
        tasks = [asyncio.create_task(self.client(number)) for number in range(self.clients)]
        loop = asyncio.get_running_loop()
        ended = loop.run_in_executor(None, sys.stdin.read)
        while not ended.done():
            await asyncio.wait({asyncio.ensure_future(ended)}, timeout=1)
            print(self.told(), flush=True)
        self.ending = True
        await asyncio.wait(tasks, timeout=5)
        for task in tasks:
            task.cancel()
        print(self.told(), flush=True)


if __name__ == "__main__":
    asyncio.run(Traffic(float(sys.argv[1]), int(sys.argv[2]), [int(port) for port in sys.argv[3:]]).run())
