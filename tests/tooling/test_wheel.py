"""What is in the wheel and in the source distribution. Built once, from the tree under test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

pytestmark = [
    pytest.mark.skipif(shutil.which("cargo") is None, reason="building needs cargo"),
    pytest.mark.timeout(600),
]


def run_hook(hook: str, directory: Path) -> Path:
    """Call one hook of the build backend as a front end would, in a process of its own."""
    code = (
        "import sys; sys.path.insert(0, 'cext'); import build_backend; "
        f"print('BUILT ' + build_backend.{hook}(sys.argv[1]))"
    )
    scripts = sysconfig.get_path("scripts")
    env = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    name = next(line for line in result.stdout.splitlines() if line.startswith("BUILT ")).removeprefix(
        "BUILT "
    )
    return directory / name


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    with zipfile.ZipFile(run_hook("build_wheel", tmp_path_factory.mktemp("wheel"))) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def sdist_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    with tarfile.open(run_hook("build_sdist", tmp_path_factory.mktemp("sdist"))) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.mark.parametrize("module", ["_core", "_wire"])
def test_wheel_has_each_native_module_once(wheel_names: set[str], module: str) -> None:
    built = [
        name for name in wheel_names if name.startswith(f"hotswap_proxy/{module}.") and name.endswith(".so")
    ]
    assert built == [f"hotswap_proxy/{module}{SUFFIX}"]


def test_wheel_has_types(wheel_names: set[str]) -> None:
    assert {"hotswap_proxy/py.typed", "hotswap_proxy/_core.pyi", "hotswap_proxy/_wire.pyi"} <= wheel_names


def test_wheel_has_the_whole_package(wheel_names: set[str]) -> None:
    package = ROOT / "python"
    sources = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    assert sources <= wheel_names


def test_wheel_has_nothing_else(wheel_names: set[str]) -> None:
    outside = {name for name in wheel_names if not name.startswith(("hotswap_proxy/", "hotswap_proxy-"))}
    assert not outside
    junk = {
        name
        for name in wheel_names
        if name.endswith((".pyx", ".pxd", ".c", ".h", ".rs", ".pyc", ".new")) or "build_backend" in name
    }
    assert not junk


def test_wheel_has_the_license(wheel_names: set[str]) -> None:
    assert any(name.endswith("/LICENSE") for name in wheel_names)


def test_sdist_can_build_both_modules(sdist_names: set[str]) -> None:
    needed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "rust/Cargo.toml",
        "rust/Cargo.lock",
        "rust/src/lib.rs",
    }
    needed |= {
        str(path.relative_to(ROOT))
        for path in (ROOT / "cext").rglob("*")
        if path.suffix in {".pyx", ".pxd", ".pxi", ".h", ".py"}
    }
    assert needed <= sdist_names


def test_sdist_has_nothing_built(sdist_names: set[str]) -> None:
    built = {name for name in sdist_names if name.endswith((".so", ".pyc")) or "/target/" in name}
    assert not built
