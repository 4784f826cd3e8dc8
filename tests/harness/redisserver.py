"""A Redis server for tests: nothing is kept on disk."""

from __future__ import annotations

import socket
from urllib.parse import quote

from harness.server import Server, program


class RedisServer(Server):
    name = "redis"

    def __init__(self, password: str | None = None) -> None:
        super().__init__()
        self.password = password
        self.start()

    @property
    def url(self) -> str:
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return [program("redis-server"), "-"]

    def configuration(self) -> bytes:
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.directory}", 'save ""', "appendonly no"]
        if self.password:
            lines.append(f'requirepass "{self.password}"')
        return "\n".join(lines).encode() + b"\n"

    def answers(self) -> bool:
        try:
            return self.command_raw("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def clear(self) -> None:
        """Forget everything."""
        self.command_raw("FLUSHALL")

    def command_raw(self, *words: str) -> bytes:
        """The beginning of the answer to a command, as the protocol has it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            if self.password:
                sock.sendall(_encoded("AUTH", self.password))
                sock.recv(4096)
            sock.sendall(_encoded(*words))
            return sock.recv(65536)


def _encoded(*words: str) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
