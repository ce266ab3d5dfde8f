"""The place the peers run in: a mount namespace of the benchmark's own, with its data on a fresh filesystem.

Everything a peer mounts, writes to /run or locks in /dev/shm dies with that namespace, also when the
benchmark is killed. What the kernel keeps outside of it (cgroups) is removed by name at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MARK = "PYCONTAIN_BENCH_ARENA"
CGROUP_ROOT = Path("/sys/fs/cgroup")
ROOTFS_DIRECTORIES = ("bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var")


@dataclass(frozen=True, kw_only=True, slots=True)
class Arena:
    directory: Path
    rootfs: Path
    token: str  # in every container id and cgroup name of this run
    private: bool  # own mount namespace: root only
    notes: tuple[str, ...]  # what could not be set up, for the report

    @property
    def stamp(self) -> str | None:
        """The path, in the container, of the program for "until exec"; None without a C compiler."""
        return "/bin/stamp" if (self.rootfs / "bin/stamp").exists() else None


def run_inside(module: str, arguments: list[str]) -> int:
    """Run this module again in a private mount namespace, then remove what outlives it; its exit status."""
    directory = Path(tempfile.mkdtemp(prefix="pycontain-bench."))
    environment = {**os.environ, MARK: str(directory)}
    argv = [sys.executable, "-m", module, *arguments]
    if os.geteuid() == 0:
        # The pid namespace: peers leave processes behind (conmon, shims), some of which ignore SIGTERM for good.
        # When its first process ends, the kernel ends them all.
        private = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
        argv = [*private, *argv]

    def stop(_number: int, _frame: object) -> None:
        raise SystemExit(143)

    loose = _loose_controllers()
    signal.signal(signal.SIGTERM, stop)
    child = subprocess.Popen(argv, env=environment)
    try:
        return child.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()
        remove_cgroups(directory.name)
        if loose and os.geteuid() == 0:
            sweep = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "bench.arena"]
            subprocess.run([*sweep, directory.name, str(directory), *loose], check=False)
        # Outside of the namespace this is an empty directory, unless the data was put right into it.
        if f" {directory}" not in Path("/proc/self/mountinfo").read_text():
            shutil.rmtree(directory, ignore_errors=True)


def enter(data: str) -> Arena:
    """Set up the namespace this process was started in by run_inside. data: tmpfs, ext4 or plain."""
    directory = Path(os.environ[MARK])
    notes = ["the peers use the root directory as it is; pycontain and docker also make an overlay on it and remove it"]
    private = os.geteuid() == 0
    if private:
        _mount_data(directory, data)
        # podman keeps a lock in /dev/shm and everyone writes to /run: theirs must not meet the host's.
        for target in ("/run", "/dev/shm"):
            _mount("-t", "tmpfs", "-o", "mode=755", "bench", target)
        notes += _split_hybrid_cgroups(directory)
    else:
        notes.append("not root: no private mount namespace, and the peers that need root are missing")
    # pycontain's data lies where every peer's does; its workers and its command inherit this
    os.environ["PYCONTAIN_DATA_ROOT"] = str(directory / "pycontain")
    os.environ["PYCONTAIN_RUN_ROOT"] = str(directory / "pycontain-run")
    rootfs = directory / "rootfs"
    notes += _make_rootfs(rootfs)
    return Arena(directory=directory, rootfs=rootfs, token=directory.name, private=private, notes=tuple(notes))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, stdin=subprocess.DEVNULL)


def _mount_data(directory: Path, data: str) -> None:
    if data == "tmpfs":
        _mount("-t", "tmpfs", "-o", "mode=755,size=2g", "bench", str(directory))
    elif data == "ext4":
        # Fresh: an ext4 that has seen many deletions makes files 20 times slower for minutes.
        image = directory / "data.ext4"
        with image.open("wb") as file:
            file.truncate(2 << 30)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", str(image)], check=True)
        _mount("-o", "loop", str(image), str(directory))
        directory.chmod(0o755)


def _loose_controllers() -> list[str]:
    """On a hybrid host: the controllers in cgroup2, and those in a v1 hierarchy that nobody has mounted."""
    unified = CGROUP_ROOT / "unified/cgroup.controllers"
    if not unified.exists():
        return []
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    mounted = {word for line in lines if "cgroup" in line for word in line[-1].split(",")}
    orphans = [name for name, hierarchy in _hierarchies().items() if hierarchy != "0" and name not in mounted]
    return sorted({*unified.read_text().split(), *orphans})


def _hierarchies() -> dict[str, str]:
    """The number of each controller's v1 hierarchy; "0" is cgroup2 (or none)."""
    lines = [line.split() for line in Path("/proc/cgroups").read_text().splitlines()[1:]]
    return {name: hierarchy for name, hierarchy, *_ in lines}


def _split_hybrid_cgroups(directory: Path) -> list[str]:
    """Give the controllers of a hybrid host's cgroup2 a v1 hierarchy: crun refuses the mixture.

    In a copy of /sys/fs/cgroup, so that not even a mount point is made in the host's.
    """
    names = _loose_controllers()
    if not names:
        return []
    stage = directory / "cgroup"
    stage.mkdir()
    _mount("--rbind", str(CGROUP_ROOT), str(stage))
    _mount("-t", "tmpfs", "-o", "mode=755", "cgroup", str(CGROUP_ROOT))
    for entry in sorted(stage.iterdir()):
        target = CGROUP_ROOT / entry.name
        if entry.is_symlink():
            target.symlink_to(os.readlink(entry))
        else:
            target.mkdir()
            _mount("--bind", str(entry), str(target))
    subprocess.run(["umount", "-R", str(stage)], check=True)
    notes = []
    for name in names:
        target = CGROUP_ROOT / name
        target.mkdir(exist_ok=True)
        try:
            _mount("-t", "cgroup", "-o", name, "cgroup", str(target))
        except subprocess.CalledProcessError:
            notes.append(f"the {name} controller is in use in cgroup2 and stays there: crun may refuse this host")
    return notes


def _make_rootfs(rootfs: Path) -> list[str]:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("bench: busybox is not installed (Debian: busybox-static); run tests/peers/install.sh")
    for name in ROOTFS_DIRECTORIES:
        (rootfs / name).mkdir(parents=True)
    shutil.copy2(busybox, rootfs / "bin/busybox")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\n")
    compiler = shutil.which("cc")
    if compiler is None:
        return ["no C compiler: 'until exec' is unknown for the command line peers"]
    argv = [compiler, "-static", "-O2", "-nostdlib", "-fno-stack-protector", "-o", str(rootfs / "bin/stamp")]
    built = subprocess.run([*argv, str(HERE / "stamp.c")], capture_output=True, text=True)
    if built.returncode != 0:
        return [f"stamp.c does not compile ({built.stderr.strip().splitlines()[-1]}): 'until exec' is unknown"]
    return []


def remove_cgroups(token: str, below: Path = CGROUP_ROOT) -> None:
    """Remove the cgroups with this run's token in their path, deepest first; those still in use for up to 5 s."""
    deadline = time.monotonic() + 5
    while found := [path for path, _, _ in os.walk(below) if token in path.removeprefix(str(below))]:
        for path in sorted(found, key=len, reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        if time.monotonic() > deadline:
            print(f"bench: left, still in use: {', '.join(found)}", file=sys.stderr)
            return
        time.sleep(0.05)


def main() -> int:
    """Sweep the hierarchies of run_inside's namespace, which is gone: TOKEN DIRECTORY CONTROLLER...

    A hierarchy with a cgroup left in it outlives its last mount, and keeps its controller from cgroup2.
    """
    token, directory, *names = sys.argv[1:]
    deadline = time.monotonic() + 10
    # Several times: the kernel frees a removed cgroup later, and until then the hierarchy counts it as a child.
    while (left := [name for name in names if _hierarchies().get(name, "0") != "0"]) and time.monotonic() < deadline:
        for name in left:
            with contextlib.suppress(subprocess.CalledProcessError):
                _mount("-t", "cgroup", "-o", name, "sweep", directory)
                remove_cgroups(token, Path(directory))
                subprocess.run(["umount", directory], check=True)
        time.sleep(0.05)
    return 0


if __name__ == "__main__":
    sys.exit(main())
