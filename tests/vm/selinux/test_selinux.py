"""SELinux with a policy that is enforced: what a label does to a container and to what is mounted in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from bundles import bundle, user_namespace

import pycontain
from pycontain import doctor
from pycontain.errors import NotExecutable, SetupFailed
from pycontain.host import probe
from pycontain.runtime.roots import Roots
from tests.vm.guest.conftest import DATA, RUN

BOX = "system_u:system_r:container_t:s0"
FILES = "system_u:object_r:container_file_t:s0:c1,c2"  # a label of categories has a comma
LOOK = ["cat", "/proc/self/attr/current", "/etc/open", "/etc/secret"]

WAYS: dict[str, dict[str, Any]] = {
    "root": {}, "user": {"user": "1000"}, "init": {"init": True}, "user namespace": {"userns": "auto"},
    "privileged": {"privileged": True},
}  # fmt: skip


def test_without_a_label_it_has_that_of_who_started_it(root: str) -> None:
    r = pycontain.run(root, LOOK, text=True)
    assert (r.exit_code, r.stdout) == (0, "system_u:system_r:kernel_t:s0\0open\nsecret\n")


@pytest.mark.parametrize("way", WAYS)
def test_a_label_confines_the_program(root: str, way: str) -> None:
    r = pycontain.run(root, LOOK, selinux_label=BOX, text=True, **WAYS[way])
    assert (r.exit_code, r.stdout) == (1, f"{BOX}\0open\n"), r.stderr
    assert "/etc/secret': Permission denied" in str(r.stderr)


@pytest.mark.parametrize("changes", [{}, user_namespace()], ids=["root", "user namespace"])
def test_a_label_confines_a_bundle(root: str, changes: dict[str, Any]) -> None:
    label = f"{BOX}:c1,c2"
    with bundle(root, "", {"process.selinuxLabel": label, "process.args": LOOK, **changes}) as image:
        r = pycontain.run(image, text=True)
    assert (r.exit_code, r.stdout) == (1, f"{label}\0open\n"), r.stderr


def test_a_label_that_the_policy_does_not_know(root: str) -> None:
    with pytest.raises(SetupFailed) as caught:
        pycontain.run(root, ["true"], selinux_label="system_u:system_r:no_such_t:s0")
    assert "SELinux label 'system_u:system_r:no_such_t:s0': the policy that is loaded knows no such label" in str(
        caught.value
    )
    assert (caught.value.step, caught.value.errno) == ("exec label", 22) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"selinux_label": "system_u:system_r:locked_t:s0"},
            "the policy that is loaded does not let it enter the label",
        ),
        ({"selinux_label": BOX, "no_new_privileges": True}, "no_new_privs: the policy must allow nnp_transition"),
    ],
)
def test_a_label_that_may_not_be_entered(root: str, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(NotExecutable) as caught:
        pycontain.run(root, ["true"], **asked)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def label_of(path: str) -> str:
    return os.getxattr(path, "security.selinux").decode().rstrip("\0")


OVERLAY = Path("/var/lib/pct-overlay")
MOUNTS: dict[str, tuple[dict[str, Any], str]] = {
    "tmpfs": ({}, FILES),
    "tmpfs with a mode": ({"options": ["mode=700", "size=64k"]}, FILES),
    "copied up": ({"destination": "/etc", "options": ["tmpcopyup"]}, FILES),
    "devpts": ({"type": "devpts", "options": ["newinstance", "ptmxmode=0666"]}, FILES),
    "ramfs": ({"type": "ramfs"}, FILES),
    "overlay": ({"type": "overlay", "options": [f"{k}dir={OVERLAY}/{k}" for k in ("lower", "upper", "work")]}, FILES),
    # one superblock for all, or the kernel's own: what the policy says
    "mqueue": ({"type": "mqueue"}, "system_u:object_r:fs_t:s0"),
    "cgroup2": ({"type": "cgroup2"}, "system_u:object_r:fs_t:s0"),
    "sysfs": ({"type": "sysfs"}, "system_u:object_r:fs_t:s0"),
}


@pytest.mark.parametrize("kind", MOUNTS)
def test_the_mount_label_is_on_what_is_mounted(root: str, kind: str) -> None:
    for name in ("lower", "upper", "work"):
        (OVERLAY / name).mkdir(parents=True, exist_ok=True)
    asked, label = MOUNTS[kind]
    mount = {"destination": "/m", "type": "tmpfs", "source": "none", **asked}
    with (
        bundle(root, "sleep 1000", {"linux.mountLabel": FILES, "mounts[3]": mount}) as image,
        pycontain.Container(image, stop_timeout=0.0) as c,
    ):
        inside = f"/proc/{c.pid}/root"
        assert label_of(f"{inside}{mount['destination']}") == label
        assert label_of(f"{inside}/tmp") == label_of(f"{inside}/dev/null") == FILES
        assert label_of(f"{inside}/bin/busybox") == "system_u:object_r:container_file_t:s0"


def test_a_mount_label_that_the_policy_does_not_know(root: str) -> None:
    with bundle(root, "true", {"linux.mountLabel": "a:b:c:s0"}) as image, pytest.raises(SetupFailed) as caught:
        pycontain.run(image)
    assert "mount tmpfs on /dev: the policy that is loaded knows no label a:b:c:s0" in str(caught.value)


def test_doctor_tells() -> None:
    assert "selinux" in probe(fresh=True).lsms and "apparmor" not in probe().lsms
    text, _ = doctor.report("text", Roots(data_root=DATA, run_root=RUN))
    (line,) = [line for line in text.splitlines() if "SELinux is" in line]
    assert line.startswith("  ok") and "enforcing: --security-opt label=type:TYPE works" in line
    with pytest.raises(pycontain.Unsupported, match="without apparmor"):
        pycontain.run("host", ["true"], apparmor="some")
