"""What the image tests share: tars (good and hostile), OCI layouts, and a host canary.

``native_openat2`` is a stand-in for ``pycontain._native`` where the C core is not built.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import os
import stat
import sys
import tarfile
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


class OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _openat2(dirfd: int, path: bytes | str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    how = OpenHow(flags, mode, resolve)
    fd = libc.syscall(437, dirfd, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(fd)


def _syncfs(fd: int) -> None:
    os.fsync(fd)


def use_native(monkeypatch: Any = None) -> None:
    """Make ``pycontain._native`` importable: the real one, or a stand-in."""
    try:
        import pycontain._native

        return
    except ImportError:
        pass
    import pycontain

    native = types.ModuleType("pycontain._native")
    vars(native).update(
        openat2=_openat2,
        syncfs=_syncfs,
        RESOLVE_IN_ROOT=0x10,
        RESOLVE_NO_MAGICLINKS=0x02,
        RESOLVE_NO_SYMLINKS=0x04,
        RESOLVE_BENEATH=0x08,
    )
    if monkeypatch is None:  # a child process of a test
        sys.modules["pycontain._native"] = native
        pycontain._native = native
        return
    monkeypatch.setitem(sys.modules, "pycontain._native", native)
    monkeypatch.setattr(pycontain, "_native", native, raising=False)


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(data), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes], fmt: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def raw_header(name: bytes, *, flag: bytes = b"0", size: bytes = b"00000000000\0", **at: tuple[int, bytes]) -> bytes:
    """A ustar header byte by byte, with a right checksum; ``at`` overwrites (offset, bytes)."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108], block[108:116], block[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    block[124 : 124 + len(size)] = size
    block[136:148] = b"00000000000\0"
    block[156:157] = flag
    block[257:265] = b"ustar\x0000"
    for offset, data in at.values():
        block[offset : offset + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


END = bytes(1024)


def snapshot(root: Path) -> dict[str, tuple[int, ...]]:
    """Everything below a directory that an escape could change."""
    found: dict[str, tuple[int, ...]] = {}
    for base, dirs, files in os.walk(root):
        for name in [".", *dirs, *files]:
            info = os.lstat(os.path.join(base, name))
            found[os.path.join(base, name)] = (info.st_mode, info.st_uid, info.st_size, info.st_mtime_ns, info.st_nlink)
    return found


class LayoutWriter:
    """Writes an OCI layout, honest unless told otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.manifests: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        encoded = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / encoded).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(data)}

    def json(self, document: dict[str, Any], media_type: str) -> dict[str, Any]:
        return self.blob(json.dumps(document).encode(), media_type)

    def manifest(
        self, *tars: bytes, config: dict[str, Any] | None = None, wrap: Any = None, **extra: Any
    ) -> dict[str, Any]:
        suffix, compress = wrap or ("", lambda data: data)
        layers = [self.blob(compress(each), f"application/vnd.oci.image.layer.v1.tar{suffix}") for each in tars]
        diff_ids = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in tars]
        document = {
            "architecture": "amd64",
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.json(document, "application/vnd.oci.image.config.v1+json"),
            "layers": layers,
            **extra,
        }
        return self.json(manifest, "application/vnd.oci.image.manifest.v1+json")

    def index(self, *descriptors: dict[str, Any]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "manifests": list(descriptors)}
        return self.json(document, "application/vnd.oci.image.index.v1+json")

    def finish(self, *descriptors: dict[str, Any], refs: tuple[str, ...] = ()) -> str:
        named = [
            {**each, "annotations": {"org.opencontainers.image.ref.name": ref}}
            for each, ref in zip(descriptors, refs, strict=False)
        ] or list(descriptors)
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": named}))
        return str(self.path)


CAP_MKNOD = 27


def without_capability(number: int, call: Callable[[], object]) -> None:
    """Call in a thread that has given up one capability, which is a thread's own; what it raises is raised here."""
    libc = ctypes.CDLL(None, use_errno=True)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_give_up, libc, number).result()
        thread.submit(call).result()


def _give_up(libc: ctypes.CDLL, number: int) -> None:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same for capabilities from 32 on
    if libc.capget(header, sets) == 0:
        sets[3 * (number // 32)] &= ~(1 << number % 32)
        if libc.capset(header, sets) == 0:
            return
    raise OSError(ctypes.get_errno(), "capset")


def is_whiteout(path: str) -> bool:
    info = os.lstat(path)
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0
