"""Roots of many layers: as many as Docker allows, on this kernel and by the ways of older ones."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image_cases import member, tar

import pycontain
from pycontain import host
from pycontain.record import replaced

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]


def image_of(layers: int) -> str:
    """Each layer adds one file, changes one and removes one that the layer below has made."""
    tars = []
    for n in range(layers):
        members = [
            member(f"own{n}", data=b"x"),
            member("changed", data=f"{n}".encode()),
            member(f".wh.gone{n - 1}"),
            member(f"gone{n}"),
        ]
        if n == 0:
            members += [member("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755)]
        tars.append(tar(*members))
    diff_ids = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in tars]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    entry = [{"Config": "c", "RepoTags": [f"deep:{layers}"], "Layers": [f"l{n}" for n in range(layers)]}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in (
            ("c", json.dumps(config).encode()), ("manifest.json", json.dumps(entry).encode()),
            *((f"l{n}", data) for n, data in enumerate(tars)),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    pycontain.Image.load(io.BytesIO(out.getvalue()))
    return f"deep:{layers}"


SCRIPT = "ls -d /own* | wc -l; cat /changed; echo; ls -d /gone*; echo w > /changed && cat /changed"


def seen(image: str, **options: Any) -> list[str]:
    result = pycontain.run(
        image, ["/bin/busybox", "sh", "-c", f"export PATH=/; alias ls='busybox ls'; {_words()}"], text=True, **options
    )
    assert result.exit_code == 0, result.stderr
    return str(result.stdout).split()


def _words() -> str:
    return (
        SCRIPT.replace("ls ", "/bin/busybox ls ")
        .replace("wc ", "/bin/busybox wc ")
        .replace("cat ", "/bin/busybox cat ")
    )


@pytest.mark.parametrize("layers", [1, 13, 60, 127])
@pytest.mark.parametrize("kernel", [None, (6, 1), (5, 19)])
def test_roots(monkeypatch: pytest.MonkeyPatch, layers: int, kernel: tuple[int, int] | None) -> None:
    if kernel is not None:  # the kernel does it all the same; whether it does on a real one is asked in the VM
        older = replaced(host.probe(), kernel=kernel)
        for module in ("look", "running"):
            monkeypatch.setattr(f"pycontain.runtime.{module}.probe", lambda: older)
    expected = [str(layers), str(layers - 1), f"/gone{layers - 1}", "w"]
    image = image_of(layers)
    assert seen(image) == expected
    assert seen(image, userns="auto") == expected
    open_then = len(os.listdir("/proc/self/fd"))  # the translated layers of a root are kept open for the next one
    assert seen(image) == seen(image, userns="auto") == expected
    assert len(os.listdir("/proc/self/fd")) == open_then


def test_more_than_there_can_be() -> None:
    with pytest.raises(pycontain.Unsupported, match="129 layers are more than the 128 that one root can have"):
        pycontain.run(image_of(128), ["/bin/busybox", "true"])
