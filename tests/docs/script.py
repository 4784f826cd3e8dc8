"""A page as one script: its commands and calls in their order, its documents written and checked."""

from __future__ import annotations

import ast
import json
import re
import shlex
from typing import Any

import yaml

from .blocks import DECLARATIVE, HTTP, Block, commands
from .setup import ELSEWHERE, FOREIGN, LANGUAGES, NOT_RUN, SETUPS, TEXT, Setup
from .shims import FUNCTIONS

SYNOPSIS = re.compile(r"…|\[--|<[a-z ]+>|\bPASSWORD@")
PASSWORD = re.compile(r'(?<="password": ")…(?=")|(?<=HOTSWAP_ADMIN_PASSWORD=)…')
ROUTE: dict[str, Any] = {"backends": [{"name": "b", "url": "http://127.0.0.1:9001"}]}


class UnclassedError(AssertionError):
    """A block that is nothing of what there is a rule for."""


class Script:
    """``text`` is for bash; ``skipped`` has a line for everything that is not run, with the reason."""

    def __init__(self, page: str, password: str) -> None:
        self.page = page
        self.skipped: list[str] = []
        self.checked = 0
        self.setup = SETUPS.get(page, Setup())
        self._password = password
        self._lines = ["set -eo pipefail", FUNCTIONS, self.setup.before]
        self.runs = False

    @property
    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def add(self, block: Block) -> None:
        """UnclassedError: nobody knows what it is. ValueError and AssertionError: its text is wrong."""
        if block.mark == "not run":
            self._skip(block.where, block.marked)
        elif block.kind in LANGUAGES:
            self._skip(block.where, LANGUAGES[block.kind])
        elif block.kind in ("shell", "json", "yaml", "python"):
            getattr(self, f"_{block.kind}")(block)
        else:
            self._text(block)

    def _skip(self, where: str, why: str) -> None:
        self.skipped.append(f"{where}: {why}")

    def _run(self, where: str, command: str) -> None:
        self.runs = True
        self._lines += [f"echo {shlex.quote('@@ ' + where)} >&2", command]

    def _text(self, block: Block) -> None:
        for (page, beginning), why in TEXT.items():
            if page == block.page and block.first.startswith(beginning):
                self._skip(block.where, why)
                return
        try:
            tree = ast.parse(block.text)
        except SyntaxError:
            tree = None
        if tree is not None and any(isinstance(each, ast.Import | ast.ImportFrom) for each in tree.body):
            self.checked += 1
            return
        raise UnclassedError(
            f"{block.where}: {block.first!r} is neither a command nor JSON, YAML or Python. If output or "
            "a picture, fence it with ```text; if it is a command of a program that the tests do not know, "
            "add that to _NAMES in tests/docs/blocks.py"
        )

    def _shell(self, block: Block) -> None:
        for command in commands(block.text):
            if (program := _not_run(command)) is not None:
                self._skip(block.where, f"{program}: {NOT_RUN[program]}")
                continue
            command = PASSWORD.sub(lambda _: self._password, command)
            if any(address in command for address in ELSEWHERE):
                self._skip(block.where, f"asks another server: {command.splitlines()[0].strip()}")
                continue
            if SYNOPSIS.search(command):
                self._skip(block.where, f"a synopsis: {command.splitlines()[0].strip()}")
                continue
            for beginning, first in self.setup.at.items():
                if command.startswith(beginning):
                    self._lines.append(first)
            for old, new in self.setup.replace.items():
                command = command.replace(old, new)
            if block.mark == "fails":
                command = f"! {{ {command}\n}}"
            self._run(f"{block.where}: {command.splitlines()[0]}", command)

    def _json(self, block: Block) -> None:
        if block.mark == "example" and HTTP.match(block.marked):
            method, path = block.marked.split()
            self._run(
                f"{block.where}: {block.marked}",
                f"api {method} '{path}' <<'DOCUMENT'\n{block.text}\nDOCUMENT",
            )
            return
        # An answer, which may be shortened.
        document = json.loads(block.text)
        assert isinstance(document, dict), f"{block.where}: not an object"
        if "error" in document:
            assert {"code", "message", "details", "traceId", "timestamp"} == set(document["error"]), (
                block.where
            )
        self.checked += 1

    def _yaml(self, block: Block) -> None:
        document = yaml.safe_load(block.text)
        if isinstance(document, dict) and FOREIGN & document.keys():
            self._skip(block.where, "a document of another program")
            return
        if isinstance(document, dict) and document.keys() <= DECLARATIVE:
            self._write(block, block.text)
            return
        path = self.setup.path or f"/fragment-{block.line}"
        route = {"name": f"fragment-{block.line}", "pathPattern": path, **ROUTE, **(document or {})}
        self._run(
            f"{block.where}: as a part of a route",
            f"api POST /api/v1/gateway/routes <<'DOCUMENT'\n{json.dumps(route)}\nDOCUMENT",
        )

    def _write(self, block: Block, text: str) -> None:
        self._run(
            f"{block.where}: the file",
            f"cat > gateway.yaml <<'DOCUMENT'\n{text}\nDOCUMENT\nhotswap-proxy validate -f gateway.yaml",
        )

    def _python(self, block: Block) -> None:
        compile(block.text, block.where, "exec")
        self.checked += 1


def _not_run(command: str) -> str | None:
    """The row of ``NOT_RUN`` for a command: a program, or a program and its first words."""
    words = [_program(command), *command.split()[1:]]
    return next((row for row in NOT_RUN if words[: len(row.split())] == row.split()), None)


def _program(command: str) -> str:
    """The first word after assignments."""
    for word in command.replace("\\\n", " ").split():
        if not re.match(r"[A-Za-z_][A-Za-z0-9_]*=", word):
            return word
    return ""
