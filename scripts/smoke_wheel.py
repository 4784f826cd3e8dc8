"""Install the one wheel of a directory into an empty environment and use it: ``smoke_wheel.py dist``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PROBE = """
import hotswap_proxy
from hotswap_proxy import _core, _wire
assert "site-packages" in hotswap_proxy.__file__, hotswap_proxy.__file__
assert _core.BUILD_PROFILE == "release", _core.BUILD_PROFILE
print("imported", _core.__name__, "and", _wire.__name__, "from the wheel")
"""


def main(directory: str) -> int:
    wheels = sorted(Path(directory).glob("hotswap_proxy-*.whl"))
    if len(wheels) != 1:
        print(f"expected one wheel in {directory}, found {len(wheels)}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        environment = Path(scratch) / "venv"
        venv.create(environment, with_pip=True)
        binaries = environment / "bin"

        def run(*command: str) -> None:
            # From the scratch directory: the source tree must not be importable by accident.
            subprocess.run(command, check=True, cwd=scratch)  # noqa: S603  our own arguments

        run(str(binaries / "python"), "-m", "pip", "install", "-q", str(wheels[0].resolve()))
        run(str(binaries / "python"), "-c", PROBE)
        run(str(binaries / "hotswap-proxy"), "version")
    print(f"{wheels[0].name}: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
