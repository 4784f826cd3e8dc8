"""Start two httpbin backends and the gateway, run the locust file headless, judge, exit 0 or 1."""

from __future__ import annotations

import argparse
import csv
import json
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
PATTERNS = ("/get", "/anything/**", "/bytes/*", "/image/*", "/stream/*", "/delay/*", "/status/*")
# The gateway's p99 of a task may be this much of the direct one's: generous, because users, gateway and
# backend share the cores, and what it must catch is a stall (a change blocking a worker), not a microsecond.
P99_FACTOR, P99_SLACK_MS = 1.5, 25.0
COMPARED = ("GET", "POST json", "GET image", "GET stream")
Process = subprocess.Popen[bytes]


class LoadError(RuntimeError):
    """The load test could not run."""


@dataclass(frozen=True)
class Row:
    """One line of locust's statistics; times are milliseconds."""

    name: str
    requests: int
    failures: int
    p50: float
    p99: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_backend(port: int) -> Process:
    command = [
        sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread",
        "--threads", "32", "--keep-alive", "75", "--log-level", "error", "httpbin:app",
    ]  # fmt: skip
    return subprocess.Popen(command)


def start_gateway(directory: Path, proxy: int, admin: int, backends: list[int], password: str) -> Process:
    document = {
        "version": "1",
        "backends": [
            {"name": name, "url": f"http://127.0.0.1:{port}"}
            for name, port in zip(("one", "two"), backends, strict=True)
        ],
        "routes": [
            {
                "name": f"load-{index}",
                "pathPattern": pattern,
                "methods": ["GET"] if pattern == "/get" else ["*"],
                "strategy": "LeastConnections" if pattern == "/delay/*" else "RoundRobin",
                "backends": [{"name": "one"}, {"name": "two"}],
            }
            for index, pattern in enumerate(PATTERNS)
        ],
    }
    config = directory / "gateway.json"
    config.write_text(json.dumps(document))
    command = [
        str(SCRIPTS / "hotswap-proxy"), "run", "--workers", "2", "--config", str(config),
        "--proxy", f"127.0.0.1:{proxy}", "--admin", f"127.0.0.1:{admin}",
        "--data-dir", str(directory / "data"),
    ]  # fmt: skip
    env = {**os.environ, "HOTSWAP_ADMIN_USERNAME": "load", "HOTSWAP_ADMIN_PASSWORD": password}
    with (directory / "gateway.log").open("wb") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)


def wait_for(url: str, process: Process, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LoadError(f"{process.args!r} ended with status {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise LoadError(f"no answer from {url} after {timeout:.0f} s")


def run_locust(directory: Path, users: int, seconds: int, env: dict[str, str]) -> list[Row]:
    command = [
        sys.executable, "-m", "locust", "-f", str(HERE / "locustfile.py"), "--headless", "--only-summary",
        "--users", str(users), "--spawn-rate", "20", "--run-time", f"{seconds}s", "--stop-timeout", "10",
        "--csv", str(directory / "result"), "--loglevel", "WARNING",
    ]  # fmt: skip
    subprocess.run(command, check=False, env={**os.environ, **env}, cwd=HERE.parent)
    with (directory / "result_stats.csv").open(newline="") as file:
        return [
            Row(
                line["Name"],
                int(line["Request Count"]),
                int(line["Failure Count"]),
                float(line["50%"] or 0),
                float(line["99%"] or 0),
            )
            for line in csv.DictReader(file)
            if line["Request Count"] != "0"
        ]


def lost_requests(admin: int) -> float:
    """``gateway_requests_lost_total`` over all its labels; it must stay 0."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    values = [float(line.split()[-1]) for line in lines if line.startswith("gateway_requests_lost_total")]
    if not values:
        raise LoadError("/metrics has no gateway_requests_lost_total")
    return sum(values)


def judge(rows: list[Row], lost: float) -> list[str]:
    """Every reason to fail; none: passed."""
    by_name = {row.name: row for row in rows}
    reasons = [
        f"{row.name}: {row.failures} of {row.requests} failed"
        for row in rows
        if row.failures and row.name != "Aggregated"
    ]
    if lost:
        reasons.append(f"gateway_requests_lost_total is {lost:.0f}")
    for task in COMPARED:
        through, direct = by_name.get(f"gateway {task}"), by_name.get(f"direct {task}")
        if through is None or direct is None:
            reasons.append(f"{task}: was not run both ways")
            continue
        limit = direct.p99 * P99_FACTOR + P99_SLACK_MS
        if through.p99 > limit:
            reasons.append(
                f"{task}: p99 {through.p99:.0f} ms through the gateway, at most {limit:.0f} allowed "
                f"(direct {direct.p99:.0f})"
            )
    if not any(row.name == "admin PUT route" for row in rows):
        reasons.append("no configuration change was made")
    return reasons


def summary(rows: list[Row], reasons: list[str]) -> str:
    lines = [f"{'':<32}{'requests':>10}{'failed':>8}{'p50 ms':>8}{'p99 ms':>8}"]
    lines += [
        f"{row.name:<32}{row.requests:>10}{row.failures:>8}{row.p50:>8.0f}{row.p99:>8.0f}" for row in rows
    ]
    lines += ["", *(f"  ✗ {reason}" for reason in reasons), "FAILED" if reasons else "PASSED"]
    return "\n".join(lines)


def stop(process: Process, within: float = 40.0) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    parser.add_argument("--users", type=int, default=24)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    password = secrets.token_urlsafe(16)
    ports = [free_port() for _ in range(2)]
    proxy, admin = free_port(), free_port()
    processes: list[Process] = []
    with tempfile.TemporaryDirectory(prefix="hotswap-load-") as scratch:
        directory = Path(scratch)
        try:
            for port in ports:
                processes.append(start_backend(port))
                wait_for(f"http://127.0.0.1:{port}/get", processes[-1])
            processes.append(start_gateway(directory, proxy, admin, ports, password))
            wait_for(f"http://127.0.0.1:{proxy}/get", processes[-1])
            env = {
                "LOAD_GATEWAY": f"http://127.0.0.1:{proxy}",
                "LOAD_BACKEND": f"http://127.0.0.1:{ports[0]}",
                "LOAD_ADMIN": f"http://127.0.0.1:{admin}",
                "LOAD_USERNAME": "load",
                "LOAD_PASSWORD": password,
            }
            rows = run_locust(directory, options.users, options.seconds, env)
            reasons = judge(rows, lost_requests(admin))
        except (LoadError, OSError) as error:
            log = directory / "gateway.log"
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            print(f"load: {error}\n{tail}", file=sys.stderr)
            return 1
        finally:
            for process in reversed(processes):
                stop(process)
    print(summary(rows, reasons))
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
