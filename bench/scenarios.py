"""What is measured. Scenarios return plain numbers by proxy label; medians and ratios are report.py's."""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from . import machine
from .load import StrictClient, WrkResult, wrk
from .proxies import Proxy

CONNECTIONS = 64
LOW_CONNECTIONS = 8
IDLE_CONNECTIONS = 1000
PATH = "/r5000/item"
LARGE = "/r5000/size/102400"
Numbers = dict[str, float]
Results = dict[str, list[Numbers]]  # by proxy label, one entry per round


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    rounds: int = 3
    seconds: float = 3.0
    warm_up: float = 1.0
    reloads: int = 5
    reload_every: float = 3.0
    say: Callable[[str], None] = field(default=print)


@contextlib.contextmanager
def running(proxies: list[Proxy]) -> Iterator[None]:
    """All of them started, all of them stopped; the idle ones cost nothing while one is measured."""
    try:
        for proxy in proxies:
            proxy.start()
        yield
    finally:
        for proxy in proxies:
            proxy.stop()


def charge(proxy: Proxy, load: Callable[[], WrkResult]) -> Numbers:
    """CPU µs per request, with the rate and latencies of the same seconds."""
    charged, uncharged = proxy.charged(), proxy.uncharged()
    before, before_other = machine.cpu_ns(charged), machine.cpu_ns(uncharged)
    result = load()
    used, used_other = machine.cpu_ns(charged) - before, machine.cpu_ns(uncharged) - before_other
    if not result.requests or result.errors:
        raise machine.BenchError(
            f"{proxy.label}: {result.requests} requests, {result.errors} errors\n{machine.tail(proxy.log)}"
        )
    return {
        "cpu": used / 1000 / result.requests,
        "control": used_other / 1000 / result.requests,
        "rate": result.rate,
        "p50": result.p50,
        "p99": result.p99,
    }


def alternate(proxies: list[Proxy], plan: Plan, name: str, once: Callable[[Proxy], Numbers]) -> Results:
    """``once`` for each proxy in turn, round after round, so that a slow minute hits all of them alike."""
    results: Results = {proxy.label: [] for proxy in proxies}
    for turn in range(plan.rounds):
        for proxy in proxies:
            numbers = once(proxy)
            results[proxy.label].append(numbers)
            shown = "  ".join(f"{key} {value:,.1f}" for key, value in numbers.items())
            plan.say(f"  {name} {turn + 1}/{plan.rounds}  {proxy.label:<32} {shown}")
    return results


def requests(
    proxies: list[Proxy], plan: Plan, name: str, path: str, connections: int, close: bool = False
) -> Results:
    """One kind of request in a closed loop."""

    def once(proxy: Proxy) -> Numbers:
        tls = proxy.tls is not None
        wrk(proxy.port, path, connections, plan.warm_up, close, tls)
        return charge(proxy, lambda: wrk(proxy.port, path, connections, plan.seconds, close, tls))

    return alternate(proxies, plan, name, once)


def half_load(proxies: list[Proxy], plan: Plan, rate: float) -> Results:
    """Latency at the same paced rate for all, about half of what the slowest can do."""

    def once(proxy: Proxy) -> Numbers:
        with StrictClient(
            proxy.port, CONNECTIONS, plan.seconds + plan.warm_up, rate, min(proxy.routes, 10_000)
        ) as client:
            begin = time.monotonic() + plan.warm_up
        result = client.result
        if result.failed:
            raise machine.BenchError(f"{proxy.label} at half load: {result.outcomes()}")
        return {
            "p50": result.quantile(0.5, lambda sample: sample.start > begin),
            "p99": result.quantile(0.99, lambda sample: sample.start > begin),
        }

    return alternate(proxies, plan, "half load", once)


def idle_memory(proxies: list[Proxy], plan: Plan) -> Results:
    """KB of PSS per idle client connection, each of which was used once; and the whole proxy's PSS in MB."""

    def once(proxy: Proxy) -> Numbers:
        proxy.start()
        try:
            with contextlib.ExitStack() as stack:
                opened = [stack.enter_context(used_connection(proxy.port)) for _ in range(20)]
                time.sleep(0.3)
                before = machine.pss_kb(proxy.all())
                opened += [stack.enter_context(used_connection(proxy.port)) for _ in range(IDLE_CONNECTIONS)]
                time.sleep(0.3)
                after = machine.pss_kb(proxy.all())
                return {"idle_kb": (after - before) / IDLE_CONNECTIONS, "total_mb": after / 1024}
        finally:
            proxy.stop()

    return alternate(proxies, plan, "idle connections", once)


@contextlib.contextmanager
def used_connection(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: bench/1\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received or not received.endswith(b"x" * 128):
            chunk = connection.recv(65536)
            if not chunk:
                raise machine.BenchError(f"connection closed after {received[:100]!r}")
            received += chunk
        yield connection


def reloads(proxies: list[Proxy], plan: Plan, rate: float) -> Results:
    """All routes move to the other backend and back, by a reload of the file, under paced keep-alive load."""
    return {proxy.label: [reload_under_load(proxy, plan, rate)] for proxy in proxies}


def reload_under_load(proxy: Proxy, plan: Plan, rate: float) -> Numbers:
    steady = 3.0
    seconds = plan.warm_up + steady + plan.reloads * plan.reload_every
    triggers: list[tuple[float, str]] = []
    proxy.start()
    try:
        with StrictClient(proxy.port, CONNECTIONS, seconds, rate, proxy.routes) as client:
            begin = time.monotonic() + plan.warm_up
            time.sleep(plan.warm_up + steady)
            for turn in range(plan.reloads):
                label = "ba"[turn % 2]
                proxy.configure(label)
                triggers.append((time.monotonic(), label))
                proxy.reload()
                time.sleep(
                    max(0.0, triggers[0][0] + plan.reload_every * (turn + 1) - time.monotonic() - 0.05)
                )
        numbers = changes(client, triggers, begin, plan.reload_every - 0.1)  # ends before the next trigger
        plan.say(
            f"  reload  {proxy.label:<32} {client.result.outcomes()} "
            f"p99 {numbers['during'] / numbers['steady']:.2f} x steady"
        )
        return numbers
    finally:
        proxy.stop()


def changes(client: StrictClient, triggers: list[tuple[float, str]], begin: float, window: float) -> Numbers:
    """Effective: from the trigger to the start of the last request that the old configuration answered."""
    result = client.result
    effective: list[float] = []
    for moment, label in triggers:
        late = [
            s.start - moment
            for s in result.samples
            if moment < s.start < moment + window and s.backend not in ("", label)
        ]
        effective.append(max(late, default=0.0) * 1000)
    return {
        "changes": len(triggers),
        "requests": result.requests,
        "failed": result.failed,
        "closed": result.closed,
        "effective_ms": statistics.median(effective),
        "effective_worst_ms": max(effective),
        "steady": result.quantile(0.99, lambda s: begin < s.start < triggers[0][0]),
        "during": result.quantile(0.99, lambda s: any(t <= s.start < t + 1.0 for t, _ in triggers)),
    }
