"""Pull and unpack a Debian image of three layers from a local registry, each time onto a fresh ext4; and what lists and layers cost.

    python -m bench.images [--rounds N] [--only NAMES] [--check]

One interleaved run: in each round every peer gets a new loop-mounted ext4 and pulls the same image from the same registry; the
order changes from round to round. Peak memory is the largest resident set of one of the command's processes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import TarInfo

from bench import arena
from bench.arena import Arena
from bench.docker import Docker
from bench.process import PeerFailed
from tests import registries
from tests.debian import NAME, debian_image

_DISK_BYTES = 3 << 30
_LIST_SIZES = (10, 1000)


@dataclass
class Peer:
    """``command`` makes the command line for a registry's host and an empty directory."""

    name: str
    title: str
    needs: tuple[str, ...]
    command: Callable[[str, Path], list[str]]
    limit: float | None = None  # pycontain's time is at most so much of this one's
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0


def _pycontain(host: str, place: Path) -> list[str]:
    program = str(Path(sys.executable).parent / "pycontain")
    return [program, "--data-root", f"{place}/data", "--run-root", f"{place}/run", "pull", "--quiet", f"{host}/{NAME}"]


def _podman(host: str, place: Path) -> list[str]:
    storage = ["--root", f"{place}/root", "--runroot", f"{place}/run", "--storage-driver", "overlay"]
    return ["podman", *storage, "pull", "--quiet", "--tls-verify=false", f"{host}/{NAME}"]


def _skopeo_umoci(host: str, place: Path) -> list[str]:
    copy = f"skopeo --insecure-policy copy -q --src-tls-verify=false docker://{host}/{NAME} oci:{place}/oci:image"
    return ["sh", "-ec", f"{copy}; umoci --log error unpack --image {place}/oci:image {place}/bundle"]


def _curl_tar(host: str, place: Path) -> list[str]:
    repository, _, tag = NAME.rpartition(":")
    manifest = json.loads(
        subprocess.run(
            ["curl", "-sf", "-H", "Accept: application/vnd.oci.image.manifest.v1+json", f"http://{host}/v2/{repository}/manifests/{tag}"],
            check=True, capture_output=True,
        ).stdout
    )  # fmt: skip
    layers = [f"http://{host}/v2/{repository}/blobs/{each['digest']}" for each in manifest["layers"]]
    steps = [
        f"mkdir {place}/{n}; curl -sf {shlex.quote(url)} | tar -xzf - -C {place}/{n}" for n, url in enumerate(layers)
    ]
    return ["bash", "-eo", "pipefail", "-c", "; ".join(steps)]


class DockerPull(Docker):
    """dockerd without bridge or firewall, in this network namespace: it has to reach the registry on loopback."""

    def start(self, place: Path) -> None:
        self._own.mkdir(exist_ok=True)
        daemon = (
            "mount --make-rshared / && dockerd --bridge none --iptables=false --ip-forward=false "
            f"--data-root {place}/docker --exec-root {self._own}/exec --pidfile {self._own}/dockerd.pid "
            f"--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{self.arena.token} -H unix://{self._socket}"
        )
        script = f"({daemon} </dev/null; : >{self._own}/failed) & read -r _"
        log = self._own / "dockerd.log"
        with log.open("wb") as sink:
            self._daemon = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script],
                stdin=subprocess.PIPE, stdout=sink, stderr=sink, env=self.environment(),
            )  # fmt: skip
        self._wait_for_socket(log)

    def stop(self) -> None:
        self.close()
        # its pid files have pids of a namespace that is gone, and the next one has the same
        shutil.rmtree(self._own / "exec", ignore_errors=True)
        for left in (self._socket, self._own / "dockerd.pid"):
            left.unlink(missing_ok=True)


def _docker(host: str, place: Path) -> list[str]:
    return ["/usr/bin/docker", "pull", "--quiet", f"{host}/{NAME}"]


def peers() -> list[Peer]:
    return [
        Peer("pycontain", "**`pycontain pull`**", (), _pycontain),
        Peer("curl-tar", "`curl \\| tar xzf`, one layer after the other", ("curl", "tar"), _curl_tar, 1.0),
        Peer("docker", "`docker pull`", ("dockerd", "/usr/bin/docker"), _docker, 1 / 3),
        Peer("podman", "`podman pull`", ("podman",), _podman, 1 / 4),
        Peer("skopeo-umoci", "`skopeo copy` and `umoci unpack`", ("skopeo", "umoci"), _skopeo_umoci, 1 / 4),
    ]


@contextlib.contextmanager
def fresh_disk(directory: Path) -> Iterator[Path]:
    """A new ext4 in a file, mounted: one that has seen many deletions makes files 20 times slower."""
    image, place = directory / "disk.ext4", directory / "disk"
    with image.open("wb") as file:
        file.truncate(_DISK_BYTES)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0", str(image)], check=True)
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    os.sync()
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        image.unlink()


def timed(argv: list[str], environment: dict[str, str]) -> tuple[float, int]:
    """Seconds, and the largest resident set in bytes of the command or one of its own children."""
    code = (
        "import os, resource, subprocess, sys, time; t = time.monotonic(); "
        "done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL); "
        "print(time.monotonic() - t, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *argv], capture_output=True, text=True, env=environment, timeout=300
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise PeerFailed(f"{argv[0]} exited with {done.returncode}: {lines[-1] if lines else 'nothing on stderr'}")
    seconds, kib = done.stdout.split()
    return float(seconds), int(kib) * 1024


def measure_pulls(place: Arena, chosen: list[Peer], host: str, rounds: int, disks: Path) -> None:
    docker = DockerPull(place)
    order = list(chosen)
    rng = random.Random(1)
    for round_ in range(rounds):
        rng.shuffle(order)
        for peer in order:
            with fresh_disk(disks) as disk:
                environment = dict(os.environ)
                if peer.name == "docker":
                    docker.start(disk)
                    environment = dict(docker.environment())
                try:
                    seconds, peak = timed(peer.command(host, disk), environment)
                finally:
                    if peer.name == "docker":
                        docker.stop()
            peer.seconds.append(seconds)
            peer.peak_bytes = max(peer.peak_bytes, peak)
            print(f"  round {round_ + 1}: {peer.name}: {seconds:.2f} s, {peak >> 20} MB", file=sys.stderr)


def measure_lists(place: Arena, rounds: int) -> dict[int, float]:
    """Seconds of `pycontain images` with so many images: the median."""
    from pycontain.image.importer import import_tar

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    program = str(Path(sys.executable).parent / "pycontain")
    figures: dict[int, list[float]] = {size: [] for size in _LIST_SIZES}
    roots = {size: f"{place.directory}/list-{size}" for size in _LIST_SIZES}
    for size, root in roots.items():
        for n in range(size):
            import_tar(io.BytesIO(buffer.getvalue()), f"some/image-{n}:v{n}", data_root=root, changes=(f"ENV N={n}",))
    for _ in range(rounds):
        for size, root in roots.items():
            argv = [program, "--data-root", root, "--run-root", f"{root}/run", "images"]
            figures[size].append(timed(argv, dict(os.environ))[0])
    return {size: statistics.median(seconds) for size, seconds in figures.items()}


def measure_layers(place: Arena, rounds: int) -> dict[int, float]:
    """Seconds of a start in process, until its program has ended, on an image of so many layers: the median."""
    import pycontain

    figures: dict[int, list[float]] = {1: [], 60: []}
    for layers in figures:
        buffer = io.BytesIO()
        tars, diff_ids = [], []
        for n in range(layers):
            one = io.BytesIO()
            with tarfile.open(fileobj=one, mode="w") as archive:
                if n == 0:
                    archive.add(place.rootfs / "bin/busybox", "bin/busybox", filter=_by_root)
                info = tarfile.TarInfo(f"etc/layer{n}")
                archive.addfile(info)
            tars.append(one.getvalue())
            diff_ids.append(f"sha256:{hashlib.sha256(tars[-1]).hexdigest()}")
        config = json.dumps(
            {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        ).encode()
        entry = [
            {"Config": "config.json", "RepoTags": [f"layers:{layers}"], "Layers": [f"{n}.tar" for n in range(layers)]}
        ]
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in (
                ("config.json", config), ("manifest.json", json.dumps(entry).encode()),
                *((f"{n}.tar", data) for n, data in enumerate(tars)),
            ):  # fmt: skip
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        pycontain.Image.load(io.BytesIO(buffer.getvalue()))
    for round_ in range(-10, rounds):
        for layers, seconds in figures.items():
            result = pycontain.run(f"layers:{layers}", ["/bin/busybox", "true"])
            if result.exit_code != 0:
                raise RuntimeError(f"a start on {layers} layers: {result.stderr!r}")
            if round_ >= 0:
                seconds.append(sum(result.phases[phase] for phase in ("plan", "spawn", "run")))
    return {layers: statistics.median(seconds) for layers, seconds in figures.items()}


def _by_root(info: TarInfo) -> TarInfo:
    info.uid = info.gid = 0
    return info


def report(chosen: list[Peer], lists: dict[int, float], layers: dict[int, float]) -> tuple[list[str], bool]:
    """The table, and whether every limit was kept."""
    ours = next((each for each in chosen if each.name == "pycontain"), None)
    lines = [
        "| pull and unpack | seconds, median | min | max | peak memory, MB | pycontain's share |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for each in chosen:
        if each.seconds:
            median = statistics.median(each.seconds)
            share = (
                f"{statistics.median(ours.seconds) / median:.2f}" if ours and ours.seconds and each is not ours else ""
            )
            lines.append(
                f"| {each.title} | {median:.2f} | {min(each.seconds):.2f} | {max(each.seconds):.2f} | "
                f"{each.peak_bytes / 1e6:.0f} | {share} |"
            )
    verdicts: list[tuple[bool, str]] = []
    if ours and ours.seconds:
        mine = statistics.median(ours.seconds)
        for each in chosen:
            if each.limit is not None and each.seconds:
                most = each.limit * statistics.median(each.seconds)
                verdicts.append(
                    (mine <= most, f"pull: {mine:.2f} s, at most {each.limit:.2f} x {each.name}: {most:.2f} s")
                )
        verdicts.append((ours.peak_bytes < 150e6, f"peak memory: {ours.peak_bytes / 1e6:.0f} MB, less than 150 MB"))
    if lists:
        small, big = (lists[size] for size in _LIST_SIZES)
        verdicts.append(
            (
                big < 2 * small,
                f"`pycontain images`: {big * 1e3:.0f} ms with 1,000 images, less than 2 x {small * 1e3:.0f} ms with 10",
            )
        )
    if layers:
        verdicts.append(
            (
                layers[60] <= 1.2 * layers[1],
                f"start on 60 layers: {layers[60] * 1e3:.2f} ms, at most 1.2 x {layers[1] * 1e3:.2f} ms on one",
            )
        )
    lines += ["", *(f"{'met   ' if met else 'missed'}  {text}" for met, text in verdicts)]
    return lines, all(met for met, _ in verdicts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of pulls (5)")
    parser.add_argument("--only", default="", help="peers, by comma; also lists, layers (all)")
    parser.add_argument("--disk", default="/var/tmp", help="where the file of the fresh ext4 lies (/var/tmp)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a limit is not kept")
    options = parser.parse_args()
    if os.environ.get(arena.MARK) is None:
        return arena.run_inside("bench.images", sys.argv[1:])
    only = set(options.only.split(",")) if options.only else set()
    chosen = [each for each in peers() if not only or each.name in only]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for each in chosen:
        absent = [name for name in each.needs if shutil.which(name, path=path) is None]
        if absent:
            print(f"missing: {', '.join(absent)} (tests/peers/install.sh)", file=sys.stderr)
            return 1
    image = debian_image()
    place = arena.enter("tmpfs")
    disks = Path(options.disk) / place.token
    disks.mkdir()
    try:
        if chosen:
            with registries.start(place.directory) as registry:
                copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
                subprocess.run([*copy, f"oci:{image}/oci:{NAME}", f"docker://{registry.host}/{NAME}"], check=True)
                measure_pulls(place, chosen, registry.host, options.rounds, disks)
        lists = measure_lists(place, 15) if not only or "lists" in only else {}
        layers = measure_layers(place, 200) if not only or "layers" in only else {}
    finally:
        shutil.rmtree(disks, ignore_errors=True)
    lines, met = report(chosen, lists, layers)
    print("\n".join(lines))
    print(f"\nown peak: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB", file=sys.stderr)
    print(f"{time.strftime('%Y-%m-%d')}, Linux {os.uname().release}, {os.cpu_count()} CPUs", file=sys.stderr)
    return 1 if options.check and not met else 0


if __name__ == "__main__":
    raise SystemExit(main())
