"""pycontain doctor on hosts that are made up: what it finds, what it advises, and the exit code."""

from __future__ import annotations

import json

import pytest

from pycontain import doctor
from pycontain.doctor_checks import MINIMUM_KERNEL
from pycontain.doctor_host import Host, mount_of
from pycontain.errors import InvalidArgument
from pycontain.runtime.roots import Roots

ROOTS = Roots(data_root="/var/lib/pycontain", run_root="/run/pycontain")
ALL_CAPS, NO_RESOURCE = 0x1FFFFFFFFFF, 0x1FFFFFFFFFF & ~(1 << 24)

_DISK = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
_V2 = "30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
_V1 = "".join(
    f"{40 + i} 22 0:{30 + i} / /sys/fs/cgroup/{n} rw - cgroup cgroup rw,{n}\n"
    for i, n in enumerate(("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"))
)
_HYBRID = _V1 + "31 22 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


class FakeHost(Host):
    """Only what is told is there."""

    def __init__(self, mounts: str, files: dict[str, str] | None = None, *, release: str = "6.1.0-18-amd64") -> None:
        self.files = {
            "/proc/self/mountinfo": _DISK + mounts,
            "/proc/self/status": f"Name:\tpython3\nCapEff:\t{ALL_CAPS:016x}\n",
            "/proc/filesystems": "nodev\tproc\nnodev\toverlay\n\text4\n",
            "/proc/sys/kernel/cap_last_cap": "40\n",
            "/proc/sys/kernel/seccomp/actions_avail": "kill_process errno trace log allow\n",
            "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
            "/sys/fs/cgroup/unified/cgroup.controllers": "hugetlb\n",
            **(files or {}),
        }
        self.kernel, self.uid, self.read_only, self.owners = release, 0, frozenset[str](), dict[str, bool]()
        self.block, self.free = (254, 0), 80 << 30

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def entries(self, directory: str) -> list[str]:
        return [f"{o}.lock" for o in self.owners]

    def exists(self, path: str) -> bool:
        return path in self.files or path in ("/", "/var", "/run")

    def executable(self, path: str) -> bool:
        return True

    def writable(self, path: str) -> bool:
        return self.uid == 0 and path not in self.read_only

    def free_bytes(self, path: str) -> int | None:
        return self.free

    def device(self, path: str) -> tuple[int, int] | None:
        return self.block

    def locked(self, path: str) -> bool:
        return self.owners[path.rpartition("/")[2].removesuffix(".lock")]

    def release(self) -> str:
        return self.kernel

    def machine(self) -> str:
        return "x86_64"

    def euid(self) -> int:
        return self.uid

    def extension_error(self) -> str:
        return ""

    def seccomp_error(self) -> str:
        return ""


def row(text: str, word: str) -> str:
    found = [line for line in text.splitlines() if word in line and line.startswith("  ")]
    assert found, text
    return found[0]


def test_a_pure_v2_host_can_do_everything() -> None:
    text, code = doctor.report("text", ROOTS, host=FakeHost(_V2))
    assert code == 0
    assert text.endswith("\nthis host can run containers\n")
    assert row(text, "cgroups: v2").startswith("  ok")
    assert row(text, "memory: cgroup v2 at /sys/fs/cgroup").startswith("  ok")
    assert not [line for line in text.splitlines() if line.startswith("  no ")]


def test_a_hybrid_host_lacks_what_its_files_lack() -> None:
    text, code = doctor.report("text", ROOTS, host=FakeHost(_HYBRID))
    assert code == 0
    assert row(text, "cgroups: hybrid").startswith("  ok")
    assert row(text, "hugetlb: cgroup v2 at /sys/fs/cgroup/unified").startswith("  ok")
    assert "Boot with swapaccount=1, or leave out --memory-swap" in row(text, "--memory-swap:")
    assert text.endswith("this host can run containers, without --memory-swap, --blkio-weight\n")


def test_without_a_memory_controller_the_option_says_what_to_do() -> None:
    host = FakeHost(_V2, {"/sys/fs/cgroup/cgroup.controllers": "cpu io pids"})
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 0
    line = row(text, "--memory:")
    assert line.startswith("  no") and line.endswith("Boot with cgroup_enable=memory, or leave out --memory")
    assert "(cgroup v2 at /sys/fs/cgroup offers: cpu io pids)" in line


def test_an_ordinary_user_is_told_to_become_root() -> None:
    host = FakeHost(_V2, {"/proc/self/status": "CapEff:\t0000000000000000\n"})
    host.uid = 1000
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 1
    assert "Run as root" in row(text, "this is user 1000")
    assert "this user cannot run containers: this is user 1000, not root" in text


def test_an_old_kernel_is_refused_with_the_least_that_works() -> None:
    text, code = doctor.report("text", ROOTS, host=FakeHost(_V2, release="5.10.0-28-amd64"))
    assert code == 1
    least = "{}.{}".format(*MINIMUM_KERNEL)
    assert row(text, "Linux 5.10.0-28-amd64").endswith(f"Boot Linux {least} or newer")
    assert row(text, "mount_setattr came with Linux 5.12, this is 5.10").startswith("  no")
    assert row(text, "cgroup.kill").startswith("  note")


def test_no_cgroups_at_all_block() -> None:
    text, code = doctor.report("text", ROOTS, host=FakeHost(""))
    assert code == 1 and "no cgroups are mounted" in text


def test_a_read_only_cgroup_tree_blocks() -> None:
    host = FakeHost(_V2)
    host.read_only = frozenset(("/sys/fs/cgroup",))
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 1 and row(text, "cannot be written").startswith("  no")


def test_processes_in_the_delegated_cgroup_block() -> None:
    top = "/sys/fs/cgroup"
    host = FakeHost(
        _V2, {f"{top}/cgroup.type": "domain\n", f"{top}/cgroup.procs": "1\n", f"{top}/cgroup.subtree_control": ""}
    )
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 1 and "mkdir init" in row(text, f"processes sit in {top}")


def test_root_without_sys_resource_is_told_about_ulimits() -> None:
    host = FakeHost(_V2, {"/proc/self/status": f"CapEff:\t{NO_RESOURCE:016x}\n"})
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 0 and "Keep --ulimit" in row(text, "CAP_SYS_RESOURCE a hard limit")


def test_root_without_sys_admin_cannot() -> None:
    host = FakeHost(_V2, {"/proc/self/status": "CapEff:\t00000000a80425fb\n"})
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 1 and "CAP_SYS_ADMIN" in row(text, "root here lacks")


def test_switched_off_namespaces_block() -> None:
    text, code = doctor.report("text", ROOTS, host=FakeHost(_V2, {"/proc/sys/user/max_pid_namespaces": "0\n"}))
    assert code == 1 and "sysctl user.max_pid_namespaces=10000" in text


def test_an_overlay_as_data_root_blocks() -> None:
    host = FakeHost("23 22 0:50 / /var rw - overlay overlay rw,lowerdir=/l\n" + _V2)
    host.block, host.free = (0, 50), 1 << 20
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 1
    assert "in a container, a volume or a tmpfs" in row(text, "overlay cannot hold")
    assert row(text, "less than 1 GB").startswith("  note")
    assert "--device-*-bps cannot limit" in row(text, "no single block device")


def test_leftovers_of_the_dead_are_counted() -> None:
    host = FakeHost(_V2)
    host.owners = {"12-ab": False, "13-cd": True}
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 0 and row(text, "1 dead owners").startswith("  note")


def test_a_masked_proc_is_no_traceback() -> None:
    host = FakeHost("")
    host.files.clear()
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 1 and "cannot tell whether overlay is there" in text
    assert "cannot tell which capabilities" in text and "root here lacks" not in text


def test_json_says_the_same() -> None:
    text, code = doctor.report("json", ROOTS, host=FakeHost(_HYBRID))
    document = json.loads(text)
    assert code == 0 and document["can_run"] is True
    assert document["controllers"]["memory"] == {"version": 1, "mount": "/sys/fs/cgroup/memory"}
    assert {f["mark"] for f in document["findings"]} == {"ok", "no", "note"}
    assert all(f["remedy"] for f in document["findings"] if f["mark"] == "no")
    assert document["counts"]["no"] == 2


def test_the_mount_that_covers_another_counts() -> None:
    host = FakeHost("23 22 0:5 / /srv rw - tmpfs t rw\n24 23 0:6 / /srv ro,nodev - xfs /dev/sdb rw\n")
    found = mount_of(host, "/srv/data")
    assert found is not None and found.fstype == "xfs" and "ro" in found.options


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="--format yaml: expected text or json"):
        doctor.report("yaml", ROOTS, host=FakeHost(_V2))


def test_the_real_host_is_no_traceback() -> None:
    for fmt in doctor.FORMATS:
        text, code = doctor.report(fmt, ROOTS)
        assert text and code in (0, 1)
