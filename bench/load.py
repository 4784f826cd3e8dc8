"""The load generators, and what their output says."""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import machine

# Five headers beside Host: what a browser or a service client sends at the least.
HEADERS = {
    "User-Agent": "bench/1",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, br",
    "Accept-Language": "en",
    "Cookie": "session=0123456789abcdef",
}
RECORD = struct.Struct("<QIHBB")
OUTCOMES = (
    "ok",
    "no answer",
    "broken answer",
    "bad status",
    "no connection",
    "closed idle",
    "closed politely",
)
FAILED = frozenset({1, 2, 3, 4})
CLOSED = frozenset({1, 2, 5, 6})


@dataclass(frozen=True)
class WrkResult:
    requests: int
    errors: int
    rate: float  # requests per second
    p50: float  # µs
    p99: float  # µs


def wrk(
    port: int, path: str, connections: int, seconds: float, close: bool = False, tls: bool = False
) -> WrkResult:
    """Run wrk on the other core (this process is pinned there, and children inherit it)."""
    command = [machine.program("wrk"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}", "--latency"]
    for name, value in HEADERS.items():
        command += ["-H", f"{name}: {value}"]
    if close:
        command += ["-H", "Connection: close"]
    command.append(f"{'https' if tls else 'http'}://127.0.0.1:{port}{path}")
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return parse_wrk(text)


def parse_wrk(text: str) -> WrkResult:
    def number(pattern: str) -> float:
        found = re.search(pattern, text)
        if found is None:
            raise machine.BenchError(f"cannot read wrk's output:\n{text}")
        return float(found.group(1))

    def latency(percentile: str) -> float:
        found = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)\b", text)
        if found is None:
            raise machine.BenchError(f"cannot read wrk's output:\n{text}")
        return float(found.group(1)) * {"us": 1.0, "ms": 1e3, "s": 1e6}[found.group(2)]

    errors = sum(int(count) for count in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return WrkResult(
        requests=int(number(r"(\d+) requests in")),
        errors=errors + (int(refused.group(1)) if refused else 0),
        rate=number(r"Requests/sec:\s+([\d.]+)"),
        p50=latency("50"),
        p99=latency("99"),
    )


@dataclass(frozen=True)
class Sample:
    start: float  # seconds, time.monotonic()
    latency: float  # µs
    backend: str
    outcome: int


@dataclass
class StrictResult:
    """What the strict client saw: every request, and every connection it lost."""

    samples: list[Sample] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(sample.outcome < 5 for sample in self.samples)

    @property
    def failed(self) -> int:
        return sum(sample.outcome in FAILED for sample in self.samples)

    @property
    def closed(self) -> int:
        return sum(sample.outcome in CLOSED for sample in self.samples)

    def outcomes(self) -> dict[str, int]:
        return {
            OUTCOMES[code]: count for code, count in sorted(Counter(s.outcome for s in self.samples).items())
        }

    def quantile(self, q: float, keep: Callable[[Sample], bool] = lambda _: True) -> float:
        values = sorted(sample.latency for sample in self.samples if sample.outcome == 0 and keep(sample))
        return values[min(len(values) - 1, int(len(values) * q))] if values else float("nan")


class StrictClient:
    """``bench/client.c`` running in the background; use as a context manager, then read ``result``."""

    def __init__(self, port: int, connections: int, seconds: float, rate: float, routes: int) -> None:
        self.output = Path(tempfile.mkdtemp(prefix="client-", dir=machine.WORK)) / "records"
        numbers = [str(port), str(connections), f"{seconds:.3f}", f"{rate:.0f}", str(routes)]
        self.command = [str(machine.compile_c("client")), *numbers, str(self.output)]
        self.result = StrictResult()

    def __enter__(self) -> StrictClient:
        self.process = subprocess.Popen(self.command)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.process.kill()
        code = self.process.wait()
        if kind is None:
            if code:
                raise machine.BenchError(f"the load client ended with {code}")
            for start, latency, _, backend, outcome in RECORD.iter_unpack(self.output.read_bytes()):
                self.result.samples.append(
                    Sample(start / 1e6, latency, chr(backend) if backend else "", outcome)
                )
        self.output.unlink(missing_ok=True)
        self.output.parent.rmdir()
