"""An image with files at /data, for the tests of volumes: owners, modes, an attribute, links; and looking at volumes by commands."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from image_cases import member, tar
from staying import command

import pycontain

__all__ = ["FILES", "base", "data", "files", "names", "output"]

FILES = ["dir", "dir/inner", "hard", "kept", "link"]
_APPLETS = (
    "cat",
    "chown",
    "echo",
    "find",
    "grep",
    "id",
    "ln",
    "ls",
    "mkdir",
    "rm",
    "sh",
    "sleep",
    "sort",
    "stat",
    "touch",
    "true",
)


def base(*changes: str, name: str = "base:1") -> pycontain.Image:
    program = member("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755)
    links = [member(f"bin/{each}", tarfile.SYMTYPE, linkname="busybox") for each in _APPLETS]
    files = [
        member("data", tarfile.DIRTYPE, mode=0o2750, uid=33, gid=44, mtime=1_000_000_000),
        member("data/kept", data=b"kept\n", mode=0o640, uid=33, gid=7, pax_headers={"SCHILY.xattr.user.color": "red"}),
        member("data/hard", tarfile.LNKTYPE, linkname="data/kept"),
        member("data/link", tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("data/dir", tarfile.DIRTYPE, mode=0o1777),
        member("data/dir/inner", data=b"inner\n", uid=1000),
        member("owned", tarfile.DIRTYPE, mode=0o700, uid=1000, gid=1000),
        member("etc/passwd", data=b"root:x:0:0::/:/bin/sh\n"),
    ]
    return pycontain.Image.import_tar(io.BytesIO(tar(program, *links, *files)), name, changes=changes)


def output(*words: str) -> str:
    return command("run", "--rm", *words).stdout


def names() -> list[str]:
    return command("volume", "ls", "-q").stdout.split()


def data(name: str) -> Path:
    return Path(command("volume", "inspect", "-f", "{{.Mountpoint}}", name).stdout.strip())


def files(directory: Path) -> list[str]:
    return sorted(str(each.relative_to(directory)) for each in directory.rglob("*"))
