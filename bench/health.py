"""What health checks cost: one process checks many addresses of one backend; CPU by the kernel's account.

    python -m bench.health [--backends 10000] [--interval 5] [--seconds 15] [--type Http]

The aim is less than a tenth of a core for 10,000 backends each 5 seconds. The figure holds the whole kernel's
work for the connections too, and on the loopback part of the backend's own.
"""

# ruff: noqa: ASYNC110  (polling is what costs least here)

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time

from hotswap_proxy.control.health.checker import Checker
from hotswap_proxy.control.health.spec import Checks, Wanted, read_spec

BACKEND = """
import asyncio, resource, sys
class Answer(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n")
async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "0.0.0.0", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
import uvloop; uvloop.run(main())
"""


class Table:
    """Stands for the shared memory."""

    def set_backend_status(self, address: str, status: int) -> bool:
        return True


def checks(count: int, interval: float, kind: str, port: int) -> Checks:
    spec = read_spec(
        {
            "type": kind,
            "endpoint": "/health",
            "interval": f"{round(interval * 1000)}ms",
            "timeout": "3s",
            "unhealthyThreshold": 3,
            "healthyThreshold": 2,
            "expectedStatusCode": 200,
            "headers": {},
            "initialState": "Up",
        }
    )
    found: Checks = {}
    for n in range(count):
        address = f"http://127.{1 + n // 65536}.{n // 256 % 256}.{n % 256}:{port}"
        found[f"backend:{n}"] = (Wanted(str(n), f"b{n}", address, spec),)
    return found


async def measure(options: argparse.Namespace, port: int) -> None:
    checker = Checker(Table())
    checker.prepare(checks(options.backends, options.interval, options.type, port), {})
    checker.start()
    cpu = time.process_time()
    while checker.results["success"] + checker.results["failure"] < options.backends:
        await asyncio.sleep(0.01)
    print(f"first probe of all: {time.process_time() - cpu:.2f} s of CPU")
    await asyncio.sleep(options.interval)  # until they have spread
    before, start, wall = dict(checker.results), os.times(), time.monotonic()
    await asyncio.sleep(options.seconds)
    end, wall = os.times(), time.monotonic() - wall
    cpu, kernel = end.user + end.system - start.user - start.system, end.system - start.system
    done = sum(checker.results.values()) - sum(before.values())
    failed = checker.results["failure"] - before["failure"]
    print(
        f"{options.backends} backends every {options.interval:g} s ({options.type}): "
        f"{done / wall:.0f} probes/s, {failed} failed; "
        f"{100 * cpu / wall:.1f} % of a core, {1e6 * cpu / max(done, 1):.1f} µs per probe, "
        f"{1e6 * kernel / max(done, 1):.1f} of them in the kernel"
    )
    await checker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--type", choices=["Http", "Tcp"], default="Http")
    options = parser.parse_args()
    backend = subprocess.Popen([sys.executable, "-c", BACKEND], stdout=subprocess.PIPE, text=True)
    try:
        assert backend.stdout is not None
        if (os.cpu_count() or 1) > 1:  # apart, as they are in life
            os.sched_setaffinity(backend.pid, {1})
            os.sched_setaffinity(0, {0})
        asyncio.run(measure(options, int(backend.stdout.readline())))
    finally:
        backend.kill()
        backend.wait()


if __name__ == "__main__":
    main()
