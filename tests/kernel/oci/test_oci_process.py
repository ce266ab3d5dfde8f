"""`process` of the specification: user, environment, capabilities, limits, scheduling."""

from __future__ import annotations

import pytest

from .bundles import DELETE, Bundle
from .comparison import Case, Comparison, with_known
from .known import crun, runc
from .runtimes import OURS

pytestmark = pytest.mark.kernel

_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
_SOME = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]
_SOME_HEX = "0000000000002021"
_NONE_HEX = "0000000000000000"


def _passwd(bundle: Bundle) -> None:
    (bundle.rootfs / "etc").mkdir()
    (bundle.rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    (bundle.rootfs / "etc/group").write_text("root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")


def _closed(bundle: Bundle) -> None:
    (bundle.rootfs / "closed").mkdir(mode=0o700)


def _linked(bundle: Bundle) -> None:
    (bundle.rootfs / "link").symlink_to("/tmp")


USERS = (
    Case("base"),
    Case("user", {"process.user": {"uid": 1000, "gid": 1001}}, expect={"status Uid": "1000 1000 1000 1000"}),
    Case(
        "user-groups",
        {"process.user": {"uid": 1000, "gid": 1001, "additionalGids": [5, 2000, 1001, 7]}},
        expect={"status Groups": "5 7 1001 2000"},
    ),
    Case("user-root-groups", {"process.user.additionalGids": [10, 20]}, expect={"status Groups": "10 20"}),
    Case("user-in-passwd", {"process.user": {"uid": 1000, "gid": 1000}}, prepare=_passwd),
    Case("user-unnamed-with-passwd", {"process.user": {"uid": 4321, "gid": 1000}}, prepare=_passwd),
    Case("user-umask", {"process.user.umask": 0o027}, expect={"status Umask": "0027"}),
    Case("user-umask-zero", {"process.user.umask": 0}, expect={"status Umask": "0000"}),
    Case("user-largest", {"process.user": {"uid": 4294967294, "gid": 4294967294}}),
)

ENVIRONMENT = (
    Case("env-none", {"process.env": DELETE}),
    Case(
        "env-empty-value", {"process.env": ["PATH=/bin", "EMPTY=", "A=b=c"]}, expect={"env A": "b=c", "env EMPTY": ""}
    ),
    Case("env-twice", {"process.env": ["PATH=/bin", "A=1", "A=2"]}),
    Case("env-without-equals", {"process.env": ["PATH=/bin", "LONE"]}, expect={"started": "no"}),
    Case("env-home", {"process.env": ["HOME=/elsewhere"]}, expect={"env HOME": "/elsewhere"}),
    Case("cwd", {"process.cwd": "/tmp"}, expect={"cwd": "/tmp"}),
    Case(
        "cwd-missing",
        {"process.cwd": "/made/here"},
        expect={"cwd": "/made/here"},
        asks=("stat:/made", "stat:/made/here"),
    ),
    Case(
        "cwd-missing-user", {"process.cwd": "/made", "process.user": {"uid": 1000, "gid": 1000}}, asks=("stat:/made",)
    ),
    Case("cwd-relative", {"process.cwd": "tmp"}, expect={"started": "no"}),
    Case("cwd-link", {"process.cwd": "/link"}, prepare=_linked, expect={"cwd": "/tmp"}),
    Case("cwd-closed", {"process.cwd": "/closed", "process.user": {"uid": 1000, "gid": 1000}}, prepare=_closed),
    Case("args-looked-up", {"process.args": ["probe"], "process.env": ["PATH=/bin:/"]}, expect={"argv0": "probe"}),
    Case("args-relative", {"process.args": ["./probe", "-x", "", "y z"]}, expect={"argv": "./probe -x  y z"}),
    Case("args-missing", {"process.args": ["/no/such"]}, expect={"started": "no"}),
    Case("args-empty", {"process.args": []}, expect={"started": "no"}),
    Case("args-directory", {"process.args": ["/tmp"]}, expect={"started": "no"}),
    Case("hostname", {"hostname": "some.name"}, expect={"hostname": "some.name"}),
    Case("hostname-none", {"hostname": DELETE}),
    Case("domainname", {"domainname": "some.domain"}, expect={"domainname": "some.domain"}),
)


def _sets(**given: list[str]) -> dict[str, list[str]]:
    return {"process.capabilities": {name: given.get(name, []) for name in _SETS}}  # type: ignore[dict-item]


CAPABILITIES = (
    Case("capabilities-none", {"process.capabilities": DELETE}, expect={"status CapEff": _NONE_HEX}),
    Case("capabilities-empty", _sets(), expect={"status CapBnd": _NONE_HEX, "status CapPrm": _NONE_HEX}),
    Case("capabilities-bounding", _sets(bounding=_SOME), expect={"status CapBnd": _SOME_HEX}),
    Case(
        "capabilities-permitted",
        _sets(bounding=_SOME, permitted=_SOME),
        expect={"status CapBnd": _SOME_HEX},
    ),
    Case("capabilities-effective", _sets(bounding=_SOME, permitted=_SOME, effective=["CAP_KILL"])),
    Case("capabilities-inheritable", _sets(bounding=_SOME, permitted=_SOME, effective=_SOME, inheritable=_SOME)),
    Case("capabilities-ambient", _sets(**dict.fromkeys(_SETS, _SOME)), expect={"status CapAmb": _SOME_HEX}),
    Case("capabilities-ambient-alone", _sets(bounding=_SOME, permitted=_SOME, effective=_SOME, ambient=_SOME)),
    Case(
        "capabilities-ambient-user",
        {**_sets(**dict.fromkeys(_SETS, _SOME)), "process.user": {"uid": 1000, "gid": 1000}},
        expect={"status CapEff": _SOME_HEX, "status CapAmb": _SOME_HEX},
    ),
    Case(
        "capabilities-user",
        {**_sets(bounding=_SOME, permitted=_SOME, effective=_SOME), "process.user": {"uid": 1000, "gid": 1000}},
    ),
    Case("capabilities-effective-only", _sets(bounding=_SOME, effective=_SOME), expect={"started": "no"}),
    Case("capabilities-permitted-not-bounding", _sets(permitted=_SOME, effective=_SOME)),
    Case(
        "capabilities-not-held",
        _sets(bounding=["CAP_SYS_RESOURCE"], permitted=["CAP_SYS_RESOURCE"]),
        expect={"started": "no"},
    ),
    Case("capabilities-unknown", _sets(bounding=["CAP_NO_SUCH"])),
    Case("capabilities-lower-case", _sets(bounding=["cap_kill"])),
    Case("capabilities-without-prefix", _sets(bounding=["KILL"])),
)

_LIMITS = {
    "CORE": 0,
    "CPU": 3000,
    "DATA": 1 << 30,
    "FSIZE": 1 << 30,
    "LOCKS": 100,
    "MEMLOCK": 65536,
    "MSGQUEUE": 800000,
}
_LIMITS |= {"NICE": 0, "NOFILE": 512, "NPROC": 5000, "RSS": 1 << 30, "RTPRIO": 0, "RTTIME": 10**6, "SIGPENDING": 500}
_LIMITS |= {"STACK": 8 << 20, "AS": 1 << 40}


def _limit(name: str, soft: int, hard: int) -> dict[str, int | str]:
    return {"type": name, "soft": soft, "hard": hard}


LIMITS = (
    Case("rlimits-all", {"process.rlimits": [_limit(f"RLIMIT_{n}", v // 2, v) for n, v in _LIMITS.items()]}),
    Case("rlimits-none", {"process.rlimits": DELETE}),
    Case("rlimits-infinity", {"process.rlimits": [_limit("RLIMIT_CORE", 1, (1 << 64) - 1)]}),
    Case("rlimits-twice", {"process.rlimits": [_limit("RLIMIT_CORE", 0, 0)] * 2}, expect={"started": "no"}),
    Case("rlimits-unknown", {"process.rlimits": [_limit("RLIMIT_NO_SUCH", 0, 0)]}, expect={"started": "no"}),
    Case("rlimits-not-permitted", {"process.rlimits": [_limit("RLIMIT_NOFILE", 9, 1 << 40)]}, expect={"started": "no"}),
    Case("rlimits-soft-above-hard", {"process.rlimits": [_limit("RLIMIT_CORE", 2, 1)]}, expect={"started": "no"}),
    Case("new-privileges", {"process.noNewPrivileges": False}, expect={"status NoNewPrivs": "0"}),
    Case("new-privileges-unsaid", {"process.noNewPrivileges": DELETE}, expect={"status NoNewPrivs": "0"}),
    Case("oom-score", {"process.oomScoreAdj": 500}, expect={"proc.oom_score_adj": "500"}),
    Case("oom-score-zero", {"process.oomScoreAdj": 0}, expect={"proc.oom_score_adj": "0"}),
    Case("oom-score-too-high", {"process.oomScoreAdj": 1001}, expect={"started": "no"}),
    Case("apparmor-missing", {"process.apparmorProfile": "some"}, expect={"started": "no"}),
    Case(
        "selinux-missing",
        {"process.selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0:c124,c675"},
        expect={"started": "no"},
    ),
    Case(
        "mount-label-missing",
        {"linux.mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811"},
        expect={"started": "no"},
    ),
)

SCHEDULING = (
    Case(
        "io-priority", {"process.ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}}, expect={"ioprio": "16390"}
    ),
    Case(
        "io-priority-idle",
        {"process.ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}},
        expect={"ioprio": "24576"},
    ),
    Case(
        "scheduler-batch",
        {"process.scheduler": {"policy": "SCHED_BATCH", "nice": 5}},
        expect={"scheduler": "policy 3 flags 0 nice 5 priority 0 runtime 0 deadline 0 period 0"},
    ),
    Case(
        "scheduler-fifo",
        {"process.scheduler": {"policy": "SCHED_FIFO", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}},
        expect={"scheduler": "policy 1 flags 1 nice 0 priority 3 runtime 0 deadline 0 period 0"},
    ),
    Case(
        "personality-32", {"linux.personality": {"domain": "LINUX32"}}, expect={"personality": "8", "machine": "i686"}
    ),
    Case("personality", {"linux.personality": {"domain": "LINUX"}}, expect={"personality": "0"}),
    Case("personality-unknown", {"linux.personality": {"domain": "OS2"}}, expect={"started": "no"}),
    Case(
        "memory-policy",
        {"linux.memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0"}},
        expect={"mempolicy": "3 nodes 1"},
    ),
)

TERMINALS = (
    Case("terminal", {"process.terminal": True}),
    Case(
        "terminal-size",
        {"process.terminal": True, "process.consoleSize": {"height": 33, "width": 99}},
        expect={"tty.size": "33 99"},
    ),
    Case("terminal-user", {"process.terminal": True, "process.user": {"uid": 1000, "gid": 1000}}),
    Case("terminal-size-without", {"process.consoleSize": {"height": 33, "width": 99}}),
)

_LATER = "ignores it: younger than this version"
_TWICE = "takes two limits of one type"
_CONSOLE = crun("mount /dev/console options", "binds /dev/console without the options of /dev/pts")
_ONLCR = crun("tty.modes", "leaves ONLCR set, runc clears it")

KNOWN = {
    "user-unnamed-with-passwd": (crun("env HOME", "adds no HOME for a uid that /etc/passwd lacks"),),
    "user-largest": (runc("started", "refuses ids above 2147483647"),),
    "env-without-equals": (crun("started", "passes on a variable without ="),),
    "cwd-relative": (crun("started", "takes a relative cwd"),),
    "domainname": (runc("domainname", _LATER),),
    "capabilities-lower-case": (crun("status CapBnd", "takes capability names in lower case"),),
    "rlimits-twice": (runc("started", _TWICE), crun("started", _TWICE)),
    "mount-label-missing": (crun("started", "ignores mountLabel where there is no SELinux"),),
    "io-priority": (runc("ioprio", _LATER), crun("ioprio", _LATER)),
    "io-priority-idle": (runc("ioprio", _LATER), crun("ioprio", _LATER)),
    "scheduler-batch": (runc("scheduler", _LATER), crun("scheduler", _LATER)),
    "scheduler-fifo": (runc("scheduler", _LATER), crun("scheduler", _LATER)),
    "personality-32": (runc("personality", _LATER), runc("machine", _LATER)),
    "personality-unknown": (runc("started", _LATER),),
    "memory-policy": (runc("mempolicy", _LATER), crun("mempolicy", _LATER)),
    "terminal": (_CONSOLE, _ONLCR),
    "terminal-size": (_CONSOLE, _ONLCR),
    "terminal-user": (_CONSOLE, _ONLCR),
}

CASES = with_known((*USERS, *ENVIRONMENT, *CAPABILITIES, *LIMITS, *SCHEDULING, *TERMINALS), KNOWN)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_peers(oci: Comparison, case: Case) -> None:
    oci.peers(case)


if OURS:

    @each
    def test_pycontain(oci: Comparison, case: Case) -> None:
        oci.ours(case)
