"""The native boundary: cffi in API mode, fed with the marked region of pycontain.h (declared once, never retyped)."""

from __future__ import annotations

import re
from pathlib import Path

import cffi

HERE = Path(__file__).parent
C_DIR = "src/c"
CORE = (
    "report plan clone child mount rootfs ns netlink cred seccomp tty tree cgroup prepare spawner spawn template helper"
)
CORE_SOURCES = [f"{C_DIR}/{name}.c" for name in CORE.split()]
C_FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wconversion", "-Wvla"]


def version() -> str:
    text = (HERE / "pycontain/_version.py").read_text(encoding="ascii")
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found is not None, "pycontain/_version.py has no __version__"
    return found.group(1)


def declarations() -> str:
    header = (HERE / C_DIR / "pycontain.h").read_text(encoding="ascii")
    return header.split("/* cffi-begin */")[1].split("/* cffi-end */")[0]


def builder() -> cffi.FFI:
    ffi = cffi.FFI()
    ffi.cdef(declarations())
    ffi.set_source(
        "pycontain._ffi",
        '#include "pycontain.h"',
        sources=CORE_SOURCES,
        include_dirs=[C_DIR],
        define_macros=[("PC_VERSION", f'"{version()}"')],
        # cffi's generated file converts freely between integer types: its warnings are not ours to mend
        extra_compile_args=["-O2", *[f for f in C_FLAGS if f != "-Wconversion"]],
        libraries=["dl", "pthread"],
        py_limited_api=True,
    )
    return ffi


ffibuilder = builder()
