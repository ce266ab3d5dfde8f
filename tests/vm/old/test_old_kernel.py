"""Linux 5.10, the least: no mount_setattr, so attributes are given by mount(2) once a mount is attached; what it cannot do at all
is one error that names it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import bundle, ran, user_namespace

import pycontain
from pycontain import doctor
from pycontain.errors import Unsupported
from pycontain.host import probe
from pycontain.runtime.roots import Roots
from tests.vm.guest.conftest import DATA, RUN

MB = 1 << 20
VOLUME = Path("/srv/volume")


@pytest.fixture(scope="module")
def volume() -> Iterator[str]:
    """A shared mount, as systemd makes them all, with one mount below it and one below that."""
    VOLUME.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "volume", str(VOLUME)], check=True)
    subprocess.run(["mount", "--make-shared", str(VOLUME)], check=True)
    for name in ("sub", "sub/with a space"):
        (VOLUME / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "below", str(VOLUME / name)], check=True)
    yield str(VOLUME)
    subprocess.run(["umount", "-R", str(VOLUME)], check=True)


def test_this_is_that_kernel_and_doctor_tells() -> None:
    facts = probe(fresh=True)
    assert facts.kernel == (5, 10) and not facts.mount_setattr
    text, code = doctor.report("text", Roots(data_root=DATA, run_root=RUN))
    lines = text.splitlines()
    assert code == 0 and "  ok    Linux 5.10" in text
    for words in ("mount_setattr came with Linux 5.12", "overlay in user namespaces came with Linux 5.11"):
        assert any(line.startswith("  note") and words in line for line in lines), words


def test_containers_start_with_their_limits(root: str) -> None:
    r = pycontain.run(root, ["sh", "-c", "echo $$; ls /proc | grep -c '^[0-9]'"], text=True)
    assert (r.exit_code, r.stdout) == (0, "1\n3\n")  # sh, ls, grep
    r = pycontain.run("host", ["python3", "-c", f"bytearray({64 * MB})"], memory=32 * MB, memory_swap=32 * MB)
    assert r.exit_code == 137 and r.oom_killed
    r = pycontain.run(root, ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 9 & done"], pids=4, text=True)
    assert "Resource temporarily unavailable" in str(r.stderr)


def test_a_read_only_root(root: str) -> None:
    script = "touch /x; touch /bin/x; touch /dev/shm/x && echo shm"
    r = pycontain.run(root, ["sh", "-c", script], read_only=True, text=True)
    assert str(r.stderr).count("Read-only file system") == 2 and r.stdout == "shm\n"
    assert "ro" in ran(root, "grep ' / / ' /proc/self/mountinfo || head -1 /proc/self/mountinfo").split()[5].split(",")


@pytest.mark.parametrize("userns", [False, True], ids=["root", "user namespace"])
def test_masked_and_read_only_paths(root: str, userns: bool) -> None:
    changes = {"linux.maskedPaths": ["/proc/keys", "/proc/fs"], "linux.readonlyPaths": ["/proc/sys"]}
    script = "echo 1 >/proc/sys/kernel/sysrq; wc -c </proc/keys; ls /proc/fs"
    with bundle(root, script, changes | (user_namespace() if userns else {})) as image:
        r = pycontain.run(image, text=True)
    assert r.stdout == "0\n" and "Read-only file system" in str(r.stderr)


TOUCH = 'for d in /v /v/sub "/v/sub/with a space"; do touch "$d/x" 2>/dev/null && echo rw || echo ro; done'


@pytest.mark.parametrize(("option", "found"), [("rw", "rw\nrw\nrw\n"), ("ro", "ro\nro\nro\n")])
def test_all_that_is_below_a_volume_is_as_it_is(root: str, volume: str, option: str, found: str) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    r = pycontain.run(
        root, ["sh", "-c", TOUCH], mounts=[pycontain.bind(volume, "/v", read_only=option == "ro")], text=True
    )
    assert r.stdout == found
    assert Path("/proc/self/mountinfo").read_text() == before  # the host's own mounts are as they were


@pytest.mark.parametrize(
    ("words", "found"),
    [(("rbind", "ro"), "ro\nrw\nrw\n"), (("rbind", "rro"), "ro\nro\nro\n"), (("rbind", "rro", "rw"), "rw\nro\nro\n")],
)
def test_recursive_and_other_attributes(root: str, volume: str, words: tuple[str, ...], found: str) -> None:
    mount = {"destination": "/v", "type": "bind", "source": volume, "options": [*words, "nosuid"]}
    assert ran(root, TOUCH, {"root.readonly": False, "mounts[3]": mount}) == found


def test_what_is_mounted_on_a_volume_is_not_on_the_host(root: str, volume: str) -> None:
    bind = {"destination": "/v", "type": "bind", "source": volume, "options": ["rbind"]}
    over = {"destination": "/v/over", "type": "tmpfs", "source": "tmpfs"}
    os.makedirs(f"{volume}/over", exist_ok=True)
    changes = {"root.readonly": False, "mounts[3]": bind, "mounts[4]": over}
    assert ran(root, "touch /v/over/inside; ls /v/over", changes) == "inside\n"
    assert os.listdir(f"{volume}/over") == []


def test_a_slave_sees_what_is_mounted_later(root: str, volume: str) -> None:
    bind = {"destination": "/v", "type": "bind", "source": volume, "options": ["rbind", "rslave"]}
    os.makedirs(f"{volume}/later", exist_ok=True)
    with (
        bundle(root, "sleep 1000", {"root.readonly": False, "mounts[3]": bind}) as image,
        pycontain.Container(image, stop_timeout=0) as c,
    ):
        subprocess.run(["mount", "-t", "tmpfs", "later", f"{volume}/later"], check=True)
        try:
            assert " /v/later " in Path(f"/proc/{c.pid}/mountinfo").read_text()
        finally:
            subprocess.run(["umount", f"{volume}/later"], check=True)


def test_a_bundle_in_a_user_namespace(root: str) -> None:
    assert ran(root, "cat /proc/self/uid_map; id -u", user_namespace()).split() == ["0", "300000", "65536", "0"]


def test_what_it_cannot_do_is_named(root: str, volume: str) -> None:
    with pytest.raises(Unsupported, match=r"overlay on id-mapped layers \(Linux 5\.19\).*Leave out --userns"):
        pycontain.run(root, ["true"], userns="auto")
    map_ = [{"containerID": 0, "hostID": 1000, "size": 10}]
    mount = {"destination": "/v", "type": "bind", "source": volume, "options": ["bind", "idmap"]}
    changes = {"mounts[3]": {**mount, "uidMappings": map_, "gidMappings": map_}}
    with bundle(root, "true", changes) as image, pytest.raises(Unsupported) as caught:
        pycontain.run(image)
    assert "mounts[3]: owners cannot be translated before Linux 5.12, and this kernel is 5.10" in str(caught.value)
