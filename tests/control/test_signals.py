"""Signals that tell a node something, at every moment of its start and of its end; what must not keep it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.node import Node
from tests.processes import eventually
from tests.upgrades import Copy


@contextlib.contextmanager
def told_again_and_again(node: Node, *numbers: signal.Signals) -> Iterator[None]:
    """From the first line of its program on; its interpreter knows nothing of it before."""
    over = threading.Event()

    def tell() -> None:
        eventually(lambda: hasattr(node, "process"), "it is started")
        program = Path(f"/proc/{node.process.pid}/cmdline")
        eventually(lambda: b"hotswap_proxy.control" in program.read_bytes(), "it is the control process")
        while not over.wait(0.002):
            for number in numbers:
                node.process.send_signal(number)

    telling = threading.Thread(target=tell)
    telling.start()
    try:
        yield
    finally:
        over.set()
        telling.join()


def test_none_ends_a_node_that_starts_or_ends(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    node = Node(tmp_path, "--workers", "1", "--access-log", str(log), HOTSWAP_ADMIN_USERNAME="admin")
    try:
        with told_again_and_again(node, signal.SIGHUP, signal.SIGUSR1):
            node.start()
            assert node.ready, node.log.read_text()[-2000:]
        with told_again_and_again(node, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            assert node.end() == 0
    finally:
        node.clean_up()


def test_a_thread_that_hangs_does_not_keep_the_node_from_its_end(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    line = '        log.info("ended")\n'
    hang = "        import concurrent.futures as _f, time; _f.ThreadPoolExecutor(1).submit(time.sleep, 600)\n"
    options = {"PYTHONPATH": str(copy.path), "HOTSWAP_ADMIN_USERNAME": "admin"}
    node = Node(tmp_path, "--workers", "1", **options)
    try:
        with copy.changed("control/main.py", line, hang + line):
            node.start()
        assert node.end() == 0
        assert node.logged("ended")
    finally:
        node.clean_up()
