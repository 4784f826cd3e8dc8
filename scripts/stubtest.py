"""Compare the type stubs of the native modules with the modules as built; exit 1 on any difference."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "hotswap_proxy"
MODULES = ("_core", "_wire")


def main() -> int:
    missing = [name for name in MODULES if not (PACKAGE / f"{name}.pyi").exists()]
    if missing:
        print(f"stubtest: no stub for {', '.join(missing)}", file=sys.stderr)
        return 1
    command = [sys.executable, "-m", "mypy.stubtest", *(f"hotswap_proxy.{name}" for name in MODULES)]
    allowlist = ROOT / "scripts" / "stubtest-allow.txt"
    if allowlist.exists():
        command += ["--allowlist", str(allowlist)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603  our own arguments


if __name__ == "__main__":
    sys.exit(main())
