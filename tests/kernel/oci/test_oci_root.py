"""`root`, `linux.rootfsPropagation`, masked and read-only paths, and `linux.sysctl`."""

from __future__ import annotations

from typing import Any

import pytest

from .bundles import DELETE, Bundle
from .comparison import Case, Comparison, with_known
from .known import Known, crun, runc
from .runtimes import OURS

pytestmark = pytest.mark.kernel

_WRITES = ("open:new:/made", "open:new:/tmp/made", "open:new:/dev/made")


def _shared(bundle: Bundle) -> None:
    """The file system below the root is shared, as all are where systemd runs."""
    bundle.before.append(f"mount --make-shared {bundle.directory.parent}")


def _paths(bundle: Bundle) -> None:
    for name in ("dir", "dir/sub", "other"):
        (bundle.rootfs / name).mkdir()
    (bundle.rootfs / "file").write_text("secret\n")
    (bundle.rootfs / "dir/file").write_text("secret\n")
    (bundle.rootfs / "link").symlink_to("/dir")
    (bundle.rootfs / "fifo").symlink_to("/file")


def _masked(*paths: str) -> dict[str, Any]:
    return {"linux.maskedPaths": list(paths), "root.readonly": False}


def _read_only(*paths: str) -> dict[str, Any]:
    return {"linux.readonlyPaths": list(paths), "root.readonly": False}


# "slave" alone: the root is bound after its parent has become a slave, and is the group's no more
_KINDS = {"private": "private", "rprivate": "private", "slave": "private", "rslave": "master"}
_KINDS |= {"shared": "shared", "rshared": "shared", "unbindable": "unbindable", "runbindable": "unbindable"}

ROOTS = (
    Case("root-read-only", asks=_WRITES, expect={"open:new:/made": "EROFS", "open:new:/dev/made": "ok"}),
    Case("root-writable", {"root.readonly": False}, _WRITES, expect={"open:new:/made": "ok"}),
    Case("readonly-unsaid", {"root.readonly": DELETE}, _WRITES, expect={"open:new:/made": "ok"}),
    Case("root-absolute", {"root.path": "@bundle@/rootfs"}),
    Case("root-missing", {"root.path": "no-such"}, expect={"started": "no"}),
    *(
        Case(
            f"root-propagation-{name}",
            {"linux.rootfsPropagation": name},
            (),
            {"mount / propagation": kind},
            prepare=_shared,
        )
        for name, kind in _KINDS.items()
    ),
    Case("root-propagation-unsaid", prepare=_shared, expect={"mount / propagation": "private"}),
    Case("root-propagation-unknown", {"linux.rootfsPropagation": "rough"}, expect={"started": "no"}),
    Case(
        "root-propagation-shared-of-private",
        {"linux.rootfsPropagation": "rshared"},
        expect={"mount / propagation": "shared"},
    ),
)

PATHS = (
    Case("masked-file", _masked("/file"), ("file:/file", "stat:/file", "open:w:/file"), prepare=_paths),
    Case("masked-directory", _masked("/dir"), ("ls:/dir", "stat:/dir", "open:new:/dir/made"), prepare=_paths,
         expect={"ls:/dir": "", "open:new:/dir/made": "EROFS"}),
    Case("masked-missing", _masked("/no/such"), ("stat:/no",), prepare=_paths, expect={"stat:/no": "ENOENT"}),
    Case("masked-link", _masked("/link"), ("ls:/dir", "ls:/link"), prepare=_paths),
    Case("masked-relative", _masked("dir"), ("ls:/dir",), prepare=_paths),
    Case("masked-twice", _masked("/dir", "/dir"), ("ls:/dir",), prepare=_paths, expect={"ls:/dir": ""}),
    Case("masked-device", _masked("/dev/full"), ("stat:/dev/full", "open:rw:/dev/full"), prepare=_paths),
    Case("masked-own-mount", {**_masked("/dev/shm"), "linux.readonlyPaths": []}, ("stat:/dev/shm", "open:new:/dev/shm/x")),
    Case("read-only-file", _read_only("/file"), ("file:/file", "open:w:/file"), prepare=_paths,
         expect={"file:/file": "secret", "open:w:/file": "EROFS"}),
    Case("read-only-directory", _read_only("/dir"), ("ls:/dir", "open:new:/dir/made", "open:w:/dir/file"), prepare=_paths,
         expect={"open:new:/dir/made": "EROFS", "open:w:/dir/file": "EROFS"}),
    Case("read-only-missing", _read_only("/no/such"), ("stat:/no",), prepare=_paths, expect={"stat:/no": "ENOENT"}),
    Case("read-only-link", _read_only("/link"), ("open:new:/dir/made",), prepare=_paths),
    Case("read-only-relative", _read_only("dir"), ("open:new:/dir/made",), prepare=_paths),
    Case("read-only-of-mount", _read_only("/dev/shm"), ("open:new:/dev/shm/made",), expect={"open:new:/dev/shm/made": "EROFS"}),
    Case("read-only-with-mounts", _read_only("/dev"), ("open:new:/dev/made", "open:new:/dev/shm/made")),
    Case("read-only-and-masked", {**_read_only("/dir"), "linux.maskedPaths": ["/dir/sub"]}, ("ls:/dir/sub",), prepare=_paths),
    Case("paths-none", {"linux.maskedPaths": DELETE, "linux.readonlyPaths": DELETE}, ("open:w:/proc/sysrq-trigger",)),
)  # fmt: skip


def _sysctl(name: str, value: str, **changes: Any) -> Case:
    file = "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))
    return Case(f"sysctl-{name}", {"linux.sysctl": {name: value}}, (f"file:{file}",), {f"file:{file}": value})


SYSCTLS = (
    _sysctl("kernel.shm_rmid_forced", "1"),
    _sysctl("kernel.msgmax", "65536"),
    _sysctl("kernel.sem", "250\t32000\t32\t200"),
    _sysctl("fs.mqueue.msg_max", "20"),
    _sysctl("net.ipv4.ip_forward", "1"),
    _sysctl("net.ipv4.conf.lo.forwarding", "1"),
    _sysctl("net.ipv4.ping_group_range", "0\t2147483647"),
    _sysctl("net/ipv4/ip_default_ttl", "63"),
    Case("sysctl-domainname", {"linux.sysctl": {"kernel.domainname": "example.org"}}, expect={"domainname": "example.org"}),
    Case("sysctl-hostname", {"linux.sysctl": {"kernel.hostname": "other"}}, expect={"started": "no"}),
    Case("sysctl-not-namespaced", {"linux.sysctl": {"kernel.panic": "0"}}, expect={"started": "no"}),
    Case("sysctl-vm", {"linux.sysctl": {"vm.swappiness": "60"}}, expect={"started": "no"}),
    Case("sysctl-missing", {"linux.sysctl": {"net.no.such": "1"}}, expect={"started": "no"}),
    Case("sysctl-bad-value", {"linux.sysctl": {"net.ipv4.ip_forward": "word"}}, expect={"started": "no"}),
    Case("sysctl-host-ipc", {"linux.sysctl": {"kernel.msgmax": "8192"}, "mounts[/dev/mqueue]": DELETE,
         "linux.namespaces": [{"type": n} for n in ("pid", "network", "uts", "mount")]}, expect={"started": "no"}),
    Case("sysctl-host-network", {"linux.sysctl": {"net.ipv4.ip_default_ttl": "64"},
         "linux.namespaces": [{"type": n} for n in ("pid", "ipc", "uts", "mount")]}, expect={"started": "no"}),
)  # fmt: skip

_DIR = "its tmpfs over a masked directory is writable below a ro mount"
_FILE = "masks a file with the host's /dev/null, read-only; runc with the container's, writable"
_RUNC_ROOT = "leaves the root private"
_UNBINDABLE = "makes everything unbindable before it has bound the root or the cgroups"
_BARE = "binds a read-only path without the other options of the mount it is on"

KNOWN: dict[str, tuple[Known, ...]] = {
    "root-propagation-unsaid": (
        runc("mount / propagation", "leaves the root a slave of the host when nothing is said"),
    ),
    "root-propagation-rslave": (crun("mount / propagation", "leaves the root private"),),
    "root-propagation-shared": (runc("mount / propagation", _RUNC_ROOT),),
    "root-propagation-rshared": (runc("mount * propagation", _RUNC_ROOT),),
    "root-propagation-unbindable": (runc("mount / propagation", _RUNC_ROOT),),
    "root-propagation-runbindable": (runc("started", _UNBINDABLE), crun("started", _UNBINDABLE)),
    "root-propagation-unknown": (crun("started", "ignores a propagation that it does not know"),),
    "root-propagation-shared-of-private": (runc("mount * propagation", "leaves private what is private on the host"),),
    "masked-file": (crun("mount /file*", _FILE),),
    "masked-device": (crun("mount /dev/full*", _FILE),),
    "masked-directory": (crun("mount /dir super", _DIR),),
    "masked-link": (crun("mount /dir super", _DIR),),
    "masked-relative": (crun("mount /dir super", _DIR),),
    "masked-twice": (crun("mount /dir* super", _DIR),),
    "masked-own-mount": (crun("mount /dev/shm#2 super", _DIR),),
    "read-only-of-mount": (crun("mount /dev/shm#2 options", _BARE),),
    "read-only-with-mounts": (crun("mount /dev#2 options", _BARE),),
    "read-only-and-masked": (crun("mount /dir/sub*", "masks first, and binds the mask along when it makes read-only"),),
}

CASES = with_known((*ROOTS, *PATHS, *SYSCTLS), KNOWN)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_peers(oci: Comparison, case: Case) -> None:
    oci.peers(case)


if OURS:

    @each
    def test_pycontain(oci: Comparison, case: Case) -> None:
        oci.ours(case)
