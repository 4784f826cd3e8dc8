"""PEP 517 backend: compile the Cython module into the package, then hand over to maturin.

maturin builds the Rust extension and the wheel but knows nothing of Cython, so every hook that produces
a wheel compiles ``_wire`` in place first; ``[tool.maturin] include`` then picks the result up.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import maturin

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "hotswap_proxy"
CEXT = ROOT / "cext"
SOURCE = CEXT / "_wire.pyx"
SUFFIXES = {".pyx", ".pxd", ".pxi", ".h", ".c", ".py"}

get_requires_for_build_sdist = maturin.get_requires_for_build_sdist
get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
get_requires_for_build_editable = maturin.get_requires_for_build_editable
prepare_metadata_for_build_wheel = maturin.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = maturin.prepare_metadata_for_build_editable


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    return str(maturin.build_sdist(sdist_directory, config_settings))


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    for stale in PACKAGE.glob("_wire.*.so"):  # another interpreter's build must not enter this wheel
        if stale != target():
            stale.unlink()
    compile_wire()
    return str(maturin.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    compile_wire()
    return str(maturin.build_editable(wheel_directory, config_settings, metadata_directory))


def target() -> Path:
    """Where the running interpreter looks for the module."""
    return PACKAGE / f"_wire{sysconfig.get_config_var('EXT_SUFFIX')}"


def sources() -> list[Path]:
    """Everything the module is made from, this file (the compiler flags) included."""
    return sorted(path for path in CEXT.rglob("*") if path.suffix in SUFFIXES)


def is_current() -> bool:
    """Whether the built module is newer than all it is made from (HOTSWAP_REBUILD=1: never)."""
    if os.environ.get("HOTSWAP_REBUILD") or not target().exists():
        return False
    built = target().stat().st_mtime
    return all(path.stat().st_mtime <= built for path in sources())


def compile_wire() -> None:
    """Compile ``cext/_wire.pyx`` to ``python/hotswap_proxy/_wire.<abi>.so`` unless it is up to date."""
    if is_current():
        return
    started = time.time()
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    flags = ["-O3", "-Wno-unused-function"]
    if sys.platform == "linux":
        flags.append("-fno-plt")
    extension = Extension(
        "_wire",  # a top-level name lets Cython find _wire.pxd beside the source
        [os.path.relpath(SOURCE, ROOT)],
        include_dirs=["cext"],
        depends=[os.path.relpath(path, ROOT) for path in sources()],
        extra_compile_args=flags,
    )
    (ROOT / "build").mkdir(exist_ok=True)
    modules = cythonize([extension], build_dir="build", language_level=3, include_path=["cext"], force=True)
    command = build_ext(
        Distribution({"ext_modules": modules, "package_dir": {"": os.path.relpath(PACKAGE, ROOT)}})
    )
    command.inplace = True
    command.force = True  # setuptools' own check knows the generated C only, and it was just made
    command.ensure_finalized()
    command.build_temp = "build"
    command.run()
    os.utime(
        target(), (started, started)
    )  # a file saved during the compilation is newer than what came of it


if __name__ == "__main__":
    os.chdir(ROOT)
    compile_wire()
