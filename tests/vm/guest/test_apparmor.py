"""AppArmor, which this kernel has on: what a loaded profile does to a container, and what is said when there is none."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from bundles import bundle, user_namespace

import pycontain
from pycontain import doctor
from pycontain.errors import SetupFailed
from pycontain.host import probe
from pycontain.runtime.roots import Roots
from tests.vm.guest.conftest import DATA, RUN

ENABLED = Path("/sys/module/apparmor/parameters/enabled")
ENGINE = "file, capability, network, mount, umount, pivot_root, signal, ptrace, unix,"  # not: change_profile
PROFILES = f"""
profile pct-box flags=(attach_disconnected, mediate_deleted) {{
  file,
  capability,
  network,
  signal,
  deny /etc/secret r,
}}
# nothing may be executed under it: whoever is, was put there by the execve before
profile pct-tight flags=(attach_disconnected, mediate_deleted) {{
  /** rm,
  capability,
}}
profile pct-engine flags=(attach_disconnected, mediate_deleted) {{ {ENGINE} }}
"""
LOOK = ["cat", "/proc/self/attr/current", "/etc/secret"]


@pytest.fixture(scope="module", autouse=True)
def profiles() -> None:
    assert ENABLED.read_text() == "Y\n"
    if not Path("/sys/kernel/security/apparmor").is_dir():
        subprocess.run(["mount", "-t", "securityfs", "securityfs", "/sys/kernel/security"], check=True)
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache"], input=PROFILES.encode(), check=True)


@pytest.fixture(scope="module")
def root() -> str:
    """On the disk: this kernel cannot translate the owners of a tmpfs."""
    made = Path("/var/lib/pct-apparmor")
    for name in ("bin", "etc"):
        (made / name).mkdir(parents=True)
    (made / "bin/busybox").write_bytes(Path("/usr/bin/busybox").read_bytes())
    (made / "bin/busybox").chmod(0o755)
    for name in ("sh", "cat", "true"):
        (made / "bin" / name).symlink_to("busybox")
    (made / "etc/secret").write_text("secret\n")
    return str(made)


WAYS: dict[str, dict[str, Any]] = {
    "root": {}, "user": {"user": "1000"}, "no-new-privileges": {"no_new_privileges": True}, "init": {"init": True},
    "user namespace": {"userns": "auto"}, "privileged": {"privileged": True},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_profile_confines_the_program(root: str, way: str) -> None:
    r = pycontain.run(root, LOOK, apparmor="pct-box", text=True, **WAYS[way])
    assert (r.exit_code, r.stdout) == (1, "pct-box (enforce)\n"), r.stderr
    assert "/etc/secret': Permission denied" in str(r.stderr)


def test_without_one_it_is_as_free_as_who_started_it(root: str) -> None:
    asked: tuple[dict[str, Any], ...] = ({}, {"apparmor": "unconfined"})
    for options in asked:
        r = pycontain.run(root, LOOK, text=True, **options)
        assert (r.exit_code, r.stdout) == (0, "unconfined\nsecret\n")


BUNDLES: dict[str, dict[str, Any]] = {
    "root": {}, "user": {"process.user.uid": 1000, "process.noNewPrivileges": True}, "user namespace": user_namespace(),
}  # fmt: skip


@pytest.mark.parametrize("way", BUNDLES)
def test_a_profile_confines_a_bundle(root: str, way: str) -> None:
    changes = {"process.apparmorProfile": "pct-box", "process.args": LOOK, **BUNDLES[way]}
    with bundle(root, "", changes) as image:
        r = pycontain.run(image, text=True)
    assert (r.exit_code, r.stdout) == (1, "pct-box (enforce)\n"), r.stderr


@pytest.mark.parametrize("way", BUNDLES)
def test_the_profile_is_for_the_program_and_not_for_its_start(root: str, way: str) -> None:
    """Neither the stub that executes it, nor the execve that does, is the profile's matter."""
    changes = {"process.apparmorProfile": "pct-tight", "process.args": LOOK, **BUNDLES[way]}
    with bundle(root, "", changes) as image:
        r = pycontain.run(image, text=True)
    assert (r.exit_code, r.stdout) == (0, "pct-tight (enforce)\nsecret\n"), r.stderr
    script = {**changes, "process.args": ["sh", "-c", "cat /etc/secret; /bin/cat /etc/secret"]}
    with bundle(root, "", script) as image:
        r = pycontain.run(image, text=True)
    assert r.stdout == "" and "Permission denied" in str(r.stderr)


def test_a_hook_before_the_program_is_confined_as_it_is(root: str) -> None:
    script = "read -r label </proc/self/attr/current; read -r secret </etc/secret && exit 1; echo $label; exit 2"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
    changes = {"process.apparmorProfile": "pct-box", "hooks.startContainer": [hook]}
    with bundle(root, "true", changes) as image, pytest.raises(SetupFailed) as caught:
        pycontain.run(image)
    assert str(caught.value) == "hooks.startContainer[0]: /bin/sh failed with status 2: pct-box (enforce)"


def test_a_profile_that_is_not_loaded(root: str) -> None:
    words = "AppArmor profile 'pct-none': no such profile is loaded (ENOENT). Load it with apparmor_parser"
    with pytest.raises(SetupFailed) as caught:
        pycontain.run(root, ["true"], apparmor="pct-none")
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert (caught.value.step, caught.value.errno) == ("exec label", 2)
    with bundle(root, "true", {"process.apparmorProfile": "pct-none"}) as image, pytest.raises(SetupFailed) as caught:
        pycontain.run(image)
    assert words in str(caught.value)


def test_what_is_confined_cannot_confine_otherwise(root: str) -> None:
    """An engine that is itself confined, by a profile that does not allow it to change the profile."""
    code = f"import pycontain; print(pycontain.run({root!r}, ['true'], apparmor='unconfined').exit_code)"
    done = subprocess.run(["aa-exec", "-p", "pct-engine", "--", "python3", "-c", code], capture_output=True, text=True)
    assert "AppArmor profile 'unconfined': the profile that this process is confined by" in done.stderr, done
    assert done.stdout == ""


def test_doctor_tells() -> None:
    assert "apparmor" in probe(fresh=True).lsms
    text, _ = doctor.report("text", Roots(data_root=DATA, run_root=RUN))
    (line,) = [line for line in text.splitlines() if "AppArmor is on" in line]
    assert line.startswith("  ok") and "apparmor=PROFILE works" in line and "profiles are loaded" in line
