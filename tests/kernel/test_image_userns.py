"""Unpacking in a user namespace, as an ordinary user's pycontain does it: what its root may not make, and other marks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image_cases import is_whiteout, member, tar

pytestmark = pytest.mark.kernel

DIR, CHR, BLK, FIFO = tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE

CHILD = """
import dataclasses, io, json, os, sys
sys.path[:0] = {path!r}
from pycontain import _native
from pycontain.errors import PycontainError
from pycontain.image.unpack import unpack_layer
fd = os.open({root!r}, os.O_RDONLY)  # before, as the imports: the directories above may be closed to the other ids
_native.unshare(0x10000000)  # CLONE_NEWUSER
print("map me", flush=True)
sys.stdin.readline()
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
try:
    print(json.dumps(dataclasses.asdict(unpack_layer(io.BytesIO({data!r}), fd))))
except PycontainError as error:
    print(json.dumps(dict(error=type(error).__name__ + ": " + str(error))))
"""


def unpack(root: Path, data: bytes) -> dict[str, Any]:
    """Statistics or ``error``, from a namespace whose ids 0 to 65535 are 100000 to 165535 here."""
    os.chown(root, 100000, 100000)
    code = CHILD.format(path=sys.path, root=str(root), data=data)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin and child.stdout
        try:
            assert child.stdout.readline() == "map me\n"
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{child.pid}/{name}").write_text("0 100000 65536\n")
            answer, _ = child.communicate("go\n", timeout=60)
        finally:
            child.kill()
    found: dict[str, Any] = json.loads(answer)
    return found


def test_device_nodes_are_left_out_and_marks_are_the_users(tmp_path: Path) -> None:
    stats = unpack(
        tmp_path,
        tar(
            member("null", data=b"in its place nothing may stay"),
            member("null", CHR, devmajor=1, devminor=3),
            member("disk", BLK, devmajor=8, devminor=0),
            member("fifo", FIFO, mode=0o622),
            member("d/.wh.gone"),
            member("d/.wh..wh..opq"),
            member("f", data=b"x", uid=33, gid=34, mode=0o4755),
        ),
    )
    assert stats["skipped_nodes"] == 2 and stats["whiteouts"] == 1 and stats["opaque_dirs"] == 1
    assert sorted(os.listdir(tmp_path)) == ["d", "f", "fifo"]
    assert is_whiteout(str(tmp_path / "d/gone"))
    assert os.listxattr(tmp_path / "d") == ["user.overlay.opaque"]
    info = (tmp_path / "f").stat()
    assert (info.st_mode & 0o7777, info.st_uid, info.st_gid) == (0o4755, 100033, 100034)


@pytest.mark.parametrize(("ids", "whose"), [({"uid": 65536}, "the user 65536"), ({"gid": 70000}, "the group 70000")])
def test_an_owner_that_the_namespace_does_not_have(ids: dict[str, Any], whose: str, tmp_path: Path) -> None:
    error = unpack(tmp_path, tar(member("d/", DIR), member("d/f", **ids)))["error"]
    assert error.startswith(
        "Unsupported: cannot unpack the layer: file 'd/f': Invalid argument (EINVAL): it belongs to "
    )
    assert whose in error and "/etc/subuid" in error


def test_capabilities_are_those_of_the_namespaces_root(tmp_path: Path) -> None:
    file = member("ping", data=b"x", mode=0o755)
    value = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
    file[0].pax_headers = {"SCHILY.xattr.security.capability": value.decode("latin-1")}
    assert "error" not in unpack(tmp_path, tar(file))
    stored = os.getxattr(tmp_path / "ping", "security.capability")
    assert stored[:1] == b"\x01" and stored[3] == 3 and int.from_bytes(stored[20:], "little") == 100000
