"""`mounts`: every type, and every option that a mount can have."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from .bundles import Bundle
from .comparison import Case, Comparison, with_known
from .known import Known, crun, runc
from .runtimes import OURS

pytestmark = pytest.mark.kernel


def _sources(bundle: Bundle) -> None:
    """@bundle@/src: a directory with a file and another mount in it, and files."""
    bundle.source("file", "content\n", 0o640)
    bundle.source("dir")
    (bundle.source("dir") / "sub").mkdir()
    bundle.source("dir/inner", "inner\n", 0o644)
    bundle.source("script", "#!/bin/sh\nexit 0\n")
    os.chown(bundle.source("dir"), 1000, 1001)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=1m", "below", bundle.source("dir/sub")], check=True)
    bundle.cleanup.callback(subprocess.run, ["umount", str(bundle.source("dir/sub"))], check=True)


def _inside(bundle: Bundle) -> None:
    """What an image may have at the destination: files, links."""
    _sources(bundle)
    (bundle.rootfs / "target").mkdir()
    (bundle.rootfs / "link").symlink_to("/target")
    (bundle.rootfs / "out").symlink_to("../../../target")
    (bundle.rootfs / "old").mkdir(mode=0o750)
    (bundle.rootfs / "old/file").write_text("from the image\n")
    (bundle.rootfs / "old/link").symlink_to("file")


def _layers(bundle: Bundle) -> None:
    """Directories for an overlay."""
    for name in ("low1", "low2", "u", "w"):
        bundle.source(name)
    bundle.source("low1/a", "a")
    bundle.source("low2/b", "b")


def _mount(destination: str, kind: str, source: str, *options: str, **more: Any) -> dict[str, Any]:
    return {"mounts[+]": {"destination": destination, "type": kind, "source": source, "options": list(options), **more}}


def _bind(*options: str, source: str = "dir", destination: str = "/there", **more: Any) -> dict[str, Any]:
    return _mount(destination, "bind", f"@bundle@/src/{source}", *options, **more)


_THERE = ("stat:/there",)
_MAP: dict[str, Any] = {
    "uidMappings": [{"containerID": 1000, "hostID": 2000, "size": 1}],
    "gidMappings": [{"containerID": 1001, "hostID": 2001, "size": 1}],
}

BINDS = (
    Case("bind", _bind("bind"), _THERE, {"mount /there options": "rw,relatime"}, prepare=_sources),
    Case("bind-sub-is-hidden", _bind("bind"), ("fs:/there/sub",), prepare=_sources),
    Case("rbind", _bind("rbind"), _THERE, {"mount /there/sub source": "below"}, prepare=_sources),
    Case("bind-file", _bind("bind", source="file"), _THERE, {"stat:/there": "-0640 0:0"}, prepare=_sources),
    Case("bind-type-only", _bind(), expect={"mount /there options": "rw,relatime"}, prepare=_sources),
    Case("bind-by-option", _mount("/there", "none", "@bundle@/src/dir", "bind", "ro"), _THERE, prepare=_sources),
    Case("bind-relative-source", _mount("/there", "bind", "src/dir", "bind"), _THERE, prepare=_sources),
    Case("bind-source-missing", _bind("bind", source="no-such"), expect={"started": "no"}, prepare=_sources),
    Case(
        "bind-made-below",
        _bind("bind", destination="/a/b/c"),
        ("stat:/a", "stat:/a/b", "stat:/a/b/c"),
        prepare=_sources,
    ),
    Case(
        "bind-file-made-below",
        _bind("bind", source="file", destination="/a/b/f"),
        ("stat:/a", "stat:/a/b", "stat:/a/b/f"),
        prepare=_sources,
    ),
    Case(
        "bind-on-link",
        _bind("bind", destination="/link"),
        ("stat:/target",),
        {"mount /target options": "rw,relatime"},
        prepare=_inside,
    ),
    Case("bind-on-link-out", _bind("bind", destination="/out"), ("stat:/target",), prepare=_inside),
    Case(
        "bind-dots",
        _bind("bind", destination="/tmp/../../there"),
        _THERE,
        {"mount /there options": "rw,relatime"},
        prepare=_sources,
    ),
    Case("bind-relative-destination", _bind("bind", destination="there"), _THERE, prepare=_sources),
    Case("bind-over-proc", _bind("bind", destination="/proc"), prepare=_sources, expect={"started": "no"}),
    Case("bind-in-proc", _bind("bind", destination="/proc/sys"), prepare=_sources, expect={"started": "no"}),
    Case(
        "bind-file-over-directory",
        _bind("bind", source="file", destination="/tmp"),
        prepare=_sources,
        expect={"started": "no"},
    ),
    Case(
        "bind-device",
        _mount("/there", "bind", "/dev/null", "bind"),
        ("stat:/there", "open:rw:/there"),
        prepare=_sources,
    ),
)

_FLAGS = {
    "ro": "ro,relatime",
    "nosuid": "rw,nosuid,relatime",
    "nodev": "rw,nodev,relatime",
    "noexec": "rw,noexec,relatime",
    "noatime": "rw,noatime",
    "nodiratime": "rw,nodiratime,relatime",
    "strictatime": "rw",
    "relatime": "rw,relatime",
}
_ALL = ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime")
_R = {f"r{name}": options for name, options in _FLAGS.items()}
_PROPAGATION = {"private": "private", "slave": "private", "shared": "shared", "unbindable": "unbindable"}

FLAGS = (
    *(Case(f"bind-{n}", _bind("rbind", n), expect={"mount /there options": o}, prepare=_sources) for n, o in _FLAGS.items()),
    Case("bind-all", _bind("rbind", *_ALL), ("open:new:/there/x", "open:new:/there/sub/x"), prepare=_sources,
         expect={"mount /there options": "ro,nosuid,nodev,noexec,noatime,nodiratime", "open:new:/there/x": "EROFS"}),
    Case("bind-opposites", _bind("rbind", "ro", "rw", "nosuid", "suid", "noexec", "exec", "nodev", "dev"), prepare=_sources,
         expect={"mount /there options": "rw,relatime"}),
    Case("bind-nosymfollow", _mount("/there", "bind", "@bundle@/src", "bind", "nosymfollow"), prepare=_sources,
         expect={"mount /there options": "rw,relatime,nosymfollow"}),
    Case("bind-sync", _bind("bind", "sync", "dirsync"), prepare=_sources),
    Case("bind-unknown-option", _bind("bind", "nosuch"), prepare=_sources),
    Case("bind-noexec-tried", _mount("/there", "bind", "@bundle@/src", "bind", "noexec"), ("exec:/there/script",), prepare=_sources,
         expect={"exec:/there/script": "EACCES"}),
    *(Case(f"bind-{n}", _bind("rbind", n), prepare=_sources, expect={"mount /there options": o, "mount /there/sub options": o})
      for n, o in _R.items()),
    Case("bind-several-recursive", _bind("rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime"), prepare=_sources,
         expect={"mount /there/sub options": "ro,nosuid,nodev,noexec,noatime"}),
    *(Case(f"propagation-{n}", _bind("rbind", n), prepare=_sources, expect={"mount /there propagation": k})
      for n, k in _PROPAGATION.items()),
    *(Case(f"propagation-r{n}", _bind("rbind", f"r{n}"), prepare=_sources,
           expect={"mount /there propagation": k, "mount /there/sub propagation": k}) for n, k in _PROPAGATION.items()),
    Case("idmap", _bind("bind", "idmap", **_MAP), _THERE, prepare=_sources, expect={"stat:/there": "d0755 2000:2001"}),
    Case("ridmap", _bind("rbind", "ridmap", **_MAP), _THERE, prepare=_sources, expect={"stat:/there": "d0755 2000:2001"}),
    Case("mappings-without-option", _bind("bind", **_MAP), _THERE, prepare=_sources, expect={"stat:/there": "d0755 2000:2001"}),
)  # fmt: skip

_TMPFS = ("mode=1750", "size=1m", "uid=1000", "gid=1001", "nr_inodes=100")

TYPES = (
    Case("tmpfs", _mount("/there", "tmpfs", "tmpfs"), _THERE, {"mount /there options": "rw,relatime"}),
    Case("tmpfs-data", _mount("/there", "tmpfs", "name", *_TMPFS), _THERE, {"stat:/there": "d1750 1000:1001"}),
    Case("tmpfs-flags", _mount("/there", "tmpfs", "t", "ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime")),
    Case("tmpfs-sync", _mount("/there", "tmpfs", "t", "sync", "dirsync", "mand", "lazytime")),
    Case("tmpfs-defaults", _mount("/there", "tmpfs", "t", "defaults")),
    Case("tmpfs-over-image", _mount("/old", "tmpfs", "t"), ("ls:/old", "stat:/old"), prepare=_inside),
    Case("tmpfs-copy-up", _mount("/old", "tmpfs", "t", "tmpcopyup"), ("ls:/old", "file:/old/file", "stat:/old"), prepare=_inside,
         expect={"file:/old/file": "from the image"}),
    Case("tmpfs-copy-up-read-only", _mount("/old", "tmpfs", "t", "tmpcopyup", "ro", "mode=700"), ("ls:/old", "stat:/old"), prepare=_inside),
    Case("tmpfs-shared", _mount("/there", "tmpfs", "t", "shared"), expect={"mount /there propagation": "shared"}),
    Case("tmpfs-unknown-option", _mount("/there", "tmpfs", "t", "nosuch=1"), expect={"started": "no"}),
    Case("tmpfs-without-source", {"mounts[+]": {"destination": "/there", "type": "tmpfs"}}),
    Case("proc-twice", _mount("/there", "proc", "proc", "nosuid", "nodev", "noexec")),
    Case("proc-hidepid", {"mounts[/proc].options": ["hidepid=2", "nosuid"]}),
    Case("proc-read-only", {"mounts[/proc].options": ["ro"]}),
    Case("sysfs-writable", {"mounts[/sys].options": ["nosuid", "noexec", "nodev"]}),
    Case("devpts-max", {"mounts[/dev/pts].options": ["newinstance", "ptmxmode=0600", "mode=0600", "max=3"]}, ("stat:/dev/pts/ptmx",)),
    Case("devpts-bare", {"mounts[/dev/pts].options": []}, ("stat:/dev/pts/ptmx",)),
    Case("mqueue-bare", {"mounts[/dev/mqueue].options": []}, ("stat:/dev/mqueue",)),
    Case("cgroup-writable", {"mounts[/sys/fs/cgroup].options": ["nosuid", "noexec", "nodev"]}, ("mkdir:/sys/fs/cgroup/x",)),
    Case("cgroup-bare", {"mounts[/sys/fs/cgroup].options": []}),
    Case("cgroup-elsewhere", _mount("/there", "cgroup", "cgroup", "ro")),
    Case("cgroup2", _mount("/there", "cgroup2", "cgroup2", "ro")),
    Case("overlay", _mount("/there", "overlay", "overlay", "lowerdir=@bundle@/src/low1:@bundle@/src/low2"), ("ls:/there",),
         prepare=_layers),
    Case("overlay-upper", _mount("/there", "overlay", "o", "lowerdir=@bundle@/src/low1,upperdir=@bundle@/src/u,workdir=@bundle@/src/w"),
         ("open:new:/there/made", "ls:/there"), prepare=_layers),
    Case("unknown-type", _mount("/there", "nosuchfs", "x"), expect={"started": "no"}),
    Case("stacked", {**_mount("/tmp", "tmpfs", "first", "size=1m"), "mounts[/sys]": {"destination": "/tmp", "type": "tmpfs",
         "source": "second", "options": ["size=2m"]}}),
    Case("none-at-all", {"mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}], "linux.maskedPaths": [],
         "linux.readonlyPaths": [], "root.readonly": False}),
)  # fmt: skip

_STICKY = "makes directories on the way 1755"
_NO_IDMAP = "mounts without the mappings, and says nothing"
_ATIME = crun("started", "calls mount_setattr for an atime option without MOUNT_ATTR__ATIME: EINVAL")
_NOT_MADE = "forgets shared and unbindable when it makes the root's tree private"
_TMPFS_ROOT = "does not take the mode of the directory below (runc does)"
_KEEPS = crun("mount /proc*", "a read-only path or superblock of its own making: loses the options of /proc")

KNOWN: dict[str, tuple[Known, ...]] = {
    "bind-type-only": (
        runc("started", "looks for bind in the options only: no such file system"),
        crun("started", "looks for bind in the options only: no such file system"),
    ),
    "bind-made-below": (crun("stat:/a", _STICKY), crun("stat:/a/b", _STICKY)),
    "bind-over-proc": (crun("started", "mounts anything over /proc"),),
    "bind-in-proc": (crun("started", "mounts anything below /proc"),),
    "bind-opposites": (crun("mount /there options", "rw, suid, dev and exec take nothing back"),),
    "bind-nosymfollow": (crun("mount /there options", "does not know nosymfollow"),),
    "bind-rnoatime": (_ATIME,),
    "bind-rnodiratime": (_ATIME,),
    "bind-rstrictatime": (_ATIME,),
    "bind-rrelatime": (crun("mount /there* options", "takes rrelatime for rnosymfollow"),),
    "bind-several-recursive": (_ATIME,),
    "propagation-shared": (crun("mount /there propagation", _NOT_MADE),),
    "propagation-unbindable": (crun("mount /there propagation", _NOT_MADE),),
    "propagation-rshared": (crun("mount /there* propagation", _NOT_MADE),),
    "propagation-runbindable": (crun("mount /there* propagation", _NOT_MADE),),
    "tmpfs-shared": (crun("mount /there propagation", _NOT_MADE),),
    "idmap": (runc("mount /there options", _NO_IDMAP), runc("stat:/there", _NO_IDMAP)),
    "ridmap": (
        runc("mount /there options", _NO_IDMAP),
        runc("stat:/there", _NO_IDMAP),
        crun("mount /there/sub*", "does not take the mounts below along"),
    ),
    "mappings-without-option": (runc("mount /there options", _NO_IDMAP), runc("stat:/there", _NO_IDMAP)),
    "tmpfs-defaults": (runc("started", "hands defaults to tmpfs, which does not know it"),),
    "tmpfs-over-image": (crun("stat:/old", _TMPFS_ROOT),),
    "tmpfs-copy-up": (crun("stat:/old", _TMPFS_ROOT),),
    "tmpfs-copy-up-read-only": (crun("stat:/old", _TMPFS_ROOT),),
    "tmpfs-without-source": (crun("mount /there source", "names a mount without source by its type"),),
    "proc-hidepid": (_KEEPS,),
    "proc-read-only": (_KEEPS,),
    "cgroup-writable": (crun("mkdir:*", "the root of its v1 mounts is a writable tmpfs"),),
    "cgroup-bare": (crun("mount /sys/fs/cgroup options", "adds no options to the tmpfs over the hierarchies"),),
    "cgroup-elsewhere": (
        crun("mount /there options", "adds no options to the tmpfs over the hierarchies"),
        crun("mount /there source", "names the tmpfs over the v1 hierarchies cgroup"),
        crun("mount /there super", "its tmpfs has size=1024k, and no mode"),
    ),
}

CASES = with_known((*BINDS, *FLAGS, *TYPES), KNOWN)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_peers(oci: Comparison, case: Case) -> None:
    oci.peers(case)


if OURS:

    @each
    def test_pycontain(oci: Comparison, case: Case) -> None:
        oci.ours(case)
