"""Escapes by capabilities and kernel interfaces: file capabilities, sysctls, user namespaces, file handles, keyrings."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attacks import PRELUDE, attack, decoys, evil_image, host_unchanged, settings
from image_cases import LayoutWriter, member, tar
from probes import SECRET, living, refused, sh, status

import pycontain
from pycontain import capabilities
from pycontain.errors import InvalidArgument, SetupFailed

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]


@pytest.fixture
def image(tmp_path: Path, busybox_root: str) -> Path:
    return evil_image(tmp_path / "image", busybox_root)


# --- file capabilities -------------------------------------------------------------------------------------------------


def file_capabilities(permitted: str = "", inheritable: str = "", effective: bool = True) -> bytes:
    """The value of security.capability (VFS_CAP_REVISION_2)."""
    p, i = capabilities.mask(frozenset(permitted.split())), capabilities.mask(frozenset(inheritable.split()))
    low, high = 0xFFFFFFFF, 32
    return struct.pack("<5I", 0x02000000 | effective, p & low, i & low, p >> high, i >> high)


def with_capabilities(image: Path, value: bytes) -> str:
    """A copy of busybox with file capabilities: the program's path inside."""
    shutil.copy(image / "bin/busybox", image / "bin/busybox-powerful")
    os.setxattr(image / "bin/busybox-powerful", "security.capability", value)
    return "/bin/busybox-powerful"


def gained(image: Path, value: bytes, **options: Any) -> frozenset[str] | str:
    """The capabilities with which such a program runs, or why it does not."""
    program = with_capabilities(image, value)
    said = sh(f"{program} grep CapEff /proc/self/status || echo refused", image=str(image), **options).split()
    return "refused" if said[-1] == "refused" else frozenset(capabilities.names(int(said[-1], 16)))


RAW, ADMIN = "CAP_NET_RAW", "CAP_SYS_ADMIN"


def test_cve_2022_24769_file_capabilities_bring_nothing_back(image: Path) -> None:
    """Dropped ones, and those that the default set lacks; permitted, inheritable, both."""
    user = {"user": "1000"}
    assert gained(image, file_capabilities(inheritable=RAW), **user) == frozenset()  # CapInh is empty
    assert gained(image, file_capabilities(inheritable=f"{RAW} {ADMIN}"), **user) == frozenset()
    assert gained(image, file_capabilities(permitted=ADMIN), **user) == "refused"
    assert gained(image, file_capabilities(permitted=ADMIN, effective=False), **user) == frozenset()
    for options in ({"cap_drop": ["ALL"]}, {"cap_drop": ["NET_RAW"]}):
        assert gained(image, file_capabilities(permitted=RAW, inheritable=RAW), **user, **options) == "refused"
    root = gained(image, file_capabilities(permitted=RAW, inheritable=RAW), cap_drop=["NET_RAW"])
    assert root == "refused" or RAW not in root
    assert gained(image, file_capabilities(permitted=RAW), **user, no_new_privileges=True) == frozenset()


def test_cve_2022_24769_the_file_capability_works_where_it_may(image: Path) -> None:
    assert gained(image, file_capabilities(permitted=RAW), user="1000") == frozenset({RAW})


@pytest.mark.parametrize(
    "options", [{}, {"user": "1000"}, {"privileged": True}, {"cap_add": ["ALL"]}, {"init": True}, {"pid": "host"}]
)
def test_cve_2022_29162_2025_27612_no_capability_is_inheritable(options: dict[str, Any]) -> None:
    with living(**options) as c:
        found = status(c.pid)
    assert (found["CapInh"], found["CapAmb"]) == ("0" * 16, "0" * 16)
    assert set(sh("grep -h -e CapInh -e CapAmb /proc/[0-9]*/status | cut -f 2", init=True).split()) == {"0" * 16}


def test_cve_2022_24769_file_capabilities_of_a_layer(tmp_path: Path, busybox_root: str) -> None:
    """The same by a tar: the attribute is kept, for images need it, and limited by the bounding set."""
    busybox = (Path(busybox_root) / "bin/busybox").read_bytes()
    value = file_capabilities(permitted=f"{RAW} {ADMIN}", effective=False).decode("latin-1")
    headers = {"SCHILY.xattr.security.capability": value, "SCHILY.xattr.trusted.overlay.redirect": "/etc"}
    layer = tar(member("busybox", data=busybox, mode=0o755, pax_headers=headers))
    writer = LayoutWriter(tmp_path / "layout")
    layout = writer.finish(writer.manifest(layer, config={"User": "1000"}))
    r = pycontain.run(f"oci:{layout}", ["/busybox", "grep", "CapPrm", "/proc/self/status"], text=True)
    assert set(capabilities.names(int(str(r.stdout).split()[-1], 16))) <= {RAW}


# --- sysctls -----------------------------------------------------------------------------------------------------------

INJECTED = {
    "kernel.shm_rmid_forced": "1+kernel.core_pattern=|/evil",
    "net.ipv4.ip_forward": "1\nkernel.core_pattern=|/evil",
    "kernel.shm_rmid_forced+kernel.core_pattern": "|/evil",
    "net.ipv4.ip_forward=1+kernel.core_pattern": "|/evil",
    "kernel.shm_rmid_forced\nkernel.core_pattern": "|/evil",
}
FOREIGN = (
    "kernel.core_pattern", "kernel.modprobe", "kernel.sysrq", "kernel.hostname", "kernel.pid_max", "vm.overcommit_memory",
    "fs.suid_dumpable", "user.max_user_namespaces", "dev.tty.legacy_tiocsti", "kernel.unprivileged_bpf_disabled",
)  # fmt: skip
ELSEWHERE = (
    "net/../kernel/core_pattern", "net.../kernel.core_pattern", "net..kernel.core_pattern", "net./../kernel/core_pattern",
    "fs.mqueue.../../kernel/core_pattern", "fs.mqueue./core_pattern", "net.ipv4/../../kernel/core_pattern", "net.\0", "net. x",
    "kernel.msgmax/../core_pattern", "/proc/sys/kernel/core_pattern", "kernel/core_pattern", "net.ipv4.ip_forward ", ".net.x", "net.",
    "KERNEL.core_pattern", "kernel.core_pattern#net.x", "net.\u2024\u2024.kernel",
)  # fmt: skip


def test_cve_2022_0811_sysctl_injection_is_refused() -> None:
    with host_unchanged():
        for name in (*FOREIGN, *ELSEWHERE):
            message = refused(InvalidArgument, sysctls={name: "|/evil"})
            assert "sysctl" in message, name
        for name, value in INJECTED.items():
            try:
                pycontain.run("host", ["true"], sysctls={name: value})
            except InvalidArgument:
                continue
            except SetupFailed as e:  # one value, written as a whole to the one file
                assert "(EINVAL)" in str(e) and name.replace(".", "/") in str(e)
                continue
            raise AssertionError(f"it started with {name}={value!r}")


def test_cve_2022_0811_the_hosts_namespaces_have_no_sysctls_of_a_container() -> None:
    with host_unchanged():
        for name, namespace in (("net.ipv4.ip_forward", "network"), ("kernel.msgmax", "ipc")):
            options: dict[str, Any] = {namespace: "host", "sysctls": {name: "7"}}
            assert "would change the host" in refused(InvalidArgument, **options)


def test_cve_2022_0811_a_setting_of_the_container_does_not_reach_the_host() -> None:
    before = settings()
    asked = {"kernel.msgmax": "4242", "net.ipv4.ip_forward": "1", "net.core.somaxconn": "77", "fs.mqueue.msg_max": "11"}
    assert sh("cat /proc/sys/kernel/msgmax", sysctls=asked) == "4242\n"
    assert settings() == before


# --- namespaces made inside --------------------------------------------------------------------------------------------

NEW_NAMESPACES = """
def forked(*call):
    pid = libc.syscall(*map(ctypes.c_long, call))
    if pid == 0: os._exit(0)
    if pid < 0: return why(ctypes.get_errno())
    os.waitpid(pid, 0)
    return 'ok'
answers = {}
for name, flag in NEW.items():
    answers['unshare ' + name] = in_child(lambda: sys_(272, flag))
    answers['unshare user+' + name] = in_child(lambda: sys_(272, flag | NEW['user']))
    if name != 'time': answers['clone ' + name] = in_child(lambda: forked(56, flag | 17, 0, 0, 0, 0))
args = (ctypes.c_uint64 * 8)(NEW['user'], 0, 0, 0, 17)
answers['clone3'] = in_child(lambda: forked(435, ctypes.addressof(args), 64))
say(answers)
"""


@pytest.mark.parametrize(
    "options", [{}, {"user": "1000"}, {"no_new_privileges": True}, {"cap_add": ["NET_ADMIN", "SYS_PTRACE"]}]
)
def test_no_namespace_can_be_made_inside(options: dict[str, Any]) -> None:
    """A user namespace would give every capability over whatever the kernel lets it touch: half of all kernel exploits."""
    answers = attack(NEW_NAMESPACES, **options)
    assert answers.pop("clone3") == "ENOSYS"
    assert set(answers.values()) == {"EPERM"}, answers


def test_without_a_filter_user_namespaces_can_be_made() -> None:
    answers = attack(NEW_NAMESPACES, seccomp="unconfined", user="1000")
    assert answers["unshare user"] == answers["clone user"] == answers["unshare user+mnt"] == "ok"
    assert answers["unshare mnt"] == "EPERM"


# --- file handles ------------------------------------------------------------------------------------------------------

# "Shocker": a handle can be guessed, and opens what no path leads to. Here it is told, which is easier still.
SHOCKER = """
class Handle(ctypes.Structure): _fields_ = [('bytes', ctypes.c_uint), ('type', ctypes.c_int), ('data', ctypes.c_ubyte * 128)]
def told(hexed):
    data = bytes.fromhex(hexed)
    h = Handle(len(data) - 4, int.from_bytes(data[:4], 'little', signed=True))
    h.data[:len(data) - 4] = data[4:]
    return h
answers = {}
for at in ('/b', '/', '/etc/hosts', '/tmp'):
    h = told(HANDLE)
    fd = libc.syscall(304, os.open(at, os.O_RDONLY), ctypes.byref(h), os.O_RDONLY)
    answers[at] = os.pread(fd, 64, 0).decode() if fd >= 0 else why(ctypes.get_errno())
say(answers)
"""


def handle_of(path: Path) -> str:
    """The kernel's handle of a file: type and bytes, as hexadecimal digits."""
    source = PRELUDE + SHOCKER.split("def told")[0] + (
        "h, m = Handle(128, 0), ctypes.c_int()\n"
        "assert libc.syscall(303, -100, sys.argv[1].encode(), ctypes.byref(h), ctypes.byref(m), 0) == 0\n"
        "print(h.type.to_bytes(4, 'little').hex() + bytes(h.data[:h.bytes]).hex())"
    )  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", source, str(path)], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_file_handle_opens_nothing_of_the_host(base: str) -> None:
    """Shocker, by a volume on the same file system; with the filter, without it, with the filter's condition alone."""
    outside, volume = Path(base) / "outside", Path(base) / "volume"
    volume.mkdir(exist_ok=True)
    with decoys(outside) as kept:
        source = f"HANDLE = {handle_of(kept / 'secret')!r}\n" + SHOCKER
        mounts = [pycontain.bind(str(volume), "/b")]
        for options in ({}, {"seccomp": "unconfined"}, {"cap_add": ["DAC_OVERRIDE"], "seccomp": "unconfined"}):
            answers = attack(source, mounts=mounts, **options)
            assert set(answers.values()) <= {"EPERM", "ESTALE", "EOPNOTSUPP"}, (options, answers)
        stolen = attack(source, mounts=mounts, cap_add=["DAC_READ_SEARCH"])
        assert stolen["/b"] == SECRET  # with the capability that the default set leaves out the attack works
        assert SECRET not in (stolen["/"], stolen["/tmp"])
    shutil.rmtree(outside)


# --- keyrings ----------------------------------------------------------------------------------------------------------

KEYS = """
def read(key):
    buffer = ctypes.create_string_buffer(64)
    n = libc.syscall(ctypes.c_long(250), ctypes.c_long(11), ctypes.c_long(key), buffer, ctypes.c_long(64))
    return buffer.raw[:n].decode() if n >= 0 else why(ctypes.get_errno())
answers = {str(k): read(k) for k in KEYS}
answers['search'] = sys_(250, 10, -3, b'user', b'pycontain-test', 0)
answers['add'] = sys_(248, b'user', b'pycontain-evil', b'x', 1, -4)
answers['request'] = sys_(249, b'user', b'pycontain-test', 0, -3)
answers['join'] = sys_(250, 1, b'pycontain-evil')
say(answers)
"""
# In a process with a session keyring of its own, which then starts containers.
WITH_KEY = """
import ctypes, json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
assert libc.syscall(250, 1, None) > 0
key = libc.syscall(248, b'user', b'pycontain-test', b'secret of the session', 21, ctypes.c_long(-3))
assert key > 0
from attacks import attack
from pycontain.runtime import session
print(json.dumps(attack(f'KEYS = [{key}]\\n' + sys.argv[2], **json.loads(sys.argv[3])) | {'key': str(key)}))
session.close_all()
"""


def keys(**options: Any) -> dict[str, str]:
    """What a container finds of the keys of the process that started it."""
    import json

    argv = [sys.executable, "-c", WITH_KEY, json.dumps([p for p in sys.path if p]), KEYS, json.dumps(options)]
    r = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r.stderr
    answers: dict[str, str] = json.loads(r.stdout)
    answers["stolen"] = answers.pop(answers.pop("key"))
    return answers


@pytest.mark.parametrize("options", [{}, {"user": "1000"}, {"read_only": True}, {"cap_add": ["SYS_ADMIN"]}])
def test_the_keys_of_the_callers_session_are_out_of_reach(options: dict[str, Any]) -> None:
    """Keyrings have no namespace of their own: what is not denied is shared."""
    assert set(keys(**options).values()) == {"EPERM"}


@pytest.mark.parametrize(
    "options", [{"seccomp": "unconfined"}, {"seccomp": "unconfined", "user": "1000"}, {"privileged": True}]
)
def test_a_container_has_a_session_keyring_of_its_own(options: dict[str, Any]) -> None:
    """Without the filter too: keyrings have no namespace, a session keyring is inherited."""
    answers = keys(**options)
    assert (answers["stolen"], answers["search"]) in (("EACCES", "ENOKEY"), ("ENOKEY", "ENOKEY"))
