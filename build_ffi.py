"""The native boundary: cffi in API mode, fed with the marked region of pycontain.h (declared once, never retyped)."""

from __future__ import annotations

import re
from pathlib import Path

import cffi

HERE = Path(__file__).parent
C_DIR = "src/c"


def build_lists() -> dict[str, list[str]]:
    """src/c/sources.txt: the lists that this file, setup.py and CMakeLists.txt share."""
    lines = (HERE / C_DIR / "sources.txt").read_text(encoding="ascii").splitlines()
    pairs = (line.split(":", 1) for line in lines if line and not line.startswith("#"))
    return {name: words.split() for name, words in pairs}


LISTS = build_lists()
CORE_SOURCES = [f"{C_DIR}/{name}" for name in LISTS["core"]]
C_FLAGS = LISTS["flags"]


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
    ffi.cdef('extern "Python" int32_t pc_python_sync(void *context, uint32_t what, int32_t pid, int32_t fd);')
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
