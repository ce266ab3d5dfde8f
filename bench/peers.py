"""What is measured: one class per way to start a container, the command lines first."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.arena import Arena
from bench.bundle import find_seccomp_profile, oci_config, write_bundle
from bench.process import PeerFailed, timed_run
from bench.stats import Sample

TRUE = "/bin/true"


@dataclass(frozen=True, kw_only=True, slots=True)
class Burst:
    """Many starts at once."""

    wall_s: float
    latencies_s: list[float]
    errors: list[str]


class Peer:
    """One way to start a container. prepare, then once any number of times (also from threads), then close."""

    name = ""  # as --only takes it
    title = ""  # as the table shows it
    options = ""  # what it isolates and makes
    every = 1  # sampled in each n-th round only: slow ones would make the run hours long
    stamps = False  # until exec by a run of its own with stamp.c
    parallel = False  # part of the parallel series by default

    def __init__(self, arena: Arena) -> None:
        self.arena = arena

    def missing(self) -> str | None:
        """Why it cannot be measured here, or None. Without side effects."""
        return None

    def prepare(self) -> None:
        """Raises: PeerFailed."""

    def close(self) -> None:
        """Idempotent; also after a failed prepare."""

    def version(self) -> str:
        return ""

    def once(self, *, stamped: bool = False) -> Sample:
        raise NotImplementedError

    def settle(self) -> None:
        """Wait, untimed, for what this peer still does in the background: it would slow down the next one."""

    def burst(self, threads: int, starts: int) -> Burst:
        """starts runs, at most `threads` at a time."""
        errors: list[str] = []

        def one(_: int) -> float | None:
            try:
                return self.once().whole_s
            except PeerFailed as error:
                errors.append(str(error))
                return None

        with ThreadPoolExecutor(threads) as pool:
            started = time.perf_counter()
            latencies = list(pool.map(one, range(starts)))
            wall_s = time.perf_counter() - started
        return Burst(wall_s=wall_s, latencies_s=[value for value in latencies if value is not None], errors=errors)


class CommandPeer(Peer):
    """A whole process per start."""

    program = ""
    needs_root = True
    stamps = True
    version_arguments: Sequence[str] = ("--version",)

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self._numbers = itertools.count(1)
        # itertools.count is atomic today by accident of the GIL; the ids must be unique by intent.
        self._lock = threading.Lock()

    def path(self) -> str | None:
        return shutil.which(self.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

    def found(self) -> str:
        path = self.path()
        if path is None:
            raise PeerFailed(f"{self.program} is not installed")
        return path

    def missing(self) -> str | None:
        if self.path() is None:
            return f"{self.program} is not installed (tests/peers/install.sh)"
        if self.needs_root and not self.arena.private:
            return "needs root"
        return None

    def version(self) -> str:
        try:
            done = subprocess.run([self.found(), *self.version_arguments], capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired, PeerFailed) as error:
            return f"unknown ({error})"
        return (done.stdout or done.stderr).strip().splitlines()[0] if done.stdout or done.stderr else "unknown"

    def argv(self, container: str, program: str) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def once(self, *, stamped: bool = False) -> Sample:
        with self._lock:
            number = next(self._numbers)
        program = (self.arena.stamp or TRUE) if stamped else TRUE
        argv = self.argv(f"{self.arena.token}-{self.name}-{number}", program)
        return timed_run(argv, self.environment(), stamped=program != TRUE)


class SpawnFloor(CommandPeer):
    """The floor where pycontain is not built: by os.posix_spawn."""

    name = "floor"
    title = "floor: spawn + exec + wait"
    program = "busybox"
    needs_root = False
    version_arguments = ("--help",)
    options = "no isolation (os.posix_spawn, for want of pycontain._native.spawn_floor)"

    def argv(self, container: str, program: str) -> list[str]:
        return (
            [str(self.arena.rootfs / "bin/busybox"), "true"] if program == TRUE else [str(self.arena.rootfs) + program]
        )


class Unshare(CommandPeer):
    name = "unshare"
    title = "unshare"
    options = "pid and mount namespace, /proc; host's root, no limits"
    program = "unshare"

    def argv(self, container: str, program: str) -> list[str]:
        own = [str(self.arena.rootfs / "bin/busybox"), "true"]
        inner = own if program == TRUE else [str(self.arena.rootfs) + program]
        return [self.found(), "--fork", "--pid", "--mount-proc", *inner]


class Bubblewrap(CommandPeer):
    name = "bwrap"
    title = "bwrap"
    options = "all namespaces but cgroup's limits, bind root, /proc /dev, no capabilities; no seccomp, no cgroup"
    program = "bwrap"
    needs_root = False
    parallel = True

    def argv(self, container: str, program: str) -> list[str]:
        rootfs = str(self.arena.rootfs)
        argv = [self.found(), "--unshare-all", "--die-with-parent", "--bind", rootfs, "/", "--proc", "/proc"]
        return [*argv, "--dev", "/dev", "--tmpfs", "/tmp", "--cap-drop", "ALL", program]


class OciRuntime(CommandPeer):
    """runc and crun: `run` on a bundle; creation, start, wait and deletion in one command."""

    seccomp = True
    parallel = True

    def prepare(self) -> None:
        profile = find_seccomp_profile() if self.seccomp else None
        have = "seccomp" if profile else "no seccomp"
        self.options = f"all namespaces, bind root, mounts and masks, capabilities, {have}, cgroup; no overlay"
        for program in (TRUE, self.arena.stamp):
            if program is not None:
                config = oci_config(rootfs=self.arena.rootfs, argv=[program], seccomp=profile)
                write_bundle(self._bundle(program), config)

    def _bundle(self, program: str) -> Path:
        return self.arena.directory / "bundles" / f"{self.name}-{Path(program).name}"

    def argv(self, container: str, program: str) -> list[str]:
        state = str(self.arena.directory / f"state-{self.name}")
        return [self.found(), "--root", state, "run", "--bundle", str(self._bundle(program)), container]


class Crun(OciRuntime):
    name = "crun"
    title = "crun run"
    program = "crun"


class Runc(OciRuntime):
    name = "runc"
    title = "runc run"
    program = "runc"


class RuncExec(Runc):
    """Into one container, which is started before."""

    name = "runc-exec"
    title = "runc exec"
    parallel = False
    _started = False

    def prepare(self) -> None:
        profile = find_seccomp_profile()
        self.options = f"into a running container; {'seccomp' if profile else 'no seccomp'}"
        argv = ["/bin/busybox", "sleep", "36000"]
        write_bundle(self._bundle("sleep"), oci_config(rootfs=self.arena.rootfs, argv=argv, seccomp=profile))
        self._call("run", "--detach", "--bundle", str(self._bundle("sleep")), self._id())
        self._started = True

    def _id(self) -> str:
        return f"{self.arena.token}-{self.name}"

    def _command(self, *words: str) -> list[str]:
        return [self.found(), "--root", str(self.arena.directory / f"state-{self.name}"), *words]

    def _call(self, *words: str) -> None:
        null = subprocess.DEVNULL  # not pipes: the container would hold them open
        status = subprocess.run(self._command(*words), stdin=null, stdout=null, stderr=null, timeout=60).returncode
        if status != 0:
            raise PeerFailed(f"runc {words[0]} ended with status {status}")

    def argv(self, container: str, program: str) -> list[str]:
        return self._command("exec", self._id(), program)

    def close(self) -> None:
        if self._started:
            self._started = False
            self._call("delete", "--force", self._id())


class CrunWithoutSeccomp(Crun):
    """How much of the time libseccomp takes to compile the profile on every start."""

    name = "crun-noseccomp"
    title = "crun run, no seccomp"
    seccomp = False
    parallel = False


class RuncWithoutSeccomp(Runc):
    name = "runc-noseccomp"
    title = "runc run, no seccomp"
    seccomp = False
    parallel = False


class Podman(CommandPeer):
    name = "podman"
    title = "podman run"
    options = "--network none --rootfs; runc, conmon, seccomp, cgroup; no overlay"
    program = "podman"
    every = 5

    def argv(self, container: str, program: str) -> list[str]:
        own = self.arena.directory / "podman"
        argv = [self.found(), "--root", str(own / "root"), "--runroot", str(own / "run"), "--tmpdir", str(own / "tmp")]
        argv += ["--cgroup-manager", "cgroupfs", "--runtime", "runc", "--events-backend", "none"]
        argv += ["run", "--rm", "--name", container, "--network", "none", "--cgroup-parent", f"/{self.arena.token}"]
        # Its defaults ask for more than a root without CAP_SYS_RESOURCE may have.
        argv += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
        return [*argv, "--rootfs", str(self.arena.rootfs), program]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "HOME": str(self.arena.directory)}

    def settle(self) -> None:
        # conmon outlives `podman run`, and starts one more podman to clean up after it. /proc is our own pid
        # namespace's, so all of them are ours.
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and any(_alive("conmon", "podman")):
            time.sleep(0.01)


class PycontainCommand(CommandPeer):
    name = "pycontain-cli"
    title = "pycontain run"
    options = "all namespaces, overlay, mounts and masks, capabilities, seccomp, cgroup; network none"
    parallel = True
    needs_root = False

    def path(self) -> str | None:
        beside = os.path.join(os.path.dirname(sys.executable), "pycontain")
        return beside if os.access(beside, os.X_OK) else None

    def missing(self) -> str | None:
        return None if self.path() else f"not built: no pycontain command beside {os.path.basename(sys.executable)}"

    def argv(self, container: str, program: str) -> list[str]:
        return [self.found(), "run", "--rm", "--network", "none", str(self.arena.rootfs), program]


class VmBoot(Peer):
    """A whole machine where a container would do."""

    name = "vm"
    title = "VM: boot, true, power off"
    options = "QEMU q35, kernel 6.1, busybox initramfs, 128 MB"
    every = 40

    def missing(self) -> str | None:
        return None if shutil.which("qemu-system-x86_64") else "qemu-system-x86_64 is not installed"

    def prepare(self) -> None:
        from tests.vm.machine import accelerator

        self.options = f"{type(self).options}, {accelerator().split(',')[0]}"

    def version(self) -> str:
        done = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True)
        return done.stdout.splitlines()[0] if done.stdout else "unknown"

    def once(self, *, stamped: bool = False) -> Sample:
        from tests.vm.baseline import boot_once
        from tests.vm.run import VmError

        try:
            return Sample(whole_s=boot_once())
        except VmError as error:
            raise PeerFailed(str(error).splitlines()[0]) from error


def _alive(*names: str) -> Iterator[str]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (comm) state ...", and a comm may hold spaces and parentheses.
            before, _, after = stat.read_text().rpartition(")")
            comm = before.partition("(")[2]
            if comm in names and after.split()[0] not in "ZX":
                yield comm


def all_peers(arena: Arena) -> list[Peer]:
    # Here, not above: these modules build on the classes of this one.
    from bench.docker import Docker
    from bench.inprocess import Floor, in_process_peers

    floor: Peer = Floor(arena, "floor", "floor: spawn + exec + wait")
    if floor.missing() is not None:
        floor.close()
        floor = SpawnFloor(arena)
    commands: list[Peer] = [
        *(floor, *in_process_peers(arena), PycontainCommand(arena), Unshare(arena), Bubblewrap(arena)),
        *(Crun(arena), CrunWithoutSeccomp(arena), Runc(arena), RuncWithoutSeccomp(arena), RuncExec(arena)),
        *(Podman(arena), Docker(arena), VmBoot(arena)),
    ]
    return commands


def close_all(peers: Sequence[Peer]) -> None:
    for peer in peers:
        with contextlib.suppress(OSError, PeerFailed):
            peer.close()
