"""With everything on that shows what happens: what a request then costs, beside peers that log theirs.

The gateway writes a JSON line for each request, samples traces at 0.1 for an OTLP collector, and is scraped.
The peers write their access logs as their manuals set them up, and do no more. Here all processes of a proxy
are on its core and charged to it: our lines are written by the control process.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from . import machine, scenarios
from .gateway import Gateway
from .load import wrk
from .proxies import Backends, HAProxy, Nginx, Proxy
from .scenarios import CONNECTIONS, PATH, Numbers, Plan, Results

SCRAPE_EVERY = 1.0  # seconds; Prometheus asks each 15 s, or more often
SETTLE = 0.3  # seconds for the last lines to be written
LINES, DROPPED = "gateway_access_log_lines_total", "gateway_journal_dropped_total"
KEEP_BYTES = 64 << 20  # of an access log; it is cut between two measurements


class LoggingNginx(Nginx):
    """``access_log PATH`` is the "combined" format, a write for each line."""

    def access_log(self) -> str:
        return f"{self.directory}/access.log"


class BufferedNginx(LoggingNginx):
    @property
    def label(self) -> str:
        return f"{super().label}, buffered log"

    def access_log(self) -> str:
        return f"{super().access_log()} combined buffer=64k flush=1s"


class LoggingHAProxy(HAProxy):
    """``option httplog`` through a ring in memory to a syslog server. A datagram for each line, on a Unix
    socket or by UDP, was measured at 3 to 15 % more.
    """

    def __init__(self, backends: Backends, directory: Path, routes: int) -> None:
        super().__init__(backends, directory, routes)
        self.sink_port = machine.free_port()
        self.sink: subprocess.Popen[bytes] | None = None

    def logging(self) -> tuple[str, str]:
        return "log ring@lines local0", "log global\n    option httplog"

    def configure(self, label: str) -> None:
        super().configure(label)
        with (self.directory / "haproxy.cfg").open("a") as file:
            file.write(
                f"""
ring lines
    format rfc3164
    maxlen 1200
    size 8388608
    timeout connect 5s
    timeout server 10s
    server sink 127.0.0.1:{self.sink_port}
"""
            )

    def start(self) -> None:
        program = str(machine.compile_c("syslog"))
        self.sink = machine.start([program, str(self.sink_port)], machine.OTHER_CORE, self.log)
        super().start()

    def stop(self) -> None:
        super().stop()
        if self.sink is not None:
            machine.stop(self.sink)
            self.sink = None


class LoggingGateway(Gateway):
    """With the access log alone."""

    @property
    def label(self) -> str:
        return f"{super().label}, access log"

    def options(self) -> list[str]:
        return ["--access-log", str(self.directory / "access.log")]


class ObservedGateway(Gateway):
    """With the access log, traces, and metrics."""

    def __init__(self, backends: Backends, directory: Path, routes: int) -> None:
        super().__init__(backends, directory, routes)
        self.collector_port = machine.free_port()
        self.collector: subprocess.Popen[bytes] | None = None

    def options(self) -> list[str]:
        endpoint = f"http://127.0.0.1:{self.collector_port}"
        log = self.directory / "access.log"
        return ["--access-log", str(log), "--otlp-endpoint", endpoint, "--trace-sample", "0.1"]

    def start(self) -> None:
        command = [sys.executable, "-m", "bench.collector", str(self.collector_port)]
        self.collector = machine.start(command, machine.OTHER_CORE, self.log)
        super().start()
        machine.pin(self.all(), machine.PROXY_CORE)

    def charged(self) -> list[int]:
        return self.all()

    def uncharged(self) -> list[int]:
        return []

    def stop(self) -> None:
        super().stop()
        if self.collector is not None:
            machine.stop(self.collector)
            self.collector = None


def observed(proxies: list[Proxy], plan: Plan) -> Results:
    """The plain request, with everything on."""

    def once(proxy: Proxy) -> Numbers:
        for log in proxy.directory.glob("access.log"):
            if log.stat().st_size > KEEP_BYTES:
                with log.open("r+b") as file:
                    file.truncate()
        with _scraped(proxy):
            wrk(proxy.port, PATH, CONNECTIONS, plan.warm_up)
            return scenarios.charge(proxy, lambda: wrk(proxy.port, PATH, CONNECTIONS, plan.seconds))

    with scenarios.running(proxies):
        return scenarios.alternate(proxies, plan, "observed", once)


@contextlib.contextmanager
def _scraped(proxy: Proxy) -> Iterator[None]:
    """A scrape of the gateway's metrics again and again meanwhile."""
    over = threading.Event()

    def scrape() -> None:
        assert isinstance(proxy, Gateway)
        while not over.wait(SCRAPE_EVERY):
            metrics(proxy)

    if not isinstance(proxy, Gateway):
        yield
        return
    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def metrics(gateway: Gateway) -> Counter[str]:
    """All metrics, each the sum over its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.admin_port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: Counter[str] = Counter()
    for line in lines:
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.partition("{")[0]] += float(value)  # type: ignore[assignment]
    return found


def logged(proxies: list[Gateway], plan: Plan) -> Results:
    """What a line costs: the worker, which tells of a request, and the control process, which writes it."""

    def once(proxy: Proxy) -> Numbers:
        assert isinstance(proxy, Gateway)
        wrk(proxy.port, PATH, CONNECTIONS, plan.warm_up)
        time.sleep(SETTLE)
        before = metrics(proxy)
        control = machine.cpu_ns([proxy.main.pid])
        time.sleep(plan.seconds)  # what the control process does without requests is not the log's
        idle = machine.cpu_ns([proxy.main.pid]) - control
        numbers = scenarios.charge(proxy, lambda: wrk(proxy.port, PATH, CONNECTIONS, plan.seconds))
        time.sleep(SETTLE)
        after = metrics(proxy)
        lines = after[LINES] - before[LINES]
        used = numbers["control"] * numbers["rate"] * plan.seconds * 1000 - idle
        return {
            **numbers,
            "lines": lines / plan.seconds,
            "line_us": used / lines / 1000 if lines else 0.0,
            "dropped": after[DROPPED] - before[DROPPED],
        }

    with scenarios.running(list(proxies)):
        return scenarios.alternate(list(proxies), plan, "access log", once)
