"""One of the two processes of an upgrade is killed, at each stage: the other goes on, and nothing is lost."""

from __future__ import annotations

import os
import signal

from chaos.load import Load
from e2e.upgrading import CLIENTS, STAGES, Start, serve
from harness.victim import Victim

from tests.processes import alive, eventually
from tests.upgrades import Copy, family


def test_the_new_process_is_killed(start: Start, victim: Victim, copy: Copy) -> None:
    node = start(PYTHONPATH=str(copy.path))
    serve(node, victim.url)
    with Load(node.proxy_port, CLIENTS) as load:
        for stage, place in STAGES.items():
            with copy.halted(*place) as halt, node.begin_upgrade() as asking:
                new = halt.wait()
                node.pids |= {new, *family(new)}
                os.kill(new, signal.SIGKILL)
                asking.communicate(timeout=60)
                assert asking.returncode == 1, stage
            load.run_on()
            eventually(lambda: node.in_charge == node.process.pid, f"the old one goes on: {stage}")
            eventually(lambda: node.health()["status"] == "Healthy", f"it answers: {stage}")
            assert load.failed() == [], stage
        code, said = node.upgrade()
        assert code == 0, said
        load.run_on()
    assert load.failed() == []


def test_the_old_process_is_killed(start: Start, victim: Victim, copy: Copy) -> None:
    node = start(PYTHONPATH=str(copy.path))
    serve(node, victim.url)
    with Load(node.proxy_port, CLIENTS) as load:
        for stage, place in STAGES.items():
            before, old = node.processes(), node.in_charge
            with copy.halted(*place) as halt, node.begin_upgrade() as asking:
                new = halt.wait()
                os.kill(old, signal.SIGKILL)
                node.process.poll()  # the first of them is our child
                halt.go_on()
                asking.communicate(timeout=60)
                assert asking.returncode == 1, stage
                eventually(lambda pid=new: node.in_charge == pid, f"the new one goes on: {stage}")
                eventually(lambda: node.health()["status"] == "Healthy", f"it answers: {stage}")
            eventually(lambda pids=before: not any(map(alive, pids)), f"the orphans have drained: {stage}")
            load.run_on()
            assert load.failed() == [], stage
        code, said = node.upgrade()
        assert code == 0, said
    assert load.failed() == []
