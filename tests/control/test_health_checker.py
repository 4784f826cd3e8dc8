"""The scheduler and its probes on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.backend import Backend, ok

from hotswap_proxy.control.health import checker as checker_module
from hotswap_proxy.control.health.checker import Checker
from hotswap_proxy.control.health.machine import State
from hotswap_proxy.control.health.registry import Target
from hotswap_proxy.control.health.spec import CheckSpec, Wanted, read_spec
from hotswap_proxy.errors import Unavailable
from hotswap_proxy.model import HealthCheck, UrlRules

pytestmark = pytest.mark.anyio
RULES = UrlRules(allowed_commands=frozenset({"/bin/sh", "/no/such/program"}))
FAST = {"interval": "100ms", "timeout": "300ms"}


class Table:
    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.writes: list[int] = []

    def set_backend_status(self, address: str, status: int) -> bool:
        self.statuses[address] = status
        self.writes.append(status)
        return True


class Rig:
    """A running checker, and what it told."""

    def __init__(self) -> None:
        self.table = Table()
        self.flips: list[str] = []
        self.checker = Checker(self.table, self._on_flip)

    def _on_flip(self, target: Target, _old: Any, new: Any) -> None:
        assert target.last is not None
        self.flips.append(f"{new.state.name}: {target.last.reason}")

    def check(self, url: str, owner: str = "b", **fields: Any) -> Target:
        spec = spec_of(**fields)
        self.configure(owner, Wanted(owner, owner, url, spec))
        target = self.checker.registry.find(url, spec)
        assert target is not None
        return target

    def configure(self, owner: str, *wanted: Wanted) -> None:
        self.checker.prepare({owner: wanted}, {})
        self.checker.settle()

    async def until(self, condition: Callable[[], Any], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def spec_of(**fields: Any) -> CheckSpec:
    return read_spec(HealthCheck.model_validate(FAST | fields, context=RULES).document())


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    rig.checker.start()
    yield rig
    await rig.checker.stop()


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()
    assert backend.protocol_errors == []


@contextlib.contextmanager
def listening(*, accepts: bool = True) -> Iterator[tuple[socket.socket, str]]:
    with socket.create_server(("127.0.0.1", 0), backlog=0 if not accepts else 16) as server:
        yield server, f"http://127.0.0.1:{server.getsockname()[1]}"


async def reason(rig: Rig, target: Target) -> str:
    """Of the first probe."""
    await rig.until(lambda: target.last)
    assert target.last is not None
    return ("+ " if target.last.success else "- ") + target.last.reason


async def test_it_probes_at_once_and_then_by_its_interval(rig: Rig, backend: Backend) -> None:
    started = time.monotonic()
    target = rig.check(
        backend.url, interval="400ms", headers={"X-Probe": "yes", "Host": "up.example"}, endpoint="/up?x"
    )
    await rig.until(lambda: target.probes)
    assert time.monotonic() - started < 0.3
    assert rig.table.statuses == {backend.url: 1}
    assert rig.flips == [], "a start is no news"
    (request,) = backend.requests
    assert (request.method, request.target) == ("GET", "/up?x")
    assert (request.header("x-probe"), request.header("host")) == ("yes", "up.example")
    await asyncio.sleep(2)
    assert 4 <= target.probes <= 8


async def test_failures_take_it_out_and_successes_bring_it_back(rig: Rig, backend: Backend) -> None:
    answers = iter([b"200 OK"] * 2 + [b"500 No"] * 3 + [b"200 OK", b"500 No"] + [b"200 OK"] * 99)
    backend.script = lambda _request: ok(status=next(answers))
    target = rig.check(backend.url)
    await rig.until(lambda: len(rig.flips) == 2)
    assert rig.flips == ["DOWN: status 500 instead of 200", "UP: status 200"]
    assert target.probes == 9  # 2 good, 3 bad, 1 good, 1 bad, 2 good
    assert rig.table.writes == [0, 1, 2, 1], "workers hear of edges only"
    assert rig.checker.results["failure"] == 4
    assert rig.checker.flips == {"healthy": 1, "unhealthy": 1}


async def test_flapping_below_the_threshold_changes_nothing(rig: Rig, backend: Backend) -> None:
    turns = iter(range(1000))
    backend.script = lambda _request: ok(status=b"500 No" if next(turns) % 3 else b"200 OK")
    target = rig.check(backend.url)
    await rig.until(lambda: target.probes >= 10)
    assert rig.flips == []
    assert target.health.state is State.UP


async def test_the_body_must_have_the_text(rig: Rig, backend: Backend) -> None:
    backend.script = lambda _request: ok(b'{"state": "ready"}')
    assert await reason(rig, rig.check(backend.url, "a", expectedResponseBody="ready")) == "+ status 200"
    lost = rig.check(backend.url, "b", expectedResponseBody="steady")
    assert await reason(rig, lost) == "- status 200, but the expected text is not in the body"


async def test_a_body_that_comes_in_pieces_is_awaited(rig: Rig, backend: Backend) -> None:
    def drip(_request: object) -> Iterator[bytes]:
        for piece in (b"HTTP/1.1 200 OK\r\nContent-", b"Length: 5\r\n\r\nre", b"ady"):
            yield piece
            time.sleep(0.03)

    backend.script = drip
    assert await reason(rig, rig.check(backend.url, expectedResponseBody="ready")) == "+ status 200"


@pytest.mark.parametrize("kind", ["Http", "Tcp"])
async def test_nobody_listens(rig: Rig, kind: str) -> None:
    with listening() as (server, url):
        server.close()
        assert await reason(rig, rig.check(url, type=kind)) == "- connection refused"


async def test_tcp_asks_for_a_connection_only(rig: Rig) -> None:
    with listening() as (_, url):
        assert await reason(rig, rig.check(url, type="Tcp")) == "+ connected"


async def test_silence_times_out(rig: Rig) -> None:
    with listening() as (_, url):
        target = rig.check(url, initialState="Hold")
        started = time.monotonic()
        assert await reason(rig, target) == "- timed out after 0.3 s waiting for the whole answer"
        assert 0.28 < time.monotonic() - started < 0.8
        await rig.until(lambda: rig.flips)
        assert target.probes == 3
        assert target.flight is None or len(rig.checker._sockets or ()) == 1  # nothing piles up


async def test_a_queue_that_is_full_times_out(rig: Rig) -> None:
    with listening(accepts=False) as (server, url), contextlib.ExitStack() as stack:
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        told = await reason(rig, rig.check(url, type="Tcp"))
        assert told == "- timed out after 0.3 s waiting for the connection"


async def test_an_endless_answer_is_cut_off(rig: Rig, backend: Backend) -> None:
    def endless(_request: object) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield b"x" * 4096

    backend.script = endless
    assert await reason(rig, rig.check(backend.url, timeout="5s")) == "+ status 200"


async def test_a_connection_closed_without_an_answer(rig: Rig, backend: Backend) -> None:
    backend.script = lambda _request: None
    assert await reason(rig, rig.check(backend.url)) in ("- closed without an answer", "- connection reset")


async def test_one_probe_serves_all_backends_of_an_address(rig: Rig, backend: Backend) -> None:
    spec = spec_of(interval="10s")
    rig.configure("many", *(Wanted(str(n), str(n), backend.url, spec) for n in range(20)))
    await rig.until(lambda: backend.requests)
    await asyncio.sleep(0.3)
    assert len(backend.requests) == 1


async def test_a_change_of_something_else_neither_probes_nor_resets(rig: Rig, backend: Backend) -> None:
    target = rig.check(backend.url, interval="10s")
    await rig.until(lambda: target.probes)
    for turn in range(20):
        rig.configure("other", Wanted(str(turn), "x", "http://127.0.0.1:1", spec_of(interval="10s")))
        rig.configure("b", Wanted("b", f"renamed {turn}", backend.url, target.spec))
    await asyncio.sleep(0.2)
    assert target.probes == 1
    assert rig.table.statuses[backend.url] == 1


async def test_a_removed_check_probes_no_more(rig: Rig, backend: Backend) -> None:
    target = rig.check(backend.url)
    await rig.until(lambda: target.probes)
    rig.configure("b")
    seen = len(backend.requests)
    await asyncio.sleep(0.4)
    assert len(backend.requests) <= seen + 1  # one may have been under way
    assert rig.table.statuses[backend.url] == 0


async def test_a_check_removed_while_it_runs_leaves_no_trace(rig: Rig) -> None:
    with listening() as (_, url):
        target = rig.check(url)
        await rig.until(lambda: target.flight)
        rig.configure("b")
        assert len(rig.checker._sockets or ()) == 0, "its socket is closed"
        await asyncio.sleep(0.5)
        assert target.last is None
        assert rig.table.statuses[url] == 0


async def test_names_are_probed_where_the_data_plane_connects(rig: Rig, backend: Backend) -> None:
    spec = spec_of()
    url = f"http://users.internal:{backend.port}"
    wanted = (Wanted("b", "b", url, spec),)
    rig.checker.prepare({"b": wanted}, {})
    target = rig.checker.registry.find(url, spec)
    assert target is not None
    assert await reason(rig, target) == "- the name has no address"
    rig.checker.prepare({}, {f"users.internal:{backend.port}": [f"127.0.0.1:{backend.port}", "127.0.0.9:1"]})
    await rig.until(lambda: backend.requests)
    assert backend.requests[0].header("host") == f"users.internal:{backend.port}"
    await rig.until(lambda: target.status == 1)


async def test_check_now_waits_for_a_result(rig: Rig, backend: Backend) -> None:
    target = rig.check(backend.url, interval="1h")
    await rig.until(lambda: target.probes)
    running = rig.checker.check_now(backend.url, target.spec)
    assert running is not None
    assert (await running).probes == 2
    backend.close()
    for _ in range(3):
        running = rig.checker.check_now(backend.url, target.spec)
        assert running is not None
        await running
    assert rig.table.statuses[backend.url] == 2, "asked for or not, an answer counts"
    assert rig.checker.check_now("http://127.0.0.1:9", target.spec) is None
    running = rig.checker.check_now(backend.url, target.spec)
    assert running is not None
    asking = asyncio.ensure_future(running)
    await asyncio.sleep(0)
    rig.configure("b")
    with pytest.raises(Unavailable, match="removed"):
        await asking


async def test_the_dead_do_not_hold_up_the_living(
    rig: Rig, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as (_, url):
        port = url.rpartition(":")[2]
        dead = [
            Wanted(str(n), "x", f"http://127.0.1.{n}:{port}", spec_of(timeout="2s")) for n in range(1, 200)
        ]
        # They connect to nothing that answers: all time out.
        rig.configure("dead", *dead)
        target = rig.check(backend.url)
        await rig.until(lambda: target.probes >= 5, 3)


async def test_probes_are_bounded_by_the_files_there_are(rig: Rig) -> None:
    rig.checker._limit = 10
    with listening() as (server, _):
        port = server.getsockname()[1]
        some = [
            Wanted(str(n), "x", f"http://127.0.0.1:{port}", spec_of(timeout=f"{n}s")) for n in range(1, 40)
        ]
        rig.configure("some", *some)
        peak = 0
        for _ in range(30):
            await asyncio.sleep(0.01)
            peak = max(peak, len(rig.checker._sockets or ()))
        assert peak == 10


# --- commands -------------------------------------------------------------------------------------


def shell(script: str) -> dict[str, Any]:
    return {"type": "Custom", "command": ["/bin/sh", "-c", script]}


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            'test "$BACKEND_URL $BACKEND_HOST $BACKEND_PORT" = "http://127.0.0.1:7 127.0.0.1 7"',
            "+ exit status 0",
        ),
        ("echo not  ready; exit 3", "- exit status 3: not ready"),
        ("kill -9 $$", "- killed by signal 9"),
        ("sleep 30 & sleep 30", "- timed out after 0.3 s"),
        ('test -z "$HOTSWAP_ADMIN_PASSWORD"', "+ exit status 0"),
    ],
)
async def test_a_command_decides_by_its_exit_status(
    rig: Rig, script: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTSWAP_ADMIN_PASSWORD", "secret")
    assert await reason(rig, rig.check("http://127.0.0.1:7", **shell(script))) == told


async def test_a_command_that_does_not_exist(rig: Rig) -> None:
    target = rig.check("http://127.0.0.1:7", type="Custom", command=["/no/such/program"])
    assert await reason(rig, target) == "- the command cannot be run: No such file or directory"


async def test_a_timeout_ends_all_that_a_command_has_started(rig: Rig, tmp_path: Path) -> None:
    script = f"sleep 47 & echo $! > {tmp_path}/pid; wait"
    await reason(rig, rig.check("http://127.0.0.1:7", interval="10s", **shell(script)))
    pid = int((tmp_path / "pid").read_text())

    def gone() -> bool:
        with contextlib.suppress(OSError):
            os.kill(pid, 0)
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return True

    await rig.until(gone, 3)


async def test_a_command_is_never_run_twice_at_a_time(rig: Rig, tmp_path: Path) -> None:
    script = f"echo >> {tmp_path}/begun; sleep 0.25"
    target = rig.check("http://127.0.0.1:7", **shell(script))
    await rig.until(lambda: target.probes >= 3)
    assert len((tmp_path / "begun").read_text()) <= target.probes + 1


async def test_times_are_jittered(rig: Rig) -> None:
    with listening() as (server, _):
        port = server.getsockname()[1]
        specs = spec_of(type="Tcp", interval="10s")
        rig.configure("x", *(Wanted(str(n), "x", f"http://127.0.2.{n}:{port}", specs) for n in range(1, 100)))
        await rig.until(lambda: all(target.probes for target in rig.checker.registry))
        due = sorted(target.due - target.started for target in rig.checker.registry)
        assert due[0] < 6 and due[-1] > 9
        assert checker_module.JITTER > 0
