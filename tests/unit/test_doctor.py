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
        self.refused: dict[str, int] = {}
        self.powers, self.installed = True, True
        self.delegated = frozenset[str]()
        self.own_mounts = True

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def entries(self, directory: str) -> list[str]:
        return [f"{o}.lock" for o in self.owners]

    def exists(self, path: str) -> bool:
        return path in self.files or path in ("/", "/var", "/run", "/home/u", "/run/user/1000")

    def executable(self, path: str) -> bool:
        return self.installed or "idmap" not in path

    def writable(self, path: str) -> bool:
        mine = self.uid == 0 or path in self.delegated or path in ("/home/u", "/run/user/1000")
        return mine and path not in self.read_only

    def names(self) -> tuple[str, ...]:
        return ("u", "1000") if self.uid else ("root", "0")

    def has_powers(self, path: str) -> bool:
        return self.powers

    def owns_mounts(self) -> bool:
        return self.own_mounts

    def refused_calls(self) -> dict[str, int]:
        return self.refused

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


USER_ROOTS = Roots(data_root="/home/u/.local/share/pycontain", run_root="/run/user/1000/pycontain")
_RANGES = {"/etc/subuid": "u:100000:65536\n", "/etc/subgid": "1000:100000:65536\n"}


def user_host(mounts: str = _V2, files: dict[str, str] | None = None, *, release: str = "6.1.0") -> FakeHost:
    made = FakeHost(
        mounts, {"/proc/self/status": "Name:\tpython3\nCapEff:\t0\n", **_RANGES, **(files or {})}, release=release
    )
    made.uid = 1000
    return made


def test_an_ordinary_user_can_run_containers_without_limits() -> None:
    text, code = doctor.report("text", USER_ROOTS, host=user_host())
    assert code == 0 and text.endswith("\nthis host can run containers, without limits\n")
    assert row(text, "user 1000: containers are started as root of a user namespace").startswith("  ok")
    assert "systemd-run --user --scope -p Delegate=yes" in row(text, "no limits and no accounts")
    assert row(text, "/etc/subgid gives u 65536 ids").startswith("  ok")


def test_a_delegated_cgroup_gives_him_limits() -> None:
    own = "/user.slice/user-1000.slice/user@1000.service/app.slice/run.scope"
    directory = "/sys/fs/cgroup" + own
    controllers = {f"{directory}/cgroup.controllers": "cpu memory pids\n", f"{directory}/cgroup.type": "domain\n"}
    host = user_host(files={"/proc/self/cgroup": f"0::{own}\n", **controllers})
    host.delegated = frozenset(directory + f for f in ("", "/cgroup.procs", "/cgroup.subtree_control"))
    text, code = doctor.report("text", USER_ROOTS, host=host)
    assert code == 0 and row(text, f"a delegated cgroup: {directory}").startswith("  ok")
    assert row(text, "--memory works").startswith("  ok")
    assert "it is not delegated" in row(text, "--cpuset-cpus:")


@pytest.mark.parametrize(
    ("files", "what", "remedy"),
    [
        ({"/etc/subuid": "other:1:65536\n"}, "/etc/subuid gives u no subordinate ids", "usermod --add-subuids 100000-165535 u"),
        ({"/etc/subgid": ""}, "/etc/subgid gives u no subordinate ids", "usermod --add-subgids"),
        ({"/proc/sys/user/max_user_namespaces": "0\n"}, "user.max_user_namespaces is 0", "Raise it"),
        ({"/proc/sys/kernel/unprivileged_userns_clone": "0\n"}, "unprivileged_userns_clone is 0", "Set it to 1"),
        (
            {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, "AppArmor forbids it to programs without a profile",
            "the rule `userns,`",
        ),
        ({"/proc/self/status": "Name:\tx\nNoNewPrivs:\t1\n"}, "no_new_privs is set for this process", "Start it without"),
    ],
)  # fmt: skip
def test_what_keeps_an_ordinary_user_from_it(files: dict[str, str], what: str, remedy: str) -> None:
    text, code = doctor.report("text", USER_ROOTS, host=user_host(files=files))
    assert code == 1
    line = next(each for each in text.splitlines() if what in each and each.startswith("  no"))
    assert remedy in line
    assert text.splitlines()[-1].startswith("this user cannot run containers: ") and what in text.splitlines()[-1]


def test_root_is_not_kept_from_it_by_what_keeps_others() -> None:
    files = {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}
    host = FakeHost(_V2, files)
    host.installed = False
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 0 and row(text, "AppArmor forbids it").startswith("  no")
    assert "Install uidmap" in row(text, "newuidmap is not installed")


@pytest.mark.parametrize("installed", [False, True])
def test_newuidmap_must_be_there_and_have_its_powers(installed: bool) -> None:
    host = user_host()
    host.installed, host.powers = installed, False
    text, code = doctor.report("text", USER_ROOTS, host=host)
    assert code == 1
    assert ("chmod u+s /usr/bin/newuidmap" if installed else "Install uidmap") in row(text, "newuidmap")


def test_security_modules() -> None:
    files = {
        "/sys/kernel/security/lsm": "lockdown,capability,apparmor",
        "/sys/module/apparmor/parameters/enabled": "Y\n",
        "/proc/self/attr/current": "unconfined\n",
    }
    text, code = doctor.report("text", ROOTS, host=FakeHost(_V2, files))
    assert code == 0 and row(text, "AppArmor is on").startswith("  ok") and "profiles cannot be listed" in text
    files |= {
        "/sys/kernel/security/apparmor/profiles": "a (enforce)\nb (complain)\n",
        "/proc/self/attr/current": "box (enforce)\n",
    }
    text, code = doctor.report("text", ROOTS, host=FakeHost(_V2, files))
    assert code == 0 and "2 profiles are loaded" in row(text, "AppArmor is on")
    assert row(text, "confined by the AppArmor profile box (enforce)").startswith("  note")
    for enforce, word in (("1", "enforcing: --security-opt label=type:TYPE works; volumes"), ("0", "permissive")):
        text, code = doctor.report("text", ROOTS, host=FakeHost(_V2, {"/sys/fs/selinux/enforce": enforce}))
        assert code == 0 and row(text, f"SELinux is {word}").startswith("  ok")


def test_few_subordinate_ids_are_noted() -> None:
    text, code = doctor.report("text", USER_ROOTS, host=user_host(files={"/etc/subuid": "u:100000:1000\n"}))
    assert code == 0 and row(text, "only 1000 ids").startswith("  note")


def test_inside_his_namespace() -> None:
    table = "0 1000 1\n1 100000 65536\n"
    files = {
        "/proc/self/uid_map": table,
        "/proc/self/gid_map": table,
        "/proc/self/status": f"CapEff:\t{ALL_CAPS:016x}\n",
    }
    text, code = doctor.report("text", ROOTS, host=FakeHost(_V2, files))
    assert code == 0 and row(text, "root of a user namespace").startswith("  ok")
    assert row(text, "in a user namespace with 65537 user ids").startswith("  ok")
    host = FakeHost(_V2, files)
    host.own_mounts = False
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 1 and "pycontain unshare" in row(text, "nothing can be mounted")


@pytest.mark.parametrize(("point", "way"), [("/proc/kcore", "--pid host"), ("/sys/firmware", "-v /sys:/sys:ro")])
def test_a_covered_proc_or_sys_is_named(point: str, way: str) -> None:
    text, code = doctor.report("text", USER_ROOTS, host=user_host(f"{_V2}50 22 0:9 / {point} rw - tmpfs t rw\n"))
    line = row(text, f"{point} is covered: no user namespace may mount")
    assert code == 0 and line.startswith("  no") and way in line


def test_mounts_that_hide_nothing_are_no_covers() -> None:
    points = ("/proc/sys/fs/binfmt_misc", "/sys/kernel/security", "/sys/fs/bpf")
    mounts = "".join(f"{60 + i} 22 0:9 / {p} rw - x x rw\n" for i, p in enumerate(points))
    assert "is covered" not in doctor.report("text", ROOTS, host=FakeHost(_V2 + mounts))[0]


@pytest.mark.parametrize(("number", "word"), [(38, "do not exist here"), (1, "are forbidden here")])
def test_system_calls_that_are_refused_block(number: int, word: str) -> None:
    host = FakeHost(_V2)
    host.refused = {"fsopen": number, "clone3": number}
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 1 and row(text, f"system calls that {word}: clone3 fsopen").startswith("  no")


@pytest.mark.parametrize(
    ("release", "lacks"),
    [
        ("5.10.0", ("mount_setattr", "overlay in user namespaces", "overlay on id-mapped layers")),
        (
            "5.15.0",
            ("overlay on id-mapped layers", "id-mapped tmpfs", "user.* attributes on tmpfs", "detached templates"),
        ),
        ("6.1.0", ("id-mapped tmpfs", "user.* attributes on tmpfs", "overlay, layer by layer")),
        ("6.6.0", ("overlay by file descriptors", "detached templates")),
        ("6.18.0", ()),
    ],
)
def test_what_a_kernel_lacks_is_noted_and_does_not_block(release: str, lacks: tuple[str, ...]) -> None:
    text, code = doctor.report("text", ROOTS, host=FakeHost(_V2, release=release))
    noted = [line for line in text.splitlines() if line.startswith("  note") and "came with Linux" in line]
    assert code == 0
    assert all(any(each in line for line in noted) for each in lacks)
    assert bool(noted) == bool(lacks)


def test_time_namespaces_and_keyrings() -> None:
    files = {"/proc/sys/user/max_time_namespaces": "100\n", "/proc/sys/kernel/keys/maxkeys": "200\n"}
    text, _ = doctor.report("text", ROOTS, host=FakeHost(_V2, files))
    assert "by one process more (before Linux 6.3)" in row(text, "time namespaces")
    assert row(text, "keyrings: a session keyring for each container").startswith("  ok")
    text, _ = doctor.report("text", ROOTS, host=FakeHost(_V2))
    assert row(text, "no keyrings").startswith("  note") and row(text, "no time namespaces").startswith("  note")


def test_an_old_kernel_is_refused_with_the_least_that_works() -> None:
    text, code = doctor.report("text", ROOTS, host=FakeHost(_V2, release="5.4.0-28-amd64"))
    assert code == 1
    least = "{}.{}".format(*MINIMUM_KERNEL)
    assert row(text, "Linux 5.4.0-28-amd64").endswith(f"Boot Linux {least} or newer")
    assert row(text, "close_range came with Linux 5.9, this is 5.4").startswith("  no")
    assert row(text, "cgroup.kill").startswith("  note")


def test_no_cgroups_at_all_block() -> None:
    text, code = doctor.report("text", ROOTS, host=FakeHost(""))
    assert code == 1 and "no cgroups are mounted" in text


def test_a_read_only_cgroup_tree_blocks() -> None:
    host = FakeHost(_V2)
    host.read_only = frozenset(("/sys/fs/cgroup",))
    text, code = doctor.report("text", ROOTS, host=host)
    assert code == 1 and "cgroup v2 cannot be used: this user may write to no cgroup" in row(text, "cgroups: v2")
    assert row(text, "memory: this user may write to no cgroup").startswith("  no")


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
