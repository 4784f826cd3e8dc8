"""``python -m bench``: measure, print the tables, write them into docs/performance.md."""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import certificate, gateway, machine, report, scenarios
from .certificate import Certificate
from .gateway import Gateway, Guarded
from .live import api_changes
from .observed import (
    BufferedNginx,
    LoggingGateway,
    LoggingHAProxy,
    LoggingNginx,
    ObservedGateway,
    logged,
    observed,
)
from .proxies import ROUTES, Backends, HAProxy, Nginx, Proxy
from .rollout import Deploying, steps
from .scenarios import CONNECTIONS, LARGE, LOW_CONNECTIONS, PATH, Plan, Results

QUICK = Plan(rounds=1, seconds=1, warm_up=0.5, reloads=2, reload_every=2.5)
PEERS: dict[str, type[Proxy]] = {"nginx": Nginx, "haproxy": HAProxy}
CHOICES = (*PEERS, "gateway")
# The most half load may ask for where no closed loop was measured before it.
DEFAULT_RATE = 10_000.0
MOSTLY_IDLE = 0.1


class Run:
    """One run: the proxies chosen, the scenarios chosen, the report filled scenario by scenario."""

    def __init__(
        self, plan: Plan, only: set[str], chosen: list[str], backends: Backends, scratch: Path
    ) -> None:
        self.plan = plan
        self.only = only
        self.backends = backends
        self.scratch = scratch
        self.report = report.Report()
        self.chosen = chosen
        if "gateway" in chosen and (reason := gateway.available()) is not None:
            self.report.notes.append(f"hotswap-proxy not measured: {reason}.")
            self.chosen = [name for name in chosen if name != "gateway"]

    def make(self, name: str, routes: int, tls: Certificate | None = None) -> Proxy:
        directory = self.scratch / f"{name}-{routes}{'-tls' if tls else ''}"
        if name == "gateway":
            return Gateway(self.backends, directory, routes, tls=tls)
        return PEERS[name](self.backends, directory, routes, tls)

    def tls_field(self) -> list[Proxy]:
        """As ``field``, over TLS 1.3 with one certificate for all."""
        made = certificate.make(self.scratch / "certificate")
        return [self.make(name, ROUTES if name == "gateway" else 1, made) for name in self.chosen]

    def field(self, full: bool = False) -> list[Proxy]:
        """The gateway always has 10,000 routes; a peer has one, and with ``full`` it runs with 10,000 too."""
        proxies = [self.make(name, 1) for name in self.chosen if name in PEERS]
        if full:
            proxies += [self.make(name, ROUTES) for name in self.chosen if name in PEERS]
        if "gateway" in self.chosen:
            proxies.append(self.make("gateway", ROUTES))
        return proxies

    def guarded(self) -> list[Proxy]:
        """The gateway twice more: with health checks, breakers, retries and limits on each route; and with
        the measured route between two versions.
        """
        if "gateway" not in self.chosen:
            return []
        return [
            Guarded(self.backends, self.scratch / "guarded", ROUTES),
            Deploying(self.backends, self.scratch / "deploying", ROUTES),
        ]

    def observed_field(self) -> list[Proxy]:
        made: list[Proxy] = []
        if "nginx" in self.chosen:
            made.append(LoggingNginx(self.backends, self.scratch / "nginx-log", 1))
            made.append(BufferedNginx(self.backends, self.scratch / "nginx-buffered-log", 1))
        if "haproxy" in self.chosen:
            made.append(LoggingHAProxy(self.backends, self.scratch / "haproxy-log", 1))
        if "gateway" in self.chosen:
            made.append(ObservedGateway(self.backends, self.scratch / "observed", ROUTES))
        return made

    def logged_field(self) -> list[Gateway]:
        return [
            Gateway(self.backends, self.scratch / "not-logged", ROUTES),
            LoggingGateway(self.backends, self.scratch / "logged", ROUTES),
        ]

    def loaded(self) -> list[Proxy]:
        return [self.make(name, ROUTES) for name in self.chosen]

    def all(self) -> None:
        if self.only & {"plain", "large", "close", "low", "half"}:
            proxies = self.field(full=True)
            plain_only = [proxy for proxy in proxies if proxy.routes == 1 or proxy.name == Gateway.name]
            with scenarios.running(proxies):
                guarded = self.guarded()
                with scenarios.running(guarded):
                    self.requests("plain", [*proxies, *guarded], PATH, CONNECTIONS)
                self.requests("large", plain_only, LARGE, CONNECTIONS)
                self.requests("close", plain_only, PATH, CONNECTIONS, close=True)
                self.requests("low", plain_only, PATH, LOW_CONNECTIONS)
                self.scenario("half", lambda: scenarios.half_load(proxies, self.plan, self.half_rate()))
        if self.only & {"tls", "tls-large", "handshakes"}:
            proxies = self.tls_field()
            with scenarios.running(proxies):
                self.requests("tls", proxies, PATH, CONNECTIONS)
                self.requests("tls-large", proxies, LARGE, CONNECTIONS)
                self.requests("handshakes", proxies, PATH, CONNECTIONS, close=True)
        self.scenario("observed", lambda: observed(self.observed_field(), self.plan))
        if "gateway" in self.chosen:
            self.scenario("logged", lambda: logged(self.logged_field(), self.plan))
        self.scenario("idle", lambda: scenarios.idle_memory(self.field(), self.plan))
        self.scenario("reload", lambda: scenarios.reloads(self.loaded(), self.plan, self.half_rate()))
        if "gateway" in self.chosen:
            self.scenario("api", self.api)
            self.scenario("rollout", self.rollout)

    def api(self) -> Results:
        tested = Gateway(self.backends, self.scratch / "gateway-api", ROUTES)
        return {tested.label: [api_changes(tested, self.plan, self.half_rate())]}

    def rollout(self) -> Results:
        tested = Gateway(self.backends, self.scratch / "gateway-rollout", ROUTES)
        return {tested.label: [steps(tested, self.plan, self.half_rate())]}

    def requests(
        self, name: str, proxies: list[Proxy], path: str, connections: int, close: bool = False
    ) -> None:
        self.scenario(name, lambda: scenarios.requests(proxies, self.plan, name, path, connections, close))

    def scenario(self, name: str, measure: Callable[[], Results]) -> None:
        if name in self.only:
            print(f"{report.TITLES[name]}")
            self.report.results[name] = measure()

    def half_rate(self) -> float:
        """Half of what the slowest did in the plain scenario, so that all of them have room."""
        measured = self.report.results.get("plain")
        if not measured:
            return DEFAULT_RATE
        return min(statistics.median(n["rate"] for n in rounds) for rounds in measured.values()) / 2


def start_backends(processes: list[subprocess.Popen[bytes]]) -> Backends:
    program = str(machine.compile_c("backend"))
    log = machine.WORK / "backend.log"
    ports = {}
    for label in "ab":
        ports[label] = machine.free_port()
        process = machine.start([program, str(ports[label]), label], machine.OTHER_CORE, log)
        processes.append(process)
        machine.wait_for(ports[label], process, log)
    return Backends(ports["a"], ports["b"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of everything; writes nothing")
    parser.add_argument("--only", nargs="+", choices=list(report.TITLES), default=list(report.TITLES))
    parser.add_argument("--proxies", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--no-write", action="store_true", help="leave docs/performance.md alone")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    started = time.monotonic()
    processes: list[subprocess.Popen[bytes]] = []
    scratch = Path(tempfile.mkdtemp(prefix="hotswap-bench-"))
    try:
        machine.require_tools(["wrk", *(name for name in options.proxies if name in PEERS)])
        machine.prepare()
        occupied = machine.busy()
        plan = QUICK if options.quick else Plan()
        run = Run(plan, set(options.only), options.proxies, start_backends(processes), scratch)
        if occupied > MOSTLY_IDLE:
            note = f"Other programs used {occupied:.0%} of the machine when this began: read it with care."
            run.report.notes.append(note)
            print(f"bench: {note}", file=sys.stderr)
        run.all()
        labels = dict.fromkeys(label for results in run.report.results.values() for label in results)
        text = "\n\n".join(
            [report.heading(plan.rounds, labels), *run.report.notes, report.tables(run.report)]
        )
        print(f"\n{text}\n")
        run.report.save(machine.WORK / "latest.json")
        everything = set(options.only) == set(report.TITLES) and len(options.proxies) == len(CHOICES)
        if everything and not options.quick and not options.no_write:
            report.write(text)
            print(f"written to {report.DOCUMENT}")
    except machine.BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        for process in processes:
            machine.stop(process)
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"took {time.monotonic() - started:.0f} s; all numbers in {machine.WORK / 'latest.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
