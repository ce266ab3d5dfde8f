"""Hosts that lack something: nested in containers, masked, filtered, without powers. A start works another way, or it says
in one line what is missing; never a traceback, never a hang. Nothing of this machine is changed: private mount namespaces."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from ordinary_user import CLI, PYTHON, OrdinaryUser, one_line

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

DEADLINE_S = 60.0
OURS = [sys.executable, "-c", CLI]

# A seccomp filter that answers some calls with an errno: the numbers and the program are its arguments.
FILTER = """
import ctypes, os, struct, sys
answer, numbers, program = int(sys.argv[1]), [int(n) for n in sys.argv[2].split(",")], sys.argv[3:]
code = struct.pack("<HBBI", 0x20, 0, 0, 0)  # load the call's number
for i, n in enumerate(numbers):
    code += struct.pack("<HBBI", 0x15, len(numbers) - i, 0, n)
code += struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000) + struct.pack("<HBBI", 6, 0, 0, 0x00050000 | answer)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
if os.environ.get("NO_NEW_PRIVS"):
    libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code))) == 0, ctypes.get_errno()
os.execvp(program[0], program)
"""
CALLS = {
    "clone3": 435,
    "fsopen": 430,
    "open_tree": 428,
    "move_mount": 429,
    "mount_setattr": 442,
    "openat2": 437,
    "close_range": 436,
}
_UNSHARE = {"x86_64": 272, "aarch64": 97}


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=DEADLINE_S)


def where(setting: str, *words: str) -> subprocess.CompletedProcess[str]:
    """pycontain in a mount namespace of its own, after the shell commands ``setting``."""
    return run("unshare", "-m", "--propagation", "private", "sh", "-ec", f'{setting}\nexec "$@"', "sh", *OURS, *words)


def without(*capabilities: str) -> subprocess.CompletedProcess[str]:
    bounding = ",".join(f"-{c}" for c in capabilities)
    return run("setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", *OURS, "run", "host", "true")


def works(done: subprocess.CompletedProcess[str], out: str = "") -> None:
    assert (done.returncode, done.stderr, done.stdout) == (0, "", out)


def doctor(done: subprocess.CompletedProcess[str], word: str) -> str:
    """The one line of the report that has ``word``."""
    assert done.stderr == ""
    (line,) = [each for each in done.stdout.splitlines() if word in each and each.startswith("  ")]
    return line


# --- /proc, /sys, /dev, /run -----------------------------------------------------------------------------------------

_KEYS = "mount --bind /dev/null /proc/keys"
_FIRMWARE = "mount -t tmpfs x /sys/firmware"


def test_a_covered_proc_is_roots_business_only(user: OrdinaryUser) -> None:
    works(where(_KEYS, "run", "host", "true"))
    line = one_line(user.pycontain("run", "host", "true", before=_KEYS))
    assert "mount proc on /proc" in line and "/proc/keys is covered" in line and "--pid host" in line
    works(user.pycontain("run", "--pid", "host", "host", "true", before=_KEYS))
    assert doctor(user.pycontain("doctor", before=_KEYS), "/proc/keys is covered").startswith("  no")


def test_a_covered_sys_and_the_way_that_the_error_names(user: OrdinaryUser) -> None:
    line = one_line(user.pycontain("run", "host", "true", before=_FIRMWARE))
    assert "mount sysfs on /sys" in line and "/sys/firmware is covered" in line and "-v /sys:/sys:ro" in line
    works(user.pycontain("run", "-v", "/sys:/sys:ro", "host", "true", before=_FIRMWARE))
    assert doctor(user.pycontain("doctor", before=_FIRMWARE), "/sys/firmware is covered").startswith("  no")


def test_proc_is_not_mounted(user: OrdinaryUser) -> None:
    assert "/proc is not mounted here" in one_line(where("umount -l /proc", "run", "host", "true"))
    assert "/proc is not mounted here" in one_line(user.pycontain("run", "host", "true", before="umount -l /proc"))
    done = where("umount -l /proc", "doctor")
    assert done.returncode == 1 and done.stderr == "" and "/proc is masked or not mounted" in done.stdout


def test_sys_is_not_mounted(user: OrdinaryUser) -> None:
    line = one_line(user.pycontain("run", "host", "true", before="umount -l /sys"))
    assert "mount -t sysfs sys /sys" in line


def test_dev_is_empty() -> None:
    assert "/dev/null: No such file or directory (ENOENT)" in one_line(
        where("mount -t tmpfs x /dev", "run", "host", "true")
    )


def test_run_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYCONTAIN_RUN_ROOT")
    setting = "mount -t tmpfs -o ro x /run"
    works(where(setting, "run", "host", "true"))  # nothing is needed there, with nothing to reserve
    line = one_line(where(setting, "run", "--name", "web", "host", "true"))
    assert "in the run root /run/pycontain: Read-only file system (EROFS)" in line and "--run-root" in line
    assert "--run-root" in one_line(where(setting, "run", "--userns", "auto", "host", "true"))
    assert doctor(where(setting, "doctor"), "run root /run/pycontain").startswith("  no")


# --- cgroups ---------------------------------------------------------------------------------------------------------

_READ_ONLY = "for d in $(findmnt -rno TARGET -t cgroup,cgroup2); do mount -o remount,ro,bind $d; done"
_NO_CGROUPS = "umount -l /sys/fs/cgroup"


@pytest.mark.parametrize(
    ("setting", "why"),
    [(_READ_ONLY, "is mounted read-only"), (_NO_CGROUPS, "no cgroups are mounted")],
    ids=["read-only", "none"],
)
def test_cgroups_cannot_be_used(setting: str, why: str, user: OrdinaryUser) -> None:
    assert why in one_line(where(setting, "run", "host", "true"))  # no device rules: not silently
    works(where(setting, "run", "--privileged", "host", "true"))
    assert why in one_line(where(setting, "run", "--privileged", "-m", "64m", "host", "true"))
    works(user.pycontain("run", "host", "true", before=setting))
    assert where(setting, "doctor").returncode == 1


# --- powers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sys_admin", "mknod", "sys_chroot", "net_admin", "setpcap"])
def test_root_lacks_a_capability(name: str) -> None:
    assert f"lacks CAP_{name.upper()}" in one_line(without(name))


def test_root_lacks_nothing_that_matters() -> None:
    works(without("sys_resource", "sys_time", "sys_boot"))


def test_no_new_privs_makes_newuidmap_powerless(user: OrdinaryUser) -> None:
    argv = user.argv(["setpriv", "--no-new-privs", PYTHON, "-c", CLI, "run", "host", "true"])
    assert "has set no_new_privs" in one_line(user.run(argv))
    argv = user.argv(["setpriv", "--no-new-privs", PYTHON, "-c", CLI, "doctor"])
    assert doctor(user.run(argv), "no_new_privs is set").startswith("  no")


# --- filters of an outer container -----------------------------------------------------------------------------------


def filtered(answer: int, number: int, *words: str) -> subprocess.CompletedProcess[str]:
    return run(PYTHON, "-c", FILTER, str(answer), str(number), *OURS, *words)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (errno.EPERM, "under a seccomp filter, of an outer container perhaps"),
        (errno.ENOSYS, "lacks a system call that pycontain needs"),
    ],
    ids=["EPERM", "ENOSYS"],
)
def test_a_call_is_forbidden(call: str, answer: int, why: str) -> None:
    assert why in one_line(filtered(answer, CALLS[call], "run", "host", "true"))
    word = "are forbidden here" if answer == errno.EPERM else "do not exist here"
    assert call in doctor(filtered(answer, CALLS[call], "doctor"), f"system calls that {word}")
    works(run(*OURS, "run", "host", "true"))  # and sweeps: without openat2 nothing could be removed


@pytest.mark.parametrize("answer", [errno.EPERM, errno.ENOSYS])
def test_unshare_is_forbidden(answer: int, user: OrdinaryUser) -> None:
    number = _UNSHARE[os.uname().machine]
    assert "build lean mount namespace" in one_line(filtered(answer, number, "run", "host", "true"))
    argv = user.argv([PYTHON, "-c", FILTER, str(answer), str(number), PYTHON, "-c", CLI, "run", "host", "true"])
    line = one_line(user.run(argv, env={"NO_NEW_PRIVS": "1"}))
    assert "cannot make a user namespace as an ordinary user" in line


# --- pycontain in pycontain ------------------------------------------------------------------------------------------

_INNER = (
    "--tmpfs",
    "/data:exec",
    "-e",
    "PYCONTAIN_DATA_ROOT=/data",
    "-e",
    "PYCONTAIN_RUN_ROOT=/data/run",
    "-e",
    "PYTHONPATH=/package",
)


def nested(user: OrdinaryUser, outer: tuple[str, ...], *inner: str) -> subprocess.CompletedProcess[str]:
    package = ("-v", f"{user.directory / 'package'}:/package:ro")
    return run(*OURS, "run", *outer, *_INNER, *package, "host", PYTHON, "-c", CLI, *inner)


def test_in_a_privileged_container(user: OrdinaryUser) -> None:
    works(nested(user, ("--privileged",), "run", "--privileged", "host", "cat", "/proc/sys/kernel/ns_last_pid"), "1\n")


def test_in_a_privileged_container_with_a_user_namespace(user: OrdinaryUser) -> None:
    """An overlay, which the outer one's root is, cannot be id-mapped."""
    line = one_line(nested(user, ("--privileged",), "run", "--privileged", "--userns", "auto", "host", "true"))
    assert "cannot be id-mapped (overlay on overlay" in line and "Leave out --userns" in line


def test_in_a_plain_container(user: OrdinaryUser) -> None:
    assert "root here lacks CAP_SYS_ADMIN" in one_line(nested(user, (), "run", "host", "true"))
    done = nested(user, (), "doctor")
    assert done.returncode == 1 and "root here lacks" in done.stdout and done.stderr == ""


def test_in_an_ordinary_users_container(user: OrdinaryUser) -> None:
    argv = (
        "run",
        "--privileged",
        *_INNER,
        "-v",
        f"{user.directory / 'package'}:/package:ro",
        "host",
        PYTHON,
        "-c",
        CLI,
    )
    works(user.pycontain(*argv, "run", "--privileged", "host", "id", "-u"), "0\n")


# --- user namespaces that others have made ---------------------------------------------------------------------------


def as_root_of(user: OrdinaryUser, *options: str, groups: str = "") -> subprocess.CompletedProcess[str]:
    roots = ("--data-root", f"{user.home}/of-one", "--run-root", f"{user.home}/of-one/run")
    argv = user.argv(["unshare", *options, PYTHON, "-c", CLI, *roots, "run", "host", "cat", "/proc/self/uid_map"])
    if groups:
        argv = [word.replace("--clear-groups", f"--groups {groups}") for word in argv]
    return user.run(argv)


def test_root_of_a_single_id(user: OrdinaryUser) -> None:
    done = as_root_of(user, "--user", "--map-root-user", "--mount")
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["0", str(user.uid), "1"])


def test_root_of_a_single_id_would_keep_the_callers_groups(user: OrdinaryUser) -> None:
    line = one_line(as_root_of(user, "--user", "--map-root-user", "--mount", groups=f"{user.uid},4"))
    assert "forbids setgroups" in line and "`pycontain unshare`" in line


def test_few_ids_have_no_group_for_terminals() -> None:
    words = ("host", "sh", "-c", "tail -1 /proc/self/gid_map; grep devpts /proc/mounts; test -e /dev/pts/ptmx")
    done = run(*OURS, "run", "--userns", "0:500000:3", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[:3] == ["0", "500000", "3"] and "gid=" not in done.stdout


def test_root_without_a_mount_namespace(user: OrdinaryUser) -> None:
    assert "its mount namespace does not belong to" in one_line(as_root_of(user, "--user", "--map-root-user"))
    argv = user.argv(["unshare", "--user", "--map-root-user", PYTHON, "-c", CLI, "doctor"])
    assert "pycontain unshare" in doctor(user.run(argv), "nothing can be mounted")


def test_root_of_a_namespace_has_no_roots_of_its_own(user: OrdinaryUser) -> None:
    argv = user.argv(["unshare", "--user", "--map-root-user", "--mount", PYTHON, "-c", CLI, "run", "host", "true"])
    assert "--data-root that this user may write to" in one_line(user.run(argv))
