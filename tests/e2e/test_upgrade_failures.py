"""A new version that does not work, and an end in the middle: the node goes on, or ends, in order."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from chaos.load import Load
from e2e.upgrading import CLIENTS, STAGES, Start, add_route, serve
from harness.client import Client
from harness.victim import Victim

from hotswap_proxy.control.handover.asking import Asking
from hotswap_proxy.control.handover.words import UpgradeError
from tests.node import children
from tests.processes import alive, eventually
from tests.upgrades import Copy

# Of a module: a line, and what stands before it in the new version.
BROKEN = {
    "it cannot be imported": ("control/main.py", "import asyncio\n", "import nothing_of_this_name\n"),
    "its settings are refused": (
        "control/__main__.py",
        "        settings.check_combinations()",
        "        raise SettingsError(['HOTSWAP_OLD: no'])\n",
    ),
    "its workers die": ("worker/main.py", "    resources = Resources(", "    raise SystemExit(9)\n"),
    "it fails in charge": ("deploy/start.py", "    leadership = ", "    raise RuntimeError('broken')\n"),
}


def test_a_new_version_that_fails_changes_nothing(start: Start, victim: Victim, copy: Copy) -> None:
    node = start(PYTHONPATH=str(copy.path))
    api = serve(node, victim.url)
    control = node.in_charge
    with Load(node.proxy_port, CLIENTS) as load:
        for how, (module, line, more) in BROKEN.items():
            with copy.changed(module, line, more + line):
                code, said = node.upgrade()
            assert code == 1 and "not upgraded" in said, how
            load.run_on()
            assert node.in_charge == control == node.process.pid, how
            assert len(node.workers()) == 2, how
            add_route(api, f"/{module}", victim.url)
            assert load.failed() == [], how
        code, said = node.upgrade()
        assert code == 0, said
        load.run_on()
    assert load.failed() == []
    assert len([line for line in node.events() if "upgrade failed" in line["event"]]) == len(BROKEN)


def test_one_that_does_not_come_up_is_not_waited_for(
    start: Start, victim: Victim, copy: Copy, tmp_path: Path
) -> None:
    node = start(PYTHONPATH=str(copy.path))
    serve(node, victim.url)
    spawner = node.spawner()
    with copy.halted(*STAGES["prepares"]), node.begin_upgrade("--timeout", "4") as first:
        assert first.stdout is not None and "starts" in first.stdout.readline()
        (new,) = eventually(lambda: set(children(node.in_charge)) - {spawner}, "the new process")
        with pytest.raises(UpgradeError, match="an upgrade is under way"):
            Asking(tmp_path / "data").begin(sys.executable, 60)
        _, said = first.communicate(timeout=60)
        assert first.returncode == 1 and "not ready within 4 s" in said
        assert not alive(new)
    with Client(node.proxy_port) as client:
        assert client.get("/get").status == 200


@pytest.mark.parametrize("stage", ["prepares", "serves"])
def test_sigterm_in_the_middle_ends_both(start: Start, victim: Victim, copy: Copy, stage: str) -> None:
    node = start(PYTHONPATH=str(copy.path))
    serve(node, victim.url)
    with copy.halted(*STAGES[stage]) as halt, node.begin_upgrade() as asking:
        new = halt.wait()
        node.processes()
        assert node.end() == 0
        assert not alive(new)
        asking.communicate(timeout=30)
        assert asking.returncode == 1
    eventually(lambda: not any(map(alive, node.pids)), "all have ended")
