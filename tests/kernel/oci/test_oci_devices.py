"""`linux.devices`, and the rules of `linux.resources.devices` observed by trying."""

from __future__ import annotations

from typing import Any

import pytest

from .comparison import Case, Comparison, with_known
from .known import Known, crun, runc
from .runtimes import OURS

pytestmark = pytest.mark.kernel

_DENY = {"allow": False, "access": "rwm"}
_LIST = ("devices/devices.list",)
_DEFAULT_NODES = tuple(f"open:rw:/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx"))


def _device(path: str = "/dev/extra", kind: str = "c", major: int = 1, minor: int = 3, **more: int) -> dict[str, Any]:
    numbers = {} if kind == "p" else {"major": major, "minor": minor}
    return {"path": path, "type": kind, **numbers, **more}


def _devices(*given: dict[str, Any]) -> dict[str, Any]:
    return {"linux.devices": list(given)}


def _rules(*given: dict[str, Any]) -> dict[str, Any]:
    """With CAP_MKNOD, and CAP_SYSLOG for /dev/kmsg, so that only the rules decide."""
    sets = {name: ["CAP_MKNOD", "CAP_SYSLOG"] for name in ("bounding", "permitted", "effective")}
    return {"linux.resources.devices": list(given), "process.capabilities": sets}


def _allow(kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    numbers = {name: n for name, n in (("major", major), ("minor", minor)) if n is not None}
    return {"allow": True, "type": kind, "access": access, **numbers}


_KMSG = _device("/dev/kmsg", "c", 1, 11, fileMode=0o666)
_TRY_KMSG = ("open:r:/dev/kmsg", "open:w:/dev/kmsg", "open:rw:/dev/kmsg", "mknod:c:1:11:/dev/made")

NODES = (
    Case("default-nodes", asks=_DEFAULT_NODES),
    Case("device", _devices(_device(fileMode=0o640, uid=5, gid=6)), expect={"dev extra": "c0640 5:6 1:3"}),
    Case("device-bare", _devices(_device()), ("open:rw:/dev/extra",)),
    Case("device-mode-zero", _devices(_device(fileMode=0))),
    Case("device-sticky-mode", _devices(_device(fileMode=0o1644))),
    Case("device-mode-with-type", _devices(_device(fileMode=0o20644))),
    Case("device-u", _devices(_device(kind="u", fileMode=0o600)), expect={"dev extra": "c0600 0:0 1:3"}),
    Case("device-block", _devices(_device(kind="b", major=7, minor=9, fileMode=0o660)), expect={"dev extra": "b0660 0:0 7:9"}),
    Case("device-fifo", _devices(_device(kind="p", fileMode=0o622)), expect={"dev extra": "p0622 0:0"}),
    Case("device-unknown-type", _devices(_device(kind="x")), expect={"started": "no"}),
    Case("device-below", _devices(_device("/dev/a/b/c", fileMode=0o600)), ("stat:/dev/a", "stat:/dev/a/b", "stat:/dev/a/b/c"),
         expect={"stat:/dev/a/b/c": "c0600 0:0 1:3"}),
    Case("device-outside", _devices(_device("/tmp/x", fileMode=0o600)), ("stat:/tmp/x",), expect={"stat:/tmp/x": "c0600 0:0 1:3"}),
    Case("device-relative", _devices(_device("dev/rel")), ("stat:/dev/rel",)),
    Case("device-dots", _devices(_device("/dev/../dev/dots", fileMode=0o600)), ("stat:/dev/dots",)),
    Case("device-over-default", _devices(_device("/dev/null", fileMode=0o600, uid=7)), ("stat:/dev/null",)),
    Case("device-over-directory", _devices(_device("/dev/shm")), expect={"started": "no"}),
    Case("device-twice", _devices(_device(fileMode=0o600), _device(fileMode=0o644))),
    Case("device-of-user", {**_devices(_device(fileMode=0o600, uid=1000, gid=1000)), "process.user": {"uid": 1000, "gid": 1000}},
         ("open:rw:/dev/extra",), expect={"open:rw:/dev/extra": "ok"}),
    Case("device-masked-by-umask", {**_devices(_device(fileMode=0o666)), "process.user.umask": 0o077},
         expect={"dev extra": "c0666 0:0 1:3"}),
    Case("console-without-terminal", _devices(_device("/dev/console", "c", 5, 1, fileMode=0o600))),
)  # fmt: skip

RULES = (
    Case("rules-default", {**_devices(_KMSG), **_rules(_DENY)}, _TRY_KMSG, cgroup=_LIST, expect={"open:r:/dev/kmsg": "EPERM"}),
    Case("rules-read", {**_devices(_KMSG), **_rules(_DENY, _allow("c", 1, 11, "r"))}, _TRY_KMSG, cgroup=_LIST,
         expect={"open:r:/dev/kmsg": "ok", "open:w:/dev/kmsg": "EPERM"}),
    Case("rules-write", {**_devices(_KMSG), **_rules(_DENY, _allow("c", 1, 11, "w"))}, _TRY_KMSG, cgroup=_LIST,
         expect={"open:r:/dev/kmsg": "EPERM", "open:w:/dev/kmsg": "ok"}),
    Case("rules-of-major", {**_devices(_KMSG), **_rules(_DENY, _allow("c", 1, None, "rwm"))}, _TRY_KMSG, cgroup=_LIST,
         expect={"open:rw:/dev/kmsg": "ok"}),
    Case("rules-of-minor", {**_devices(_KMSG), **_rules(_DENY, _allow("c", None, 11, "rw"))}, _TRY_KMSG, cgroup=_LIST,
         expect={"open:rw:/dev/kmsg": "ok"}),
    Case("rules-wildcards-minus-one", {**_devices(_KMSG), **_rules(_DENY, _allow("c", 1, -1, "rw"))}, _TRY_KMSG, cgroup=_LIST,
         expect={"open:rw:/dev/kmsg": "ok"}),
    Case("rules-allow-all", {**_devices(_KMSG), **_rules({"allow": True, "access": "rwm"})}, _TRY_KMSG, cgroup=_LIST,
         expect={"open:rw:/dev/kmsg": "ok"}),
    Case("rules-allow-all-but-one", {**_devices(_KMSG), **_rules({"allow": True, "access": "rwm"},
         {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "w"})}, _TRY_KMSG, cgroup=_LIST,
         expect={"open:r:/dev/kmsg": "ok", "open:w:/dev/kmsg": "EPERM"}),
    Case("rules-last-wins", {**_devices(_KMSG), **_rules(_allow("c", 1, 11, "rwm"), _DENY)}, _TRY_KMSG, cgroup=_LIST,
         expect={"open:rw:/dev/kmsg": "EPERM"}),
    Case("rules-none", {**_devices(_KMSG), **_rules()}, _TRY_KMSG, cgroup=_LIST),
    Case("rules-defaults-stay", _rules(_DENY), _DEFAULT_NODES, cgroup=_LIST, expect={"open:rw:/dev/null": "ok"}),
    Case("rules-mknod", _rules(_DENY), ("mknod:c:1:5:/dev/made", "mknod:c:10:200:/dev/made", "mknod:b:7:0:/dev/made"), cgroup=_LIST),
    Case("rules-for-tun", {**_devices(_device("/dev/net/tun", "c", 10, 200, fileMode=0o666)), **_rules(_DENY)},
         ("open:rw:/dev/net/tun",), cgroup=_LIST),
    Case("rules-deny-null", _rules(_DENY, {"allow": False, "type": "c", "major": 1, "minor": 3, "access": "rwm"}),
         ("open:rw:/dev/null",), cgroup=_LIST),
    Case("rules-access-empty", _rules(_DENY, _allow("c", 1, 11, "")), expect={"started": "no"}),
    Case("rules-access-unknown", _rules(_DENY, _allow("c", 1, 11, "rx")), cgroup=_LIST, expect={"started": "no"}),
    Case("rules-type-unknown", _rules(_DENY, _allow("z", 1, 11, "r")), cgroup=_LIST, expect={"started": "no"}),
)  # fmt: skip

_MINUS_ONE = "writes -1 for a wildcard into devices.allow"
_OVER = "leaves what is there, a directory too, and says nothing"
_NO_RULES = "without rules allows everything"

KNOWN: dict[str, tuple[Known, ...]] = {
    "device-unknown-type": (crun("started", "makes a character device of any type it does not know"),),
    "device-relative": (crun("started", "looks for a relative path in its own directory"),),
    "device-over-default": (runc("started", "loses the rule for a default device that is listed again"),),
    "device-over-directory": (runc("started", _OVER), crun("started", _OVER)),
    "rules-wildcards-minus-one": (crun("started", _MINUS_ONE),),
    "rules-none": (crun("open:*", _NO_RULES),),
    "rules-for-tun": (crun("open:*", "allows tun (10:200) to none; runc to all"),),
    "rules-access-unknown": (runc("started", "ignores letters of access that it does not know"),),
}

CASES = with_known((*NODES, *RULES), KNOWN)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_peers(oci: Comparison, case: Case) -> None:
    oci.peers(case)


if OURS:

    @each
    def test_pycontain(oci: Comparison, case: Case) -> None:
        oci.ours(case)
