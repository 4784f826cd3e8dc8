"""Compiling stands behind the workers; every process may have as many files open as it is allowed."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hotswap_proxy.control.machine import COMPILER, give_way

from tests.node import Node
from tests.processes import eventually

MODULE = "from hotswap_proxy.control.machine import *; import json"


def test_only_the_thread_that_asks_gives_way() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    with ThreadPoolExecutor(1, "compile", give_way, (COMPILER,)) as compiler:
        assert compiler.submit(niceness).result() == COMPILER
    assert niceness() == before


def test_the_soft_limit_becomes_the_hard_one() -> None:
    program = (
        f"{MODULE}; print(json.dumps([raise_descriptor_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)]))"
    )
    limit: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 512))
    done = subprocess.run(
        [sys.executable, "-c", program], preexec_fn=limit, capture_output=True, check=True, text=True
    )
    assert json.loads(done.stdout) == [[128, 512], [512, 512]]


def test_a_node_compiles_behind_its_workers_with_all_descriptors(tmp_path: Path) -> None:
    node = Node(tmp_path).start()
    try:
        told = node.logged("open files of each process")
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        assert told["limit"] == hard
        for pid in (node.process.pid, node.spawner(), *node.workers()):
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == hard
            assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)

        def threads() -> list[int]:
            tasks = Path(f"/proc/{node.process.pid}/task").iterdir()
            return [os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in tasks]

        eventually(lambda: COMPILER in threads(), "a thread that compiles")
    finally:
        node.clean_up()
