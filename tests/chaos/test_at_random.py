"""Faults one after the other in no order, with the configuration changing meanwhile."""

from __future__ import annotations

import os
import random
import signal
import time

from chaos.conftest import kill_control, served_by
from chaos.load import Load
from e2e.conftest import Api

from tests.node import Node
from tests.processes import alive, eventually

CLIENTS = {"get": 6, "post": 3, "once": 6, "slow": 2}


def test_faults_at_random_cost_the_connections_of_killed_workers_and_no_other(
    nodes, victims, write_routes, rounds, record_property
):
    seed = int(os.environ.get("CHAOS_SEED", time.time()))
    record_property("seed", seed)
    print(f"CHAOS_SEED={seed}")  # shown when it fails
    chosen = random.Random(seed)
    config = write_routes(*(victim.url for victim in victims))
    node = nodes.start("--config", str(config))
    doomed: set[int] = set()

    def worker_killed(node: Node) -> Node:
        worker = chosen.choice(node.workers())
        os.kill(worker, signal.SIGSTOP)
        doomed.update(served_by(worker, nodes.port))
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: worker not in node.workers() and len(node.workers()) == 2, "a new worker")
        return node

    def worker_drained(node: Node) -> Node:
        worker = chosen.choice(node.workers())
        os.kill(worker, signal.SIGTERM)
        eventually(lambda: not alive(worker), "it ends")
        return node

    def worker_stopped(node: Node) -> Node:
        worker = chosen.choice(node.workers())
        os.kill(worker, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(worker, signal.SIGCONT)
        return node

    def backend_stopped(node: Node) -> Node:
        victim = chosen.choice(victims)
        victim.signal(signal.SIGSTOP)
        time.sleep(0.3)
        victim.signal(signal.SIGCONT)
        return node

    def control_killed(node: Node) -> Node:
        orphans = kill_control(node)
        successor = nodes.start("--config", str(config))
        eventually(lambda: not any(map(alive, orphans)), "the orphans end")
        return successor

    def changed(node: Node) -> Node:
        api = Api(node)
        for weight in (50, 100):
            backend = api.call("GET", "/gateway/backends")["backends"][0]
            api.call("PUT", f"/gateway/backends/{backend['backendId']}", {"weight": weight})
        return node

    faults = [worker_killed, worker_drained, worker_stopped, backend_stopped, control_killed, changed]
    chosen.shuffle(faults)
    with Load(nodes.port, CLIENTS) as load:
        for number in rounds(3):
            fault = faults[number] if number < len(faults) else chosen.choice(faults)
            print(fault.__name__)
            node = fault(node)
            load.run_on(100)
    assert [one for one in load.failures if one.port not in doomed] == []
