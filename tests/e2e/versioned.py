"""A backend of one version, as a program of its own: says which it is, fails or dawdles as told.

    versioned.py PORT VERSION [FAILED PART 0-1] [SECONDS A REQUEST TAKES]

Prints its port when it listens. The failed requests are spread evenly, so their part is exact.
"""

from __future__ import annotations

import asyncio
import sys


class Versioned(asyncio.Protocol):
    version = b"?"
    failed = 0.0
    delay = 0.0
    due = 0.0  # failures

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            _, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.answer)
            else:
                self.answer()

    def answer(self) -> None:
        kind = type(self)
        kind.due += kind.failed
        status = b"200 OK"
        if kind.due >= 1:
            kind.due -= 1
            status = b"500 Internal Server Error"
        body = kind.version
        self.transport.write(
            b"HTTP/1.1 %b\r\nX-Version: %b\r\nContent-Length: %d\r\n\r\n%b" % (status, body, len(body), body)
        )


async def main(port: int, version: str, failed: float = 0.0, delay: float = 0.0) -> None:
    Versioned.version, Versioned.failed, Versioned.delay = version.encode(), failed, delay
    server = await asyncio.get_running_loop().create_server(Versioned, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], *map(float, sys.argv[3:])))
