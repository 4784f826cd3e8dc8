"""PEP 517 backend: compile the Cython module into the package, then hand over to maturin.

maturin builds the Rust extension and the wheel but knows nothing of Cython, so every hook that produces
a wheel compiles ``_wire`` in place first; ``[tool.maturin] include`` then picks the result up.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import maturin

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "hotswap_proxy"
SOURCE = ROOT / "cext" / "_wire.pyx"

build_sdist = maturin.build_sdist
get_requires_for_build_sdist = maturin.get_requires_for_build_sdist
get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
get_requires_for_build_editable = maturin.get_requires_for_build_editable
prepare_metadata_for_build_wheel = maturin.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = maturin.prepare_metadata_for_build_editable


def compile_wire() -> None:
    """Compile ``cext/_wire.pyx`` to ``python/hotswap_proxy/_wire.<abi>.so`` for the running interpreter."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    for stale in PACKAGE.glob("_wire.*.so"):  # another interpreter's build must not enter this wheel
        stale.unlink()
    extension = Extension(
        "_wire",  # a top-level name lets Cython find _wire.pxd beside the source
        [os.path.relpath(SOURCE, ROOT)],
        include_dirs=["cext"],
        extra_compile_args=["-O3", "-fno-plt", "-Wno-unused-function"],
    )
    (ROOT / "build").mkdir(exist_ok=True)
    modules = cythonize([extension], build_dir="build", include_path=["cext"])
    command = build_ext(Distribution({"ext_modules": modules, "package_dir": {"": os.path.relpath(PACKAGE, ROOT)}}))
    command.inplace = True
    command.ensure_finalized()
    command.build_temp = "build"
    command.run()


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    compile_wire()
    return str(maturin.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    compile_wire()
    return str(maturin.build_editable(wheel_directory, config_settings, metadata_directory))


if __name__ == "__main__":
    os.chdir(ROOT)
    compile_wire()
