"""Run a node of two workers for long with every kind of traffic and a configuration change each second.

Samples memory (PSS), descriptors and the ledger, prints them as a table, and fails when something grows
without bound, when the ledger does not balance, when a request is lost, or when a client that behaves sees an
error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import secrets
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from loadtest.__main__ import SCRIPTS, LoadError, free_port, stop, wait_for

LARGE = 1 << 20
GROWTH = 24 << 20  # bytes of PSS that the node may grow by after its warm-up
DESCRIPTORS = 64  # more than at the start that may be open when all is quiet again
LEDGER = re.compile(r"^gateway_requests_(accepted|completed|aborted|lost)_total (\S+)$", re.M)
INFLIGHT = re.compile(r"^gateway_generation_inflight\{[^}]*\} (\S+)$", re.M)
WILD = [
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    b"HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 103 E\r\n\r\n" * 200,
    b"\0\1\2\3" * 30,
]


class Backend:
    """Echoes bodies, sends large answers, and on ``/wild`` answers as no server should."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = b""
        if found := re.search(rb"\r\ncontent-length: (\d+)", head):
            body = await reader.readexactly(int(found[1]))
        elif b"\r\ntransfer-encoding: chunked" in head:
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        path = head.split(b" ", 2)[1]
        if path.startswith(b"/wild"):
            writer.write(random.choice(WILD))
            await writer.drain()
            return False
        answer = bytes(LARGE) if path.startswith(b"/large") else body or b"hello"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()
        return True


@dataclass
class Sample:
    at: float
    pss: int
    descriptors: int
    ledger: dict[str, int]


class Traffic:
    """The clients. ``errors`` holds what should not have happened."""

    def __init__(self, port: int, rate: float) -> None:
        self.port, self.pause = port, 1 / rate
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.ending = asyncio.Event()

    async def repeat(self, name: str, once: Callable[[], Awaitable[None]]) -> None:
        while not self.ending.is_set():
            try:
                async with asyncio.timeout(30):
                    await once()
                self.done[name] += 1
            except Exception as error:
                self.errors[f"{name}: {type(error).__name__} {str(error)[:80]}"] += 1
            await asyncio.sleep(self.pause)

    async def keep_alive(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for _ in range(20):
            writer.write(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await self.answer(reader) == (200, b"hello")
            await asyncio.sleep(self.pause)
        writer.close()

    async def answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
        assert found, head[:80]
        return int(head[9:12]), await reader.readexactly(int(found[1]))

    async def body(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for size in (0, 100, 10_000, 200_000):
            data = os.urandom(size)
            writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + data)
            status, got = await self.answer(reader)
            assert status == 200
            assert hashlib.sha256(got).digest() == hashlib.sha256(data or b"hello").digest()
        writer.close()

    async def chunked(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            writer.write(b"3e8;x=y\r\n" + bytes(1000) + b"\r\n")
            await asyncio.sleep(0.01)
        writer.write(b"0\r\nX-Sum: 1\r\n\r\n")
        assert await self.answer(reader) == (200, bytes(5000))
        writer.close()

    async def web_socket(self) -> None:
        async with connect(f"ws://127.0.0.1:{self.port}/socket", compression=None) as client:
            for n in range(20):
                await client.send(f"{n}")
                assert await client.recv() == f"{n}"
                await asyncio.sleep(0.05)

    async def leave(self) -> None:
        request = b"POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        with sock:
            await loop.sock_sendall(sock, request[: random.randrange(len(request) + 1)])
            await asyncio.sleep(random.random() / 50)

    async def slow(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=4096)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        got = 0
        while part := await reader.read(32_768):
            got += len(part)
            await asyncio.sleep(0.02)
        assert got == LARGE, f"{got} bytes"
        writer.close()

    async def wild(self) -> None:
        """The backend misbehaves: 502, or an answer that is seen not to be whole."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /wild HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        with contextlib.suppress(ConnectionResetError):
            data = await reader.read(-1)
        *_, last = data.split(b"HTTP/1.1 ")
        cut = last.startswith(b"200") and not last.endswith((b"0\r\n\r\n", b"shortshort"))
        assert last.startswith(b"502") or cut, data[-80:]
        writer.close()


class Changes:
    """A change of the configuration each second, through the API."""

    def __init__(self, admin: str, password: str) -> None:
        self.admin, self.password = admin, password
        self.client = httpx.AsyncClient(base_url=f"{admin}/api/v1", timeout=10)
        self.turn = 0

    async def start(self) -> None:
        answer = await self.client.post(
            "/authentication/login", json={"username": "soak", "password": self.password}
        )
        self.client.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        routes = (await self.client.get("/gateway/routes")).json()["routes"]
        self.route = next(route["routeId"] for route in routes if route["name"] == "soak")

    async def once(self) -> None:
        self.turn += 1
        answer = await self.client.put(
            f"/gateway/routes/{self.route}", json={"timeoutSeconds": 30 + self.turn % 60}
        )
        answer.raise_for_status()
        await asyncio.sleep(1)

    async def metrics(self) -> str:
        return (await self.client.get(f"{self.admin}/metrics")).text


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += family(int(child))
    return found


def weigh(pid: int) -> tuple[int, int]:
    """PSS in bytes and descriptors of a node."""
    pss = descriptors = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{member}/smaps_rollup").read_text()
            pss += int(re.search(r"^Pss:\s+(\d+) kB", text, re.M)[1]) << 10  # type: ignore[index]
            descriptors += len(os.listdir(f"/proc/{member}/fd"))  # noqa: PTH208
    return pss, descriptors


def read_ledger(text: str) -> dict[str, int]:
    ledger = {key: int(float(value)) for key, value in LEDGER.findall(text)}
    ledger["inflight"] = sum(int(float(value)) for value in INFLIGHT.findall(text))
    return ledger


def judge(samples: list[Sample], traffic: Traffic) -> list[str]:
    """Every reason to fail; none: passed."""
    reasons = [f"{text} (x{count})" for text, count in sorted(traffic.errors.items())]
    first, last = samples[0], samples[-1]
    ledger = last.ledger
    if ledger["lost"]:
        reasons.append(f"{ledger['lost']} requests were lost")
    if ledger["inflight"] or ledger["accepted"] != ledger["completed"] + ledger["aborted"]:
        reasons.append(f"the ledger does not balance when all is quiet: {ledger}")
    busy = samples[1:-1]
    warm, late = busy[len(busy) // 4 : len(busy) // 2], busy[-max(1, len(busy) // 4) :]
    if warm and late:
        grown = sum(s.pss for s in late) / len(late) - sum(s.pss for s in warm) / len(warm)
        if grown > GROWTH:
            reasons.append(f"memory grew by {grown / 2**20:.0f} MiB after the warm-up")
    if last.descriptors > first.descriptors + DESCRIPTORS:
        reasons.append(
            f"{last.descriptors} descriptors are open at the end, {first.descriptors} at the start"
        )
    if not all(
        traffic.done[name] for name in ("keep-alive", "body", "chunked", "web socket", "wild", "change")
    ):
        reasons.append(f"some traffic never succeeded: {dict(traffic.done)}")
    return reasons


def start_node(
    directory: Path, proxy: int, admin: int, backends: dict[str, int], password: str
) -> subprocess.Popen[bytes]:
    document = {
        "version": "1",
        "routes": [
            {
                "name": "soak",
                "pathPattern": "/**",
                "strategy": "LeastConnections",
                "backends": [{"name": "http", "url": f"http://127.0.0.1:{backends['http']}"}],
            },
            {
                "name": "socket",
                "pathPattern": "/socket",
                "strategy": "LeastConnections",
                "backends": [{"name": "socket", "url": f"http://127.0.0.1:{backends['socket']}"}],
            },
        ],
    }
    config = directory / "soak.json"
    config.write_text(json.dumps(document))
    command = [
        str(SCRIPTS / "hotswap-proxy"), "run", "--workers", "2", "--config", str(config),
        "--proxy", f"127.0.0.1:{proxy}", "--admin", f"127.0.0.1:{admin}",
        "--data-dir", str(directory / "data"),
    ]  # fmt: skip
    env = {**os.environ, "HOTSWAP_ADMIN_USERNAME": "soak", "HOTSWAP_ADMIN_PASSWORD": password}
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)


async def run(seconds: float, users: int, rate: float) -> int:
    async def echo(socket_: ServerConnection) -> None:
        async for message in socket_:
            await socket_.send(message)

    password = secrets.token_urlsafe(16)
    http = await asyncio.start_server(Backend().serve, "127.0.0.1", 0)
    sockets = await serve(echo, "127.0.0.1", 0, compression=None)
    ports = {
        "http": http.sockets[0].getsockname()[1],
        "socket": next(iter(sockets.sockets)).getsockname()[1],
    }
    proxy, admin = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="hotswap-soak-") as scratch:
        node = start_node(Path(scratch), proxy, admin, ports, password)
        try:
            await asyncio.to_thread(wait_for, f"http://127.0.0.1:{proxy}/echo", node)
            changes = Changes(f"http://127.0.0.1:{admin}", password)
            await changes.start()
            samples, traffic = await drive(node.pid, proxy, changes, seconds, users, rate)
        except LoadError as error:
            print(f"soak: {error}\n{(Path(scratch) / 'log').read_text()[-2000:]}", file=sys.stderr)
            return 1
        finally:
            await asyncio.to_thread(stop, node)
            http.close()
            sockets.close()
    reasons = judge(samples, traffic)
    print("\n" + "".join(f"  {name:<12}{count:>10}\n" for name, count in sorted(traffic.done.items())))
    print("\n".join([*(f"  ✗ {reason}" for reason in reasons), "FAILED" if reasons else "PASSED"]))
    return 1 if reasons else 0


async def drive(
    pid: int, proxy: int, changes: Changes, seconds: float, users: int, rate: float
) -> tuple[list[Sample], Traffic]:
    traffic = Traffic(proxy, rate)
    samples: list[Sample] = []
    began = time.monotonic()
    columns = ("PSS MiB", "fds", "accepted", "aborted", "lost", "in flight", "errors")
    print(f"{'seconds':>8}" + "".join(f"{column:>10}" for column in columns))

    async def sample() -> None:
        pss, descriptors = await asyncio.to_thread(weigh, pid)
        ledger = read_ledger(await changes.metrics())
        samples.append(Sample(time.monotonic() - began, pss, descriptors, ledger))
        counts = [ledger[key] for key in ("accepted", "aborted", "lost", "inflight")]
        numbers = (descriptors, *counts, sum(traffic.errors.values()))
        row = f"{samples[-1].at:>8.0f}{pss / 2**20:>10.1f}" + "".join(f"{n:>10}" for n in numbers)
        print(row, flush=True)

    await sample()
    kinds = {
        "keep-alive": (traffic.keep_alive, users),
        "body": (traffic.body, 2),
        "chunked": (traffic.chunked, 2),
        "web socket": (traffic.web_socket, 2),
        "leave": (traffic.leave, 2),
        "slow": (traffic.slow, 2),
        "wild": (traffic.wild, 2),
        "change": (changes.once, 1),
    }
    tasks = [
        asyncio.create_task(traffic.repeat(name, once))
        for name, (once, count) in kinds.items()
        for _ in range(count)
    ]
    while time.monotonic() - began < seconds:
        await asyncio.sleep(min(max(2.0, seconds / 40), 30))
        await sample()
    traffic.ending.set()
    await asyncio.gather(*tasks)
    for _ in range(50):  # until the last aborted one has been noticed
        if read_ledger(await changes.metrics())["inflight"] == 0:
            break
        await asyncio.sleep(0.1)
    await sample()
    return samples, traffic


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--users", type=int, default=6, help="clients that keep their connection")
    parser.add_argument("--rate", type=float, default=10, help="exchanges a second of each client, at most")
    options = parser.parse_args()
    return asyncio.run(run(60 * options.minutes, min(options.users, 200), options.rate))


if __name__ == "__main__":
    sys.exit(main())
