"""The command line as a user has it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from hotswap_proxy.cli.app import app


class Cli:
    """The commands as a user gives them, in this process: to save the imports of each."""

    def __init__(self, url: str, home: Path) -> None:
        cleared: dict[str, str | None] = dict.fromkeys(
            name for name in os.environ if name.startswith("HOTSWAP_")
        )
        self.environ = {**cleared, "HOTSWAP_ADMIN_URL": url, "XDG_CONFIG_HOME": str(home), "TERM": "dumb"}
        self.tokens = home / "hotswap-proxy" / "tokens.json"

    def __call__(self, *args: str, code: int = 0, text: str = "", **environ: str) -> str:
        """What the command prints: its errors if it fails."""
        out, errors = self._run(args, code, text, environ)
        return out if code in (0, 3) else errors

    def out(self, *args: str, code: int) -> str:
        """Standard output also of a command that fails."""
        return self._run(args, code, "", {})[0]

    def _run(self, args: tuple[str, ...], code: int, text: str, environ: dict[str, str]) -> tuple[str, str]:
        done = CliRunner().invoke(app, args, input=text, env={**self.environ, **environ})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, f"{args}: {done.exit_code}\n{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def json(self, *args: str, **more: Any) -> Any:
        return json.loads(self(*args, "-o", "json", **more))
