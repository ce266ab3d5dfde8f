"""What a container may see and do, asked of the kernel: namespaces, capabilities, seccomp, covered paths, its root."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from probes import SECRET, canary, fails, living, mounts, namespace, py, refused, runs, sh, status, until

import pycontain
from pycontain import capabilities
from pycontain.errors import InvalidArgument, SetupFailed, Unsupported
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "uts")


def bits(pid: int | str, which: str) -> frozenset[str]:
    return frozenset(capabilities.names(int(status(pid)[which], 16)))


def own() -> frozenset[str]:
    return bits("self", "CapEff")


# --- namespaces -------------------------------------------------------------------------------------------------------


def test_every_namespace_is_new() -> None:
    with living() as c, living() as d:
        for kind in KINDS:
            assert len({namespace(c.pid, kind), namespace(d.pid, kind), namespace("self", kind)}) == 3, kind
        assert namespace(c.pid, "user") == namespace("self", "user")


@pytest.mark.parametrize(
    ("option", "kind"),
    [("network", "net"), ("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("cgroupns", "cgroup")],
)
def test_a_namespace_is_the_hosts_when_asked(option: str, kind: str) -> None:
    with living(**{option: "host"}) as c:
        shared = {k for k in KINDS if namespace(c.pid, k) == namespace("self", k)}
    assert shared == {kind}


def test_the_first_process_is_number_one_and_sees_no_other() -> None:
    assert sh("echo $$; echo /proc/[0-9]*").split() == ["1", "/proc/1"]


def test_with_pid_host_the_hosts_processes_are_visible() -> None:
    assert sh(f"cat /proc/{os.getpid()}/stat", pid="host").split()[0] == str(os.getpid())


def test_everything_ends_with_the_first_process_in_the_hosts_pid_namespace() -> None:
    out = sh("sleep 600 >/dev/null 2>&1 & echo $!", pid="host")
    until(lambda: not runs(int(out)), "the child left behind is killed")


def test_without_network_there_is_only_loopback_and_it_is_up() -> None:
    lines = sh("cat /proc/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]
    source = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()); print('up')"
    assert py(source) == "up\n"


def test_the_cgroup_namespace_begins_at_the_containers_cgroup() -> None:
    for line in sh("cat /proc/self/cgroup", memory="64m", pids=64).splitlines():
        name = line.split(":")[1]
        if name in ("memory", "pids", "blkio", "cpuacct", "devices"):
            assert line.endswith(":/"), line


# --- capabilities, seccomp --------------------------------------------------------------------------------------------


def test_the_default_capabilities_are_dockers_fourteen() -> None:
    assert len(capabilities.DEFAULT) == 14
    with living() as c:
        for which in ("CapBnd", "CapPrm", "CapEff"):
            assert bits(c.pid, which) == capabilities.DEFAULT & own(), which
        assert bits(c.pid, "CapInh") == bits(c.pid, "CapAmb") == frozenset()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cap_drop": ["ALL"]}, frozenset()),
        ({"cap_drop": ["ALL"], "cap_add": ["chown", "CAP_NET_RAW"]}, frozenset({"CAP_CHOWN", "CAP_NET_RAW"})),
        ({"cap_drop": ["MKNOD", "NET_RAW"]}, capabilities.DEFAULT - {"CAP_MKNOD", "CAP_NET_RAW"}),
        ({"cap_add": ["SYS_PTRACE"]}, capabilities.DEFAULT | {"CAP_SYS_PTRACE"}),
        ({"cap_add": ["ALL"]}, frozenset(capabilities.CAPABILITIES)),
        ({"cap_add": ["ALL"], "cap_drop": ["SYS_ADMIN"]}, frozenset(capabilities.CAPABILITIES) - {"CAP_SYS_ADMIN"}),
        ({"privileged": True}, frozenset(capabilities.CAPABILITIES)),
    ],
)
def test_capabilities_as_asked(options: dict[str, Any], expected: frozenset[str]) -> None:
    with living(**options) as c:
        assert bits(c.pid, "CapEff") == bits(c.pid, "CapPrm") == bits(c.pid, "CapBnd") == expected & own()
        assert bits(c.pid, "CapInh") == frozenset()


def test_another_user_than_root_has_no_effective_capability() -> None:
    with living(user="1000", cap_add=["SYS_PTRACE"]) as c:
        for which in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert bits(c.pid, which) == frozenset(), which
        assert bits(c.pid, "CapBnd") == (capabilities.DEFAULT | {"CAP_SYS_PTRACE"}) & own()


def test_a_capability_that_we_lack_ourselves_is_refused() -> None:
    lacking = sorted(set(capabilities.CAPABILITIES) - own())
    if not lacking:
        pytest.skip("this process has every capability")
    message = refused(Unsupported, cap_add=[lacking[0]])
    assert message.startswith(f"cannot add {lacking[0]}: this process does not have it itself")


def test_seccomp_filters_unless_unconfined_or_privileged() -> None:
    for options, mode in (({}, "2"), ({"seccomp": "unconfined"}, "0"), ({"privileged": True}, "0")):
        with living(**options) as c:
            assert status(c.pid)["Seccomp"] == mode, options


@pytest.mark.parametrize("no_new_privileges", [True, False])
@pytest.mark.parametrize("user", ["0", "1000"])
def test_no_new_privs_as_asked_and_filtered_either_way(no_new_privileges: bool, user: str) -> None:
    with living(no_new_privileges=no_new_privileges, user=user) as c:
        found = status(c.pid)
    assert found["NoNewPrivs"] == str(int(no_new_privileges))
    assert found["Seccomp"] == "2"


def test_a_profile_of_ones_own_is_loaded(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}'
    )
    assert "No space left on device" in fails("mkdir /tmp/x", seccomp=str(profile))


@pytest.mark.parametrize("user", ["0", "1000"])
@pytest.mark.parametrize(
    "call",
    [
        "libc.mount(b'x', b'/mnt', b'tmpfs', 0, None)",
        "libc.umount2(b'/proc/keys', 2)",
        "libc.unshare(0x00020000)",
        "libc.unshare(0x10000000)",
        "libc.syscall(155, b'.', b'.')",  # pivot_root
        "libc.syscall(321, 0, 0, 0)",  # bpf
        "libc.syscall(304, 0, 0, 0)",  # open_by_handle_at
        "libc.syscall(246, 0, 0, 0, 0)",  # kexec_load
        "libc.reboot(0xfee1dead)",
        "libc.sethostname(b'x', 1)",
        "libc.setns(os.open('/proc/self/ns/mnt', 0), 0)",
        "libc.swapon(b'/x', 0)",
    ],
)
def test_what_reaches_beyond_the_container_is_not_permitted(call: str, user: str) -> None:
    source = f"import ctypes, os; libc = ctypes.CDLL(None, use_errno=True); r = {call}; print(r, ctypes.get_errno())"
    assert py(source, user=user) == "-1 1\n"


# --- covered paths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"])
def test_masked_files_say_nothing(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    assert sh(f"test -e {path}; wc -c <{path}").strip() == "0"


@pytest.mark.parametrize("path", ["/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"])
def test_masked_directories_are_empty_and_read_only(path: str) -> None:
    if not os.path.isdir(path):
        pytest.skip(f"this kernel has no {path}")
    assert sh(f"ls -A {path}") == ""
    assert "Read-only" in fails(f"touch {path}/x")


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/core_pattern", "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"]
)  # fmt: skip
def test_kernel_settings_cannot_be_written(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    assert "Read-only file system" in fails(f"echo 0 >{path}")


def test_sys_is_read_only_and_a_remount_is_refused() -> None:
    with living() as c:
        assert "ro" in mounts(c.pid)["/sys"][2]
    assert "Read-only file system" in fails("echo 0 >/sys/kernel/mm/ksm/run")
    source = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); print(libc.mount(None, b'/sys', None, 32, None), ctypes.get_errno())"
    assert py(source) == "-1 1\n"


def test_privileged_covers_nothing() -> None:
    with living(privileged=True) as c:
        table = mounts(c.pid)
    assert "/proc/keys" not in table
    assert "/proc/sys" not in table
    assert "rw" in table["/sys"][2] and "ro" not in table["/sys"][2]


def test_what_covers_is_a_null_device_or_an_empty_directory_of_our_own() -> None:
    with living() as c:
        for at, (root, kind, options) in mounts(c.pid).items():
            if at.startswith("/proc/") and kind == "tmpfs":
                assert root in ("/null", "/empty"), at
                assert {"nosuid", "noexec"} <= options, at


def test_every_mount_is_private_to_the_container() -> None:
    with living() as c:
        for at, (_, _, options) in mounts(c.pid).items():
            assert not any(o.startswith(("shared:", "master:")) for o in options), at


# --- the host's files -------------------------------------------------------------------------------------------------

CHROOT_ESCAPE = """
import os
os.mkdir('/tmp/d')
fd = os.open('/', os.O_RDONLY)
os.chroot('/tmp/d')
os.fchdir(fd)
for _ in range(100): os.chdir('..')
os.chroot('.')
print(sorted(os.listdir('/')))
print(os.path.exists({path!r}))
"""


def test_the_classic_chroot_escape_finds_the_container_or_nothing(tmp_path: Path) -> None:
    with canary(tmp_path / "canary") as kept:
        names, seen = py(CHROOT_ESCAPE.format(path=str(kept))).splitlines()
    inside = sh("ls -A /").split()
    assert eval(names) in ([], sorted(inside))
    assert seen == "False"


def test_nor_does_it_with_privileges(tmp_path: Path) -> None:
    with canary(tmp_path / "canary") as kept:
        assert py(CHROOT_ESCAPE.format(path=str(kept)), privileged=True).splitlines()[1] == "False"


def test_proc_links_to_roots_lead_to_the_container(tmp_path: Path) -> None:
    with canary(tmp_path / "canary") as kept:
        for link in ("/proc/1/root", "/proc/self/root", "/proc/1/cwd", "/proc/self/cwd"):
            r = pycontain.run("host", ["sh", "-c", f"ls {link}/{kept} {link}/../../../..{kept}"])
            assert r.exit_code != 0 and r.stdout == b"", link


def test_the_mount_table_names_nothing_below_the_container() -> None:
    with living() as c:
        table = mounts(c.pid)
    assert all(at.startswith(("/dev/", "/proc", "/sys")) or at == "/" for at in table), table
    assert [kind for at, (_, kind, _) in table.items() if at == "/"] == ["overlay"]


def test_only_the_standard_streams_are_open() -> None:
    inherited = os.open("/", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        assert py("import os; print([f for f in range(256) if os.path.lexists(f'/proc/1/fd/{f}')])") == "[0, 1, 2]\n"
    finally:
        os.close(inherited)


@pytest.mark.parametrize("prefix", ["/proc/self/fd/", "/proc/1/fd/", "/dev/fd/", "/tmp/../proc/self/fd/"])
def test_a_working_directory_by_descriptor_is_refused(prefix: str) -> None:
    """2024-21626."""
    for fd in (*range(3, 14), 20, 100):
        message = refused(SetupFailed, workdir=f"{prefix}{fd}")
        assert f"{prefix}{fd}" in message and "(E" in message


def test_an_absolute_working_directory_only() -> None:
    assert "it is not an absolute path" in refused(InvalidArgument, workdir="tmp")


def test_mknod_of_a_disk_gives_no_access() -> None:
    disk = next((p for p in Path("/dev").iterdir() if p.is_block_device()), None)
    if disk is None:
        pytest.skip("this host has no block device")
    number = disk.stat().st_rdev
    said = fails(f"mknod /tmp/disk b {os.major(number)} {os.minor(number)} && head -c 1 /tmp/disk")
    assert "Operation not permitted" in said and "head" in said


def test_the_devices_are_dockers() -> None:
    lines = sh("stat -c '%n %a %t:%T' /dev/*").splitlines()
    nodes = {n: (mode, dev) for n, mode, dev in (line.split() for line in lines) if dev != "0:0"}
    assert nodes == {
        f"/dev/{name}": ("666", dev)
        for name, dev in (("full", "1:7"), ("null", "1:3"), ("random", "1:8"), ("tty", "5:0"), ("urandom", "1:9"), ("zero", "1:5"))
    }  # fmt: skip


# --- the image "host" -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/home", "/root", "/tmp", "/run", "/srv", "/mnt", "/boot", "/var/tmp"])
def test_the_host_image_shows_an_empty_directory(path: str) -> None:
    if not os.path.isdir(path):
        pytest.skip(f"this host has no {path}")
    assert sh(f"ls -A {path}") == ""


def test_the_host_image_has_no_secrets(roots: Roots) -> None:
    keys = [str(p) for p in Path("/etc/ssh").glob("ssh_host_*_key")]
    for path in ("/etc/shadow", "/etc/gshadow", *keys):
        assert "No such file" in fails(f"cat {path}"), path
    assert sh(f"ls -A {roots.data_root} 2>/dev/null || true") == ""


def test_writes_in_the_host_image_stay_inside() -> None:
    before = {p: os.stat(p) for p in ("/etc", "/etc/passwd", "/usr/bin", "/")}
    name = f"pycontain-test-{os.getpid()}"
    sh(
        f"echo x >>/etc/passwd; chmod 600 /etc/group; touch /{name} /usr/bin/{name}; rm -rf /usr/share; mkdir /opt/{name}"
    )
    for path, was in before.items():
        now = os.stat(path)
        assert (now.st_mtime_ns, now.st_size, now.st_ctime_ns) == (was.st_mtime_ns, was.st_size, was.st_ctime_ns), path
    assert not os.path.exists(f"/{name}") and not os.path.exists(f"/usr/bin/{name}") and os.path.isdir("/usr/share")
    assert stat.S_IMODE(os.stat("/etc/group").st_mode) != 0o600


def test_each_container_begins_with_the_image_as_it_is() -> None:
    sh("touch /etc/left-behind")
    assert "No such file" in fails("cat /etc/left-behind")


def test_the_secret_is_the_one_looked_for(tmp_path: Path) -> None:
    """A look-up that works outside: the tests above do not pass for a wrong path."""
    with canary(tmp_path / "canary") as kept:
        assert sh(f"cat {kept}/secret", mounts=[pycontain.bind(str(kept), str(kept), read_only=True)]) == SECRET
