"""A node that is upgraded: who is in charge of it, the command, copies of the program that are broken."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hotswap_proxy
from tests.node import Node, children
from tests.processes import alive, eventually

PACKAGE = Path(hotswap_proxy.__file__).parent


class Upgradable(Node):
    """A node whose processes are followed through upgrades, and ended with the test."""

    def __init__(self, directory: Path, *options: str, **environ: str) -> None:
        super().__init__(directory, *options, HOTSWAP_ADMIN_USERNAME="admin", **environ)
        self.pids: set[int] = set()

    @property
    def in_charge(self) -> int:
        """The process id that stands in the lock."""
        return int((self.directory / "data" / "node.lock").read_text())

    def processes(self) -> set[int]:
        """Control, spawner and workers of who is in charge; all there ever were are kept in mind."""
        found = {self.in_charge, *family(self.in_charge)}
        self.pids |= found
        return found

    def begin_upgrade(self, *options: str, python: str = sys.executable) -> subprocess.Popen[str]:
        """``hotswap-proxy upgrade``, under way."""
        self.processes()
        command = [python, "-P", "-m", "hotswap_proxy", "upgrade", "--data-dir"]
        return subprocess.Popen(
            [*command, str(self.directory / "data"), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environ,
        )

    def upgrade(self, *options: str, python: str = sys.executable) -> tuple[int, str]:
        """Its exit code and what it said."""
        with self.begin_upgrade(*options, python=python) as running:
            out, err = running.communicate(timeout=90)
        self.processes()
        return running.returncode, out + err

    def tell_who_is_in_charge(self, signal_name: str) -> None:
        """A signal, as an operator sends it."""
        os.kill(self.in_charge, signal.Signals[f"SIG{signal_name}"])

    def clean_up(self, more: tuple[int, ...] = ()) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.processes()
            os.kill(self.in_charge, signal.SIGTERM)
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        with contextlib.suppress(AssertionError, OSError, ValueError):
            eventually(lambda: not alive(self.in_charge), "the node ends", 5)
        super().clean_up((*more, *self.pids))


def family(pid: int) -> set[int]:
    """The children of a process, and theirs."""
    found = set(children(pid))
    return found | {each for child in found for each in children(child)}


class Copy:
    """A copy of the package, to be put in a node's PYTHONPATH and changed under it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "lib"
        self.package = self.path / "hotswap_proxy"
        # With what is compiled already: its modules would be compiled anew otherwise, by each process.
        shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("*.so"))
        for library in PACKAGE.glob("*.so"):
            (self.package / library.name).symlink_to(library)

    @contextlib.contextmanager
    def changed(self, module: str, before: str, after: str) -> Iterator[None]:
        """With another text in a module, for processes that are started meanwhile."""
        file = self.package / module
        text = file.read_text()
        assert text.count(before) == 1, (module, before)
        file.write_text(text.replace(before, after))
        try:
            yield
        finally:
            file.write_text(text)

    @contextlib.contextmanager
    def halted(self, module: str, line: str) -> Iterator[Halt]:
        """New processes halt before a line of a coroutine until they are let go on."""
        halt = Halt(self.path / "reached", self.path / "go")
        indent = " " * (len(line) - len(line.lstrip()))
        more = (
            f"{indent}import asyncio as _a, os as _o, pathlib as _p\n"
            f"{indent}_p.Path({str(halt.reached)!r}).write_text(str(_o.getpid()))\n"
            f"{indent}while not _p.Path({str(halt.go)!r}).exists(): await _a.sleep(0.02)\n"
        )
        with self.changed(module, line, more + line):
            yield halt
        for path in (halt.reached, halt.go):
            path.unlink(missing_ok=True)


class Halt:
    """Where a process has halted."""

    def __init__(self, reached: Path, go: Path) -> None:
        self.reached, self.go = reached, go

    def wait(self) -> int:
        """Who has come to the line."""

        def found() -> int:
            return int(self.reached.read_text() or 0) if self.reached.exists() else 0

        return eventually(found, "the new process comes to the line", 30)

    def go_on(self) -> None:
        self.go.touch()
