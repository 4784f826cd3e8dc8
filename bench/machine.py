"""What the benchmark needs of the machine: tools, cores, and the counters of the kernel."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / "build" / "bench"
PROXY_CORE = 0
OTHER_CORE = 1  # load generator, backends, and whatever of a proxy does no proxying
NO_SERVICES = Path("/usr/sbin/policy-rc.d")


class BenchError(RuntimeError):
    """The benchmark cannot run here, or a proxy did not do what it was told."""


def require_tools(names: Iterable[str]) -> None:
    """Install the missing ones of ``names`` from the distribution, without starting them as services."""
    missing = [name for name in names if find(name) is None]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise BenchError(f"please install: {' '.join(missing)}")
    guard = not NO_SERVICES.exists()
    if guard:
        NO_SERVICES.write_text("#!/bin/sh\nexit 101\n")
        NO_SERVICES.chmod(0o755)
    try:
        subprocess.run(["apt-get", "update", "-q"], check=True)
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
        subprocess.run(
            [*install, *missing], check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
    finally:
        if guard:
            NO_SERVICES.unlink()


def find(name: str) -> str | None:
    """The program's path; Debian keeps servers in sbin, which a user's PATH may not have."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def program(name: str) -> str:
    found = find(name)
    if found is None:
        raise BenchError(f"{name} is not installed")
    return found


def compile_c(name: str) -> Path:
    """Compile ``bench/<name>.c`` unless the program is newer than its source."""
    WORK.mkdir(parents=True, exist_ok=True)
    source, built = HERE / f"{name}.c", WORK / name
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-Wall", "-o", str(built), str(source)], check=True)
    return built


def prepare() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        raise BenchError("two cores are needed: one for the proxy, one for all the rest")
    os.sched_setaffinity(0, {OTHER_CORE})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 20_000 if hard == resource.RLIM_INFINITY else min(20_000, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    command: list[str], core: int, log: Path, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start ``command`` pinned to ``core``, its output in ``log``."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [program("taskset"), "-c", str(core), *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=env,
        )


def stop(process: subprocess.Popen[bytes], timeout: float = 10.0) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path, timeout: float = 30.0) -> None:
    """Return when something accepts on the port; an early death is told with the end of the log."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"{process.args!r} ended at start:\n{tail(log)}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise BenchError(f"nothing listens on port {port} after {timeout:.0f} s:\n{tail(log)}")


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue  # the thread ended meanwhile
    return found


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def cpu_ns(pids: Iterable[int]) -> int:
    """Nanoseconds of CPU that all threads of the processes have used, user and kernel."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except OSError:
                continue
    return total


def pss_kb(pids: Iterable[int]) -> int:
    """Proportional set size: a page shared by N processes counts 1/N in each, so the sum is exact."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def pin(pids: Iterable[int], core: int) -> None:
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


def busy(seconds: float = 1.0) -> float:
    """Share of all cores that was in use over the last ``seconds``, before anything of ours runs."""

    def sample() -> tuple[int, int]:
        values = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(values), values[3] + values[4]  # idle, iowait

    total, idle = sample()
    time.sleep(seconds)
    total_after, idle_after = sample()
    return 1 - (idle_after - idle) / max(1, total_after - total)


def describe() -> str:
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}"


def version_of(name: str) -> str:
    """The version number a program reports, e.g. ``1.22.1``."""
    flag = {"haproxy": "-v", "nginx": "-v", "wrk": "-v"}[name]
    result = subprocess.run([program(name), flag], capture_output=True, text=True, check=False)
    words = (result.stderr + result.stdout).replace("/", " ").split()
    return next((word.split("-")[0] for word in words if word[0].isdigit()), "?")
