"""A Debian image of three layers, about 130 MB compressed: what real images look like, made by mmdebstrap, kept in the cache.

    python -m tests.debian     make it (or find it) and print the directory

The directory has ``layer1.tar`` to ``layer3.tar`` (a root file system; a compiler added; files changed and removed) and ``oci``, an
OCI layout with them gzipped, under the name ``debian:test``. The cache is keyed by this file's own text.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

SUITE = "bookworm"
BASE = "ca-certificates,procps,python3"
ADDED = "gcc,libc6-dev,perl"
NAME = "debian:test"


def debian_image() -> Path:
    """The directory; made when it is not in the cache (needs root and mmdebstrap; about a minute). Concurrent callers wait."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "pycontain"
    final = base / f"debian-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}"
    if final.exists():
        return final
    base.mkdir(parents=True, exist_ok=True)
    with _locked(base / "debian.lock"):
        if final.exists():
            return final
        for stale in base.glob("debian-*"):
            if stale.is_dir():
                shutil.rmtree(stale)
        scratch = Path(tempfile.mkdtemp(prefix=".debian-", dir=base))
        try:
            _build(scratch)
            scratch.rename(final)
        except BaseException:
            shutil.rmtree(scratch)
            raise
    return final


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(scratch: Path) -> None:
    _debootstrap(scratch / "layer1.tar", BASE)
    _debootstrap(scratch / "more.tar", f"{BASE},{ADDED}")
    _added(scratch / "layer1.tar", scratch / "more.tar", scratch / "layer2.tar")
    (scratch / "more.tar").unlink()
    _changed(scratch / "layer3.tar")
    _layout(scratch)


def _debootstrap(target: Path, packages: str) -> None:
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--format=tar", f"--include={packages}"]
    done = subprocess.run([*argv, SUITE, str(target)], capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"mmdebstrap failed:\n{done.stderr[-2000:]}")


def _added(base: Path, more: Path, target: Path) -> None:
    """What ``more`` has and ``base`` has not, or has otherwise, as a layer."""
    with tarfile.open(base) as archive:
        known = {info.name: (info.size, info.type, info.mtime) for info in archive}
    with tarfile.open(more) as archive, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as layer:
        for info in archive:
            if known.get(info.name) != (info.size, info.type, info.mtime) and info.name not in (".", "./"):
                layer.addfile(info, archive.extractfile(info) if info.isreg() else None)


def _changed(target: Path) -> None:
    with tarfile.open(target, "w") as layer:
        for name, data in (
            ("etc/motd", b"changed\n"),
            ("usr/share/doc/.wh.gcc", b""),
            ("opt/app/main.py", b"print('hello')\n"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            layer.addfile(info, io.BytesIO(data))


def _layout(scratch: Path) -> None:
    blobs = scratch / "oci/blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    layers, diff_ids = [], []
    for n in (1, 2, 3):
        plain = (scratch / f"layer{n}.tar").read_bytes()
        diff_ids.append(f"sha256:{hashlib.sha256(plain).hexdigest()}")
        layers.append(put(gzip.compress(plain, 6, mtime=0), "layer.v1.tar+gzip"))
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"layer {n}"} for n in (1, 2, 3)],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": layers,
    }
    named = {
        **put(json.dumps(manifest).encode(), "manifest.v1+json"),
        "annotations": {"org.opencontainers.image.ref.name": NAME},
    }
    (scratch / "oci/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (scratch / "oci/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


if __name__ == "__main__":
    print(debian_image(), file=sys.stdout)
