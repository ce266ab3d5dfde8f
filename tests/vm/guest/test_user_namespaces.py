"""Kernel 6.1, where a tmpfs cannot be id-mapped and no detached mount be a layer: a container of an ordinary user in a
cgroup that was delegated to him, and root's containers with a user namespace of their own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import pycontain
from pycontain.errors import SetupFailed
from pycontain.host import probe
from tests.vm.guest.conftest import DATA

UID, FIRST = 1000, 100000
HOME, RUNTIME, DELEGATED = Path("/home/u"), Path("/run/user/1000"), Path("/sys/fs/cgroup/user/delegated")
CLI = "from pycontain.cli.entry import console; console()"


def _busybox(directory: Path, owner: int) -> str:
    (directory / "bin").mkdir(parents=True)
    (directory / "bin/busybox").write_bytes(Path("/usr/bin/busybox").read_bytes())
    (directory / "bin/busybox").chmod(0o755)
    for name in ("sh", "id", "cat", "ls", "touch", "stat", "sleep", "readlink", "chown"):
        (directory / "bin" / name).symlink_to("busybox")
    subprocess.run(["chown", "-Rh", f"{owner}:{owner}", str(directory)], check=True)
    return str(directory)


@pytest.fixture(scope="module", autouse=True)
def ordinary_user() -> None:
    """The machine is thrown away afterwards: its files may be changed."""
    for file, line in (
        ("passwd", f"u:x:{UID}:{UID}::{HOME}:/bin/sh"), ("group", f"u:x:{UID}:"), ("subuid", f"u:{FIRST}:65536"),
        ("subgid", f"u:{FIRST}:65536"),
    ):  # fmt: skip
        with open(f"/etc/{file}", "a", encoding="ascii") as f:
            f.write(line + "\n")
    for directory in (HOME, RUNTIME):
        directory.mkdir(parents=True, mode=0o700)
        os.chown(directory, UID, UID)


@pytest.fixture
def delegated() -> Iterator[Path]:
    """As systemd delegates: the directory and three of its files, the controllers handed down to it."""
    DELEGATED.mkdir(parents=True)
    (DELEGATED.parent / "cgroup.subtree_control").write_text("+memory +pids +cpu +io +cpuset")
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(DELEGATED / name, UID, UID)
    yield DELEGATED
    assert (DELEGATED / "cgroup.procs").read_text() == ""
    assert [d.name for d in DELEGATED.iterdir() if d.is_dir()] == []
    DELEGATED.rmdir()
    DELEGATED.parent.rmdir()
    left = HOME / ".local/share/pycontain/ephemeral"
    assert not left.exists() or list(left.iterdir()) == []


@pytest.fixture(scope="module")
def image() -> str:
    return _busybox(HOME / "image", UID)


@pytest.fixture(scope="module")
def root_image() -> str:
    return _busybox(Path("/srv/image"), 0)


def rootless(*words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    script = (
        f"echo $$ > {DELEGATED}/cgroup.procs; cd {HOME}\n"
        f'exec setpriv --reuid {UID} --regid {UID} --clear-groups --inh-caps=-all python3 -c "$0" "$@"'
    )
    env = {**os.environ, "HOME": str(HOME), "XDG_RUNTIME_DIR": str(RUNTIME)}
    return subprocess.run(
        ["sh", "-c", script, CLI, *words], capture_output=True, text=True, check=False, timeout=timeout, env=env
    )


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


# --- an ordinary user ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("delegated")
def test_image_host_and_a_directory(image: str) -> None:
    assert said(rootless("run", "host", "id", "-u")) == ["0"]
    script = "touch /new; stat -c %u /new /bin/busybox; cat /proc/self/uid_map"
    assert said(rootless("run", image, "sh", "-c", script)) == ["0", "0", "0", "1000", "1", "1", "100000", "65536"]


@pytest.mark.usefixtures("delegated")
def test_memory_is_limited_and_out_of_memory_is_said() -> None:
    done = rootless("run", "-m", "32m", "--memory-swap", "32m", "host", "python3", "-c", "x = bytearray(200 << 20)")
    assert done.returncode == 137 and "reached its limit of 33554432 bytes" in done.stderr


@pytest.mark.usefixtures("delegated")
def test_processes_are_limited(image: str) -> None:
    done = rootless("run", "--pids-limit", "5", image, "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 9 & done; wait")
    assert done.returncode != 0 and "can't fork" in done.stderr


_USAGE = """
import pycontain
r = pycontain.run("host", ["sh", "-c", "while :; do :; done"], cpus=0.5, timeout=4)
print(r.timed_out, r.usage.cpu_s / r.usage.wall_s, (r.usage.memory_peak_bytes or 0) > 0, r.usage.io_read_bytes is not None)
"""


@pytest.mark.usefixtures("delegated")
def test_half_a_cpu_and_the_accounts_by_python() -> None:
    timed_out, share, _peak, io = said(rootless("unshare", "python3", "-c", _USAGE))
    assert (timed_out, io) == ("True", "True")
    assert float(share) == pytest.approx(0.5, rel=0.1)


def test_where_the_container_is(delegated: Path, image: str) -> None:
    process = subprocess.Popen(
        ["sh", "-c", f'echo $$ > {delegated}/cgroup.procs; exec setpriv --reuid {UID} --regid {UID} --clear-groups python3 -c "$0" '
         '"$@"', CLI, "run", "-i", "-m", "64m", image, "sh", "-c", "echo ready; cat; cat /proc/self/cgroup"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "HOME": str(HOME), "XDG_RUNTIME_DIR": str(RUNTIME)},
    )  # fmt: skip
    with process:
        assert process.stdin is not None and process.stdout is not None and process.stdout.readline() == "ready\n"
        found = [p for p in delegated.rglob("memory.max") if p.read_text().strip() == str(64 << 20)]
        deadline = time.monotonic() + 30
        inside: list[str] = []
        while len(inside) < 2 and time.monotonic() < deadline:  # the shell has said so before it starts its cat
            inside = (found[0].parent / "cgroup.procs").read_text().split()
        process.stdin.close()
        assert process.stdout.read() == "0::/\n"
    assert len(found) == 1 and len(inside) == 2 and process.returncode == 0  # the shell and its cat


@pytest.mark.usefixtures("delegated")
def test_other_ranges_and_keep_id(image: str) -> None:
    volume = HOME / "volume"
    volume.mkdir(exist_ok=True)
    os.chown(volume, UID, UID)
    keep = ("--userns", "keep-id", "--user", f"{UID}", "-v", f"{volume}:/v", image)
    assert said(rootless("run", *keep, "sh", "-c", "id -u; touch /v/made")) == ["1000"]
    assert (volume / "made").stat().st_uid == UID
    auto = said(rootless("run", "--userns", "auto:size=1000", image, "sh", "-c", "id -u; cat /proc/self/uid_map"))
    assert auto[0] == "0" and auto[1] == "0" and int(auto[2]) >= 1 and auto[3] == "1000"


@pytest.mark.usefixtures("delegated")
def test_a_data_root_without_attributes_is_named(image: str) -> None:
    done = rootless("--data-root", f"{RUNTIME}/data", "run", image, "id")
    assert done.returncode == 125 and len(done.stderr.splitlines()) == 1
    assert "a tmpfs has user.* since Linux 6.6" in done.stderr


# --- root's containers with a user namespace -------------------------------------------------------------------------


def test_this_kernel_takes_the_attached_way() -> None:
    assert not probe().detached_templates and probe().kernel == (6, 1)


@pytest.mark.parametrize("kind", ["host", "directory"])
def test_auto_owners_inside_and_on_disk(kind: str, root_image: str) -> None:
    name = "host" if kind == "host" else root_image
    with pycontain.Container(name, ["sh", "-c", "touch /new; sleep 100"], userns="auto", stop_timeout=0) as c:
        inside, outside, size = map(int, Path(f"/proc/{c.pid}/uid_map").read_text().split())
        assert (inside, size) == (0, 65536) and outside > 0
        (upper,) = Path(f"{DATA}/ephemeral").glob("*/*/upper")
        while not (upper / "new").exists():
            assert c.poll() is None
        assert (upper / "new").stat().st_uid == outside and upper.stat().st_uid == outside
    script = "stat -c %u / /dev /dev/null /bin/sh /new; echo x > /dev/null && echo ok"
    r = pycontain.run(name, ["sh", "-c", f"touch /new; {script}"], userns="auto", text=True)
    assert str(r.stdout).split() == ["0"] * 5 + ["ok"], r.stderr


def test_a_volume_keeps_its_owners(root_image: str) -> None:
    volume = Path("/srv/volume")
    volume.mkdir()
    (volume / "u").touch()
    os.chown(volume / "u", UID, UID)
    r = pycontain.run(
        root_image, ["sh", "-c", "stat -c %u /v/u; touch /v/root; touch /v/u2; chown 7:8 /v/u2"], text=True, userns="auto",
        mounts=[pycontain.bind(str(volume), "/v")],
    )  # fmt: skip
    assert (r.exit_code, str(r.stdout).split()) == (0, [str(UID)]), r.stderr
    assert ((volume / "root").stat().st_uid, (volume / "u2").stat().st_uid) == (0, 7)


_UNMAPPED = pycontain.Mount(type="bind", source="/dev/shm", target="/v", options=("rbind", "rprivate", "noidmap"))


def test_a_tmpfs_volume_says_noidmap_and_works_with_it(root_image: str) -> None:
    with pytest.raises(SetupFailed, match=r"the mount on /v.*a tmpfs can since Linux 6.3.*Add :noidmap"):
        pycontain.run(root_image, ["id"], userns="auto", mounts=[pycontain.bind("/dev/shm", "/v")])
    r = pycontain.run(root_image, ["stat", "-c", "%u", "/v"], userns="auto", mounts=[_UNMAPPED], text=True)
    assert str(r.stdout) == "65534\n"


def _bundle(directory: Path, root_image: str, *, owner: int, args: list[str], linux: Mapping[str, object]) -> str:
    directory.mkdir(parents=True)
    subprocess.run(["cp", "-a", root_image, str(directory / "rootfs")], check=True)
    subprocess.run(["chown", "-Rh", f"{owner}:{owner}", str(directory / "rootfs")], check=True)
    document = {
        "ociVersion": "1.2.0",
        "process": {"cwd": "/", "args": args, "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc"}],
        "linux": linux,
    }
    (directory / "config.json").write_text(json.dumps(document))
    return f"bundle:{directory}"


def _map(first: int) -> list[dict[str, int]]:
    return [{"containerID": 0, "hostID": first, "size": 1000}]


@pytest.mark.parametrize("mapped", [False, True], ids=["root", "mapped"])
def test_a_time_namespace_takes_the_fork(root_image: str, mapped: bool, tmp_path: Path) -> None:
    kinds = ["mount", "pid", "time", *(["user"] if mapped else [])]
    maps = {"uidMappings": _map(300000), "gidMappings": _map(300000)} if mapped else {}
    linux = {"namespaces": [{"type": k} for k in kinds], "timeOffsets": {"boottime": {"secs": 5000}}, **maps}
    script = "echo $$; readlink /proc/self/ns/time; cat /proc/uptime; stat -c %u /bin/busybox"
    image = _bundle(
        Path(f"/srv/time-{mapped}"), root_image, owner=300000 if mapped else 0, args=["sh", "-c", script], linux=linux
    )
    before = float(Path("/proc/uptime").read_text().split()[0])
    r = pycontain.run(image, text=True)
    pid, namespace, up, _idle, owner = str(r.stdout).split()
    assert (pid, owner) == ("1", "0"), r.stderr
    assert namespace != os.readlink("/proc/self/ns/time") and float(up) >= before + 5000


def test_namespaces_joined_by_path(root_image: str) -> None:
    with pycontain.Container(root_image, ["sleep", "100"], stop_timeout=0, userns="auto") as c:
        files = {"user": "user", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts"}
        linux = {
            "namespaces": [{"type": "mount"}, *({"type": k, "path": f"/proc/{c.pid}/ns/{f}"} for k, f in files.items())]
        }
        first = int(Path(f"/proc/{c.pid}/uid_map").read_text().split()[1])
        script = "".join(f"readlink /proc/self/ns/{f}; " for f in files.values())
        r = pycontain.run(
            _bundle(Path("/srv/joined"), root_image, owner=first, args=["sh", "-c", script], linux=linux), text=True
        )
        assert str(r.stdout).split() == [os.readlink(f"/proc/{c.pid}/ns/{f}") for f in files.values()], r.stderr
