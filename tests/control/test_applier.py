"""An apply by a process of its own: the same answers, and nothing half done whenever it is killed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hotswap_proxy.control import applying
from hotswap_proxy.control.applying import Applier
from hotswap_proxy.store import AuditEntry, Author, audit
from tests.gateway import ROUTES, Gateway, problem, running
from tests.processes import alive, eventually

pytestmark = pytest.mark.anyio
APPLY = "/api/v1/gateway/config/apply"
AUDIT = "/api/v1/audit-logs?entityType=route"
JSON = {"content-type": "application/json"}

# The applier, but it kills itself (or does something else) at one point of its way.
PATCHED = """
import os, signal, sys
from hotswap_proxy.control import applier
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
tell, hear = applier.Line.tell, applier.Line.hear
{patch}
applier.main()
"""
PREPARING = "applier._contents = die"
COMPARED = (
    "applier.Line.tell = lambda line, kind, *rest: die() if kind == 'prepared' else tell(line, kind, *rest)"
)
WRITTEN = """
heard = 0
def listen(line):
    global heard
    heard += 1
    if heard == 2:  # the first is the job, the second comes when the rows are written
        die()
    return hear(line)
applier.Line.hear = listen
"""
TOLD_TO_COMMIT = """
def listen(line):
    message = hear(line)
    if "go" in message:
        die()
    return message
applier.Line.hear = listen
"""
COMMITTED = (
    "applier.Line.tell = lambda line, kind, *rest: die() if kind == 'applied' else tell(line, kind, *rest)"
)


def patch(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program = PATCHED.format(patch=text)
    monkeypatch.setattr(applying, "COMMAND", (sys.executable, "-c", program))


def file(*names: str, **fields: Any) -> dict[str, Any]:
    routes = [{"name": name, "pathPattern": f"/{name}", "backends": ["b1"]} | fields for name in names]
    return {"backends": [{"name": "b1", "url": "http://127.0.0.1:9001"}], "routes": routes}


@pytest.fixture
async def gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str | None
) -> AsyncIterator[Gateway]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    async with running(tmp_path, database_url=database_url) as started:
        # Names do not matter here but in one test, which needs one that does not exist.
        started.configuration._applier = Applier(started.context.settings)
        yield started


async def stored(gateway: Gateway) -> list[str]:
    return [route["name"] for route in (await gateway.client.get(ROUTES)).json()["routes"]]


async def test_answers_are_those_of_an_apply_in_this_process(gateway: Gateway) -> None:
    applier = gateway.configuration._applier
    await gateway.client.post(APPLY, json=file("a", "b", "gone"))
    twice = file("a", "b")
    twice["routes"][1] |= {"pathPattern": "/a"}
    cases: list[Any] = [
        file("a", "b", priority=7),
        twice,
        file("a", priority=999),
        file("a", backends=["nix"]),
        file("a", backends=[{"url": "http://nowhere.invalid"}]),
        {"routes": [], "backends": []},
        [],
    ]
    for body in (*(json.dumps(case).encode() for case in cases), b'{"routes": [}', b"", b"\xff"):
        url = f"{APPLY}?prune=true&dryRun=true"
        answers = []
        for where in (applier, None):
            gateway.configuration._applier = where
            told = await gateway.client.post(url, content=body, headers=JSON)
            answer = told.json()
            if "error" in answer:
                for unlike in ("traceId", "timestamp"):
                    del answer["error"][unlike]
            answers.append(
                (told.status_code, re.sub(r" \((\[Errno[^)]*|not made up)\)", "", json.dumps(answer)))
            )
        assert answers[0] == answers[1]
        assert answers[0][0] in (200, 400, 409)
    assert gateway.match("/a") == "1.0" and gateway.match("/gone") == "1.0"


async def test_a_change_is_stored_served_and_in_the_audit_log(gateway: Gateway) -> None:
    answer = await gateway.client.post(APPLY, json=file("a", "b"))
    body = answer.json()
    assert (body["added"], body["generation"], body["configChangeApplied"]) == (3, 2, True)
    assert gateway.match("/a") == "1.0" and sorted(await stored(gateway)) == ["a", "b"]
    entry = (await gateway.client.get(AUDIT)).json()["auditLogs"][0]
    assert entry["username"] == "admin" and entry["userId"] and entry["client"] == "192.0.2.1"
    assert entry["traceId"] == answer.headers["x-request-id"]
    assert (await gateway.client.post(APPLY, json=file("a", "b"))).json()["unchanged"] == 3
    assert gateway.configuration.generation == 2


async def test_names_are_resolved_and_served(gateway: Gateway) -> None:
    named = file("a", backends=[{"name": "n", "url": "http://localhost:9001"}])
    assert (await gateway.client.post(APPLY, json=named)).status_code == 200
    assert gateway.configuration._addresses.known["localhost:9001"]
    route = (await gateway.client.get(ROUTES)).json()["routes"][0]
    assert gateway.pick(route["routeId"]) == "n"


async def test_a_dry_run_and_a_refused_file_leave_no_trace(gateway: Gateway) -> None:
    assert (await gateway.client.post(f"{APPLY}?dryRun=true", json=file("a"))).json()["added"] == 2
    twice = file("a", "b")
    twice["routes"][1] |= {"pathPattern": "/a"}
    answer = await gateway.client.post(APPLY, json=twice)
    assert problem(answer) == (409, "CONFLICT", [("routes[1].pathPattern", "conflict")])
    assert await stored(gateway) == [] and gateway.configuration.generation == 1


@pytest.mark.parametrize("point", [PREPARING, COMPARED, WRITTEN, TOLD_TO_COMMIT])
async def test_killed_before_its_commit_nothing_has_changed(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    await gateway.client.post(APPLY, json=file("old"))
    used = gateway.core.arena_used
    with monkeypatch.context() as patched:
        patch(patched, point)
        answer = await gateway.client.post(f"{APPLY}?prune=true", json=file("new"))
    assert problem(answer)[:2] == (503, "SERVICE_UNAVAILABLE") and "signal 9" in answer.text
    assert await stored(gateway) == ["old"]
    assert gateway.match("/old") == "1.0" and gateway.match("/new") is None
    gateway.core.reclaim()
    assert gateway.core.arena_used <= used, "the staged snapshot was discarded"
    assert (await gateway.client.post(f"{APPLY}?prune=true", json=file("new"))).status_code == 200
    assert await stored(gateway) == ["new"] and gateway.match("/new") == "1.0"


async def test_killed_after_its_commit_what_is_stored_is_served(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.client.post(APPLY, json=file("old"))
    patch(monkeypatch, COMMITTED)
    answer = await gateway.client.post(f"{APPLY}?prune=true", json=file("new"))
    assert problem(answer)[:2] == (503, "SERVICE_UNAVAILABLE") and "is live" in answer.text
    assert await stored(gateway) == ["new"]
    assert gateway.match("/new") == "1.0" and gateway.match("/old") is None


async def test_a_node_that_could_not_read_the_store_again_does_so_before_the_next_change(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hotswap_proxy.control import following
    from hotswap_proxy.errors import StoreUnavailable

    read, calls = following.read_changes, 0

    def fail(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:  # the first is before the change
            raise StoreUnavailable("not now")
        return read(*args)

    with monkeypatch.context() as patched:
        patch(patched, COMMITTED)
        patched.setattr(following, "read_changes", fail)
        assert (await gateway.client.post(APPLY, json=file("new"))).status_code == 503
        assert calls == 2 and gateway.match("/new") is None
    await gateway.configuration.follow()
    assert gateway.match("/new") == "1.0"


async def test_other_writes_wait_for_its_transaction(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = tmp_path / "written"
    patch(
        monkeypatch,
        WRITTEN.replace("die()", f"open({str(written)!r}, 'w').close(); import time; time.sleep(4)"),
    )
    apply = asyncio.create_task(gateway.client.post(APPLY, json=file("a")))
    await asyncio.to_thread(eventually, written.exists, "rows that are written and not committed")
    await gateway.store.write(audit.append, Author("test"), [AuditEntry("user.update", "u1")])
    assert (await apply).status_code == 200
    entries = (await gateway.client.get("/api/v1/audit-logs")).json()["auditLogs"]
    assert [entry["entityType"] for entry in entries[:3]] == ["user", "route", "backend"]


async def test_no_process_no_change(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "COMMAND", ("/nowhere/python",))
    answer = await gateway.client.post(APPLY, json=file("a"))
    assert problem(answer)[:2] == (503, "SERVICE_UNAVAILABLE")
    assert await stored(gateway) == [] and gateway.match("/a") is None


async def test_it_inherits_three_descriptors_and_no_secrets(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOTSWAP_JWT_SECRET", "secret")
    told = tmp_path / "told"
    held = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(held, True)
    patch(
        monkeypatch,
        "import json\n"
        "names = []\n"
        "for fd in range(64):\n"
        "    try: names.append(os.readlink(f'/proc/self/fd/{fd}'))\n"
        "    except OSError: pass\n"
        "secrets = [name for name in os.environ if 'SECRET' in name]\n"
        f"json.dump([names, secrets, os.getpid()], open({str(told)!r}, 'w'))\n",
    )
    try:
        assert (await gateway.client.post(APPLY, json=file("a"))).status_code == 200
    finally:
        os.close(held)
    files, secrets, pid = json.loads(told.read_text())
    assert [name.partition(":")[0] for name in files[3:]].count("socket") == 1
    assert sorted(name for name in files[3:] if name.startswith("/memfd")) == [
        "/memfd:document (deleted)",
        "/memfd:result (deleted)",
    ]
    assert str(tmp_path) not in files and not any(name.endswith("hotswap.db") for name in files)
    assert secrets == [] and not alive(pid)


async def test_a_signal_to_the_group_does_not_end_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(
        monkeypatch,
        "def hit(line):\n"
        "    [os.kill(os.getpid(), number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]\n"
        "    return hear(line)\n"
        "applier.Line.hear = hit",
    )
    assert (await gateway.client.post(APPLY, json=file("a"))).status_code == 200
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_it_ends_without_a_commit_when_the_control_process_is_gone(gateway: Gateway) -> None:
    from hotswap_proxy.control.apply import Job
    from hotswap_proxy.store import Author

    job = Job(json.dumps(file("a")).encode(), Author("test"), prune=True)
    work = applying.RemoteWork(job, gateway.context.settings)
    assert await work.prepare() is not None
    work._socket.close()  # as the kernel does
    assert work._process.wait(10) == 0
    assert await stored(gateway) == []
    await work.close()
