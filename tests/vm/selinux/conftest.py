"""Runs inside the VM booted with SELinux (see tests/vm/test_guest.py): a policy of our own is loaded and enforced."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.guest.conftest import nothing_left

__all__ = ["nothing_left", "root"]

POLICY = Path(__file__).with_name("policy.cil")
SELINUX = Path("/sys/fs/selinux")


@pytest.fixture(scope="session", autouse=True)
def policy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    subprocess.run(["mount", "-t", "selinuxfs", "selinuxfs", str(SELINUX)], check=True)
    compiled = tmp_path_factory.mktemp("policy") / "policy.bin"
    version = (SELINUX / "policyvers").read_text()
    subprocess.run(["secilc", "-c", version, "-o", str(compiled), "-f", "/dev/null", str(POLICY)], check=True)
    binary = compiled.read_bytes()
    fd = os.open(SELINUX / "load", os.O_RDWR)
    assert os.write(fd, binary) == len(binary)  # the kernel takes it in one write
    os.close(fd)
    (SELINUX / "enforce").write_text("1")
    yield
    (SELINUX / "enforce").write_text("0")


def labelled(path: Path, kind: str) -> None:
    os.setxattr(path, "security.selinux", f"system_u:object_r:{kind}:s0\0".encode(), follow_symlinks=False)


@pytest.fixture(scope="session")
def root(policy: None) -> str:
    made = Path("/var/lib/pct-selinux")
    for name in ("bin", "etc"):
        (made / name).mkdir(parents=True)
    (made / "bin/busybox").write_bytes(Path("/usr/bin/busybox").read_bytes())
    (made / "bin/busybox").chmod(0o755)
    for name in ("sh", "cat", "sleep", "true"):
        (made / "bin" / name).symlink_to("busybox")
    (made / "etc/open").write_text("open\n")
    (made / "etc/secret").write_text("secret\n")
    for path in (made, *made.rglob("*")):
        labelled(path, "container_file_t")
    labelled(made / "etc/secret", "secret_t")
    return str(made)
