"""Builds the extension (cffi, abi3) and the static programs that the wheel carries in pycontain/bin."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))
from build_ffi import C_DIR, C_FLAGS, LISTS, version

# name -> which flags
PROGRAMS = {
    "pycontain-init": "program-flags",
    "pycontain-guardian": "program-flags",
    "pycontain-exec": "program-flags",
    "pycontain-enter": "program-flags",
    "pycontain-monitor": "program-flags",
    "pycontain-launch": "launch-flags",
}


def compile_program(name: str, flags: str, target_dir: Path) -> None:
    target_dir.mkdir(parents=True, exist_ok=True)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    sources = [f"{C_DIR}/{source}" for source in LISTS[name]]
    options = [*C_FLAGS, f'-DPC_VERSION="{version()}"', *LISTS[flags]]
    command = [*compiler, *options, *sources, "-o", str(target_dir / name)]
    subprocess.run(command, check=True)


class BuildExt(build_ext):
    """build_ext that also builds the static programs, beside the extension or, in place, in the source tree."""

    def run(self) -> None:
        super().run()
        root = Path(__file__).parent if self.inplace else Path(self.build_lib)
        for name, flags in PROGRAMS.items():
            compile_program(name, flags, root / "pycontain" / "bin")


class AbiWheel:
    """Chosen lazily: `wheel`'s command lives in setuptools since 70."""

    @staticmethod
    def command() -> type:
        from setuptools.command.bdist_wheel import bdist_wheel

        class Abi3Wheel(bdist_wheel):
            def finalize_options(self) -> None:
                self.py_limited_api = "cp310"
                super().finalize_options()

        return Abi3Wheel


setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    cmdclass={"build_ext": BuildExt, "bdist_wheel": AbiWheel.command()},
)
