"""Escapes by a bundle's root, which is a directory as it is: what lies in it, who renames in it meanwhile, odd documents."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attacks import decoys, evil_image, plant, swapper
from bundles import bundle
from probes import SECRET, listing
from test_tty import read

import pycontain
from pycontain.errors import PycontainError
from pycontain.runtime import running
from pycontain.runtime.bundle import request_of_bundle
from pycontain.runtime.roots import default_roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

PROC = {"destination": "/proc", "type": "proc", "source": "proc"}
SYS = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}
DEV = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
PTS = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}
SHM = {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["mode=1777"]}
GUARDS = {
    "linux.maskedPaths": ["/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/m"],
    "linux.readonlyPaths": ["/proc/sys", "/proc/bus", "/proc/sysrq-trigger", "/r"],
}
FULL: dict[str, Any] = {"mounts": [PROC, DEV, PTS, SHM, SYS], "root.readonly": False, **GUARDS}
PLAIN: dict[str, Any] = {**FULL, "mounts": [PROC]}  # /dev is the root's own
WAYS = pytest.mark.parametrize("document", [FULL, PLAIN, {**FULL, "root.readonly": True}], ids=["full", "plain", "ro"])


@pytest.fixture
def root(tmp_path: Path, busybox_root: str) -> Path:
    return evil_image(tmp_path / "rootfs", busybox_root)


def bind(source: Path, target: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": str(source), "options": ["bind", *options]}


def said(error: PycontainError) -> str:
    assert "\n" not in str(error), error
    return f"refused: {error}"


def start(root: Path, script: str, changes: dict[str, Any]) -> str:
    """ "CODE OUTPUT", or "refused: " and the one line."""
    try:
        with bundle(str(root), script, changes) as image:
            r = pycontain.run(image, text=True, timeout=20)
    except PycontainError as e:
        return said(e)
    assert not r.timed_out
    return f"{r.exit_code} {r.stdout!s}{r.stderr!s}"


def on_terminal(root: Path, script: str, changes: dict[str, Any]) -> str:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        with bundle(str(root), script, {**changes, "process.terminal": True}) as image:
            request = request_of_bundle(image)
            c = running.start(request, roots=default_roots(), stdin=null, stdout=null, stderr=null)
    except PycontainError as e:
        return said(e)
    finally:
        os.close(null)
    text = read(c.tty_fd)
    c.kill()
    c.wait()
    c.close_tty()
    return text


def far(kept: Path) -> list[str]:
    return [str(kept), "../" * 40 + str(kept).lstrip("/"), f"/proc/self/root{kept}", "/proc/1/cwd", "/proc"]


ATTACK = "echo x >/dev/null; echo x >/dev/console; echo x >/etc/x; echo x >/m; echo x >/data/x; cat /*/secret /secret /m; ls /dev"


# --- what lies in it ---------------------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize(
    "at", ["/proc", "/sys", "/dev", "/etc", "/tmp", "/data", "/w", "/m", "/r", "/dev/pts", "/dev/shm"]
)
def test_a_link_in_place_of_a_directory_leads_nowhere(
    at: str, document: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    tmpfs = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}
    mounts = [*document["mounts"], tmpfs, bind(tmp_path / "volume", "/data")]
    with decoys(tmp_path / "decoy", tmp_path / "volume") as kept:
        for to in far(kept):
            plant(root, at, to)
            text = start(
                root, ATTACK.replace("echo x >/data/x", ":"), {**document, "mounts": mounts, "process.cwd": "/w/n"}
            )
            assert SECRET not in text and text.startswith(("refused: ", "0 ")), text


DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "fd", "stdin", "core")


@WAYS
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("kind", ["link", "new", "proc", "file", "hard link", "fifo", "disk"])
def test_cve_2025_31133_2025_52565_2026_88264_names_below_dev(
    kind: str, terminal: bool, document: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    with decoys(tmp_path / "decoy") as kept:
        targets = {"link": str(kept / "secret"), "new": str(kept / "new"), "proc": "/proc/sys/kernel/core_pattern"}
        for name in DEVICES:
            path = root / "dev" / name
            if kind in targets:
                plant(root, f"/dev/{name}", targets[kind])
            elif kind == "hard link":
                os.link(kept / "secret", path)
            elif kind == "disk":
                os.mknod(path, 0o60666, os.makedev(254, 0))
            else:
                os.mkfifo(path) if kind == "fifo" else path.write_text("a file")
        text = (on_terminal if terminal else start)(root, ATTACK if kind != "hard link" else "cat /proc/keys", document)
        assert SECRET not in text, text


@pytest.mark.parametrize("kind", ["file", "link", "fifo", "zero"])
@pytest.mark.parametrize("own", [True, False])
def test_cve_2025_31133_a_mask_is_the_null_device(kind: str, own: bool, root: Path, tmp_path: Path) -> None:
    """With CAP_SYS_ADMIN the cover is the container's own /dev/null, which the root may have made of anything."""
    null = root / "dev/null"
    caps = {k: ["CAP_SYS_ADMIN"] for k in ("bounding", "effective", "permitted")}
    (root / "m").write_text("hidden")
    with decoys(tmp_path / "decoy") as kept:
        if kind == "file":
            null.write_text("hidden")
        elif kind == "link":
            null.symlink_to(kept / "secret")
        else:
            os.mkfifo(null) if kind == "fifo" else os.mknod(null, 0o20666, os.makedev(1, 5))
        changes = {**(FULL if own else PLAIN), "process.capabilities": caps}
        text = start(root, "cat /proc/keys /proc/timer_list /m; stat -c %t:%T /m /proc/keys", changes)
    assert text == "0 1:3\n1:3\n" if own else text.startswith("refused: "), text


@pytest.mark.parametrize("kind", ["file", "fifo", "zero", "link", "absent"])
def test_cve_2025_31133_a_volume_as_dev_cannot_pass_its_null_for_one(kind: str, root: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    caps = {k: ["CAP_SYS_ADMIN"] for k in ("bounding", "effective", "permitted")}
    with decoys(tmp_path / "decoy") as kept:
        if kind == "file":
            (volume / "null").write_text("hidden")
        elif kind == "link":
            (volume / "null").symlink_to(kept / "secret")
        elif kind != "absent":
            os.mkfifo(volume / "null") if kind == "fifo" else os.mknod(volume / "null", 0o20666, os.makedev(1, 5))
        changes = {**FULL, "mounts": [PROC, SYS, bind(volume, "/dev")], "process.capabilities": caps}
        assert start(root, "true", changes).startswith("refused: ")
    (volume / "null").unlink(missing_ok=True)
    os.mknod(volume / "null", 0o20666, os.makedev(1, 3))
    assert start(root, "stat -c %t:%T /proc/keys", changes) == "0 1:3\n"


def test_the_same_masks_without_a_trap(root: Path) -> None:
    (root / "m").write_text("hidden")
    assert start(root, "cat /m; stat -c %t:%T /m", FULL) == "0 1:3\n"
    assert start(root, "cat /m", {**FULL, "linux.maskedPaths": []}) == "0 hidden"


@pytest.mark.parametrize("target", ["/", "/tmp", "/data", "/proc/1/root", "9"])
def test_cve_2026_115521_a_read_only_root_whatever_lies_at_proc_self_fd(
    target: str, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    for n in range(24):
        plant(root, f"/proc/self/fd/{n}", target)
    places = "/ /etc /tmp /root /var/tmp /bin"
    script = f"mount -o remount,rw /; for d in {places} /data; do touch $d/x && echo wrote $d; done 2>/dev/null; true"
    changes = {**FULL, "mounts": [*FULL["mounts"], bind(tmp_path / "volume", "/data", "ro")]}
    (root / "data").mkdir()
    before = listing(root)
    assert "wrote" not in start(root, script, {**changes, "root.readonly": True})
    assert listing(root) == before and not list((tmp_path / "volume").iterdir())
    assert "wrote /\n" in start(root, script, changes)


@pytest.mark.parametrize("to", ["/v", "/", "/etc", "../../v", "/v/."])
@WAYS
def test_dev_as_a_link_puts_no_node_on_a_volume_nor_in_the_root(
    to: str, document: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    plant(root, "/dev", to)
    (root / "v").mkdir()
    before = listing(root)
    start(root, "true", {**document, "mounts": [bind(volume, "/v"), *document["mounts"]]})
    made = set(listing(root)) - set(before)
    assert list(volume.iterdir()) == [] and {Path(m).name for m in made} <= {"pts", "shm", "data"}, made


# --- who renames in it meanwhile ---------------------------------------------------------------------------------------


def race(root: Path, a: str, b: str, script: str, changes: dict[str, Any], starts: int = 200) -> Counter[str]:
    """What starts say while a container that has the root as a volume swaps root/a and root/b, ids left out."""
    with swapper(root, a, b) as swaps, ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(lambda _: start(root, script, changes), range(starts)))
        assert swaps() > 1000
    assert not [t for t in texts if not t.startswith(("refused: ", "0 ", "1 ", "127 "))]
    return Counter(t if t[0] != "r" else "refused: " + t.partition(": ")[2].partition(": ")[2] for t in texts)


# The procfs, by whichever name it has now: what of it is covered, read-only and writable.
GUARDED = r"""
for i in $(seq 400); do
  for p in proc fake; do
    m=$(cat /$p/self/mountinfo 2>/dev/null)
    [ -z "$m" ] || { echo "$m" | grep -e /sys -e /keys -e /timer_list | cut -d ' ' -f 5,6 | sed 's/,.*//;s/^.proc\|^.fake//'; exit 0; }
  done
done
echo gone
"""


@pytest.mark.race
@pytest.mark.parametrize("kind", ["directory", "link", "full"])
def test_proc_renamed_while_the_container_starts_keeps_its_guards(kind: str, root: Path, tmp_path: Path) -> None:
    """A mask whose path is absent is skipped: who takes /proc away for that moment would have it without guards."""
    if kind == "link":
        plant(root, "/fake", "/tmp")
    else:
        (root / "fake").mkdir()
    if kind == "full":
        (root / "fake/sys").mkdir()
        for name in ("keys", "timer_list"):
            (root / "fake" / name).touch()
    guards = {"linux.maskedPaths": ["/proc/keys", "/proc/timer_list"], "linux.readonlyPaths": ["/proc/sys"]}
    tmp = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
    with decoys(tmp_path / "decoy"):
        texts = race(root, "proc", "fake", GUARDED, {"mounts": [PROC, tmp], **guards})
    started = {t for t in texts if not t.startswith("refused: ")}
    whole = "0 /keys ro\n/timer_list ro\n/sys ro\n"
    assert started <= {whole, "0 gone\n"} and whole in started, texts
    assert len(texts) > 1, "no start was raced"


@pytest.mark.race
@pytest.mark.parametrize("swapped", ["dev", "etc", "tmp", "data", "w"])
def test_cve_2021_30465_a_directory_swapped_for_a_link_to_the_host(swapped: str, root: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    for name in ("w", "data"):
        (root / name).mkdir(exist_ok=True)
    (root / "w/sub").mkdir()
    with decoys(tmp_path / "decoy", volume) as kept:
        plant(root, "x", "../" * 30 + str(kept))
        (root / str(kept).lstrip("/")).mkdir(parents=True)  # inside, so that the link leads to something
        document = {**FULL, "mounts": [*FULL["mounts"], bind(volume, "/data"), {**SHM, "destination": "/tmp"}]}
        texts = race(
            root, swapped, "x", "cat secret /*/secret /dev/secret; pwd; true", {**document, "process.cwd": "/w/sub"}
        )
    assert not [t for t in texts if SECRET in t], texts


@pytest.mark.race
def test_a_tmpfs_takes_owner_and_mode_of_what_it_covers_and_gives_them_to_nothing_else(
    root: Path, tmp_path: Path
) -> None:
    """Its path may lead to a volume once it is mounted: the volume would get the attacker's owner and mode."""
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o700)
    os.chown(root / "tmp", 1234, 1234)
    plant(root, "x", "/v")
    mounts: list[dict[str, Any]] = [
        PROC,
        DEV,
        bind(volume, "/v"),
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
    ]
    with decoys(tmp_path / "decoy", volume):
        race(root, "tmp", "x", "true", {"mounts": mounts})
    own = "tmp" if not (root / "tmp").is_symlink() else "x"
    mounts[-1]["destination"] = f"/{own}"
    assert (
        start(root, f"stat -c '%u %a' /{own}; grep -c ' /{own} tmpfs rw,nosuid' /proc/mounts", {"mounts": mounts})
        == "0 1234 1777\n1\n"
    )


@pytest.mark.race
def test_the_root_renamed_away_while_containers_start(root: Path, tmp_path: Path) -> None:
    with decoys(tmp_path / "decoy"):
        texts = Counter[str]()
        stop = threading.Event()

        def away() -> None:
            while not stop.is_set():
                os.rename(root, tmp_path / "away")
                os.rename(tmp_path / "away", root)

        thread = threading.Thread(target=away)
        thread.start()
        try:
            for _ in range(150):
                texts[start(root, "echo in", FULL)[:4]] += 1
        finally:
            stop.set()
            thread.join()
    assert set(texts) <= {"0 in", "refu"} and texts["0 in"], texts


# --- tmpcopyup of a hostile directory ----------------------------------------------------------------------------------


def copied(root: Path, script: str, *options: str) -> str:
    mount = {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", *options]}
    return start(root, script, {"mounts": [PROC, mount]})


@pytest.mark.parametrize("depth", [12, 25, 31, 40, 100])
def test_a_deep_directory_does_not_overrun_the_stack(depth: int, root: Path) -> None:
    """Ten levels were enough to leave the child's stack, which is the engine's memory."""
    deep = root / "data" / "/".join(["d"] * depth)
    deep.mkdir(parents=True)
    (deep / "file").write_text("x" * 100_000)
    text = copied(root, f"wc -c </data/{'d/' * depth}file")
    assert text == "0 100000\n" if depth < 32 else text.startswith("refused: ") and "(ELOOP)" in text, text


def test_a_hostile_directory_is_copied_as_it_is(root: Path, tmp_path: Path) -> None:
    data = root / "data"
    data.mkdir()
    with decoys(tmp_path / "decoy") as kept:
        for name, to in (
            ("a", str(kept)),
            ("up", "../" * 30 + str(kept)),
            ("exe", "/proc/self/exe"),
            ("fd", "/proc/self/fd/3"),
        ):
            plant(data, name, to)
        os.link(kept / "secret", data / "hard")
        os.mkfifo(data / "fifo")
        os.mknod(data / "disk", 0o60666, os.makedev(254, 0))
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(data / "socket"))
        (data / "new\nline").write_text("x")
        script = (
            "cd /data; echo x >hard; chmod 777 hard; head -c1 disk; cat a/secret up/secret; rm -rf /data/*; ls -A /data"
        )
        text = copied(root, script)
        os.unlink(data / "hard")
    assert SECRET not in text and text.startswith("0 ") and "not permitted" in text, text


@pytest.mark.parametrize("what", ["sparse", "files"])
def test_a_bomb_fills_its_own_tmpfs_at_most(what: str, root: Path) -> None:
    data = root / "data"
    data.mkdir()
    if what == "sparse":
        with (data / "bomb").open("wb") as f:
            f.truncate(1 << 40)
    else:
        for n in range(300):
            (data / str(n)).touch()
    text = copied(root, "true", "size=64k", "nr_inodes=100")
    assert text.startswith("refused: ") and "(ENOSPC)" in text, text


# --- odd documents -----------------------------------------------------------------------------------------------------


@contextmanager
def odd(kind: str, directory: Path) -> Iterator[str]:
    path = directory / "odd"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        if kind == "file":
            path.write_text("x")
        elif kind == "link":
            path.symlink_to("/proc/self/exe")
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "fifo":
            os.mkfifo(path, 0o777)
        elif kind == "datagram":
            s.bind(str(path))
        elif kind == "directory":
            path.mkdir()
        elif kind == "device":
            os.mknod(path, 0o20666, os.makedev(1, 5))
        yield str(path)


ODD = ["file", "link", "loop", "fifo", "datagram", "directory", "device", "absent"]
NOTIFY = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_NOTIFY"}]}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("place", ["listener", "prestart", "createRuntime", "root", "mount"])
def test_a_path_of_the_document_that_is_something_odd(place: str, kind: str, root: Path, tmp_path: Path) -> None:
    """One line, no hang, and the census finds nothing left. A hook that is this Python, by a link, does run: it says so."""
    with decoys(tmp_path / "decoy"), odd(kind, tmp_path) as path:
        hook = [{"path": path, "args": ["hook", "-c", "raise SystemExit(3)"], "timeout": 3}]
        documents: dict[str, dict[str, Any]] = {
            "listener": {"linux.seccomp": NOTIFY | {"listenerPath": path}},
            "root": {"root.path": path},
            "mount": {"mounts[3]": {"destination": "/data", "type": "ext4", "source": path}},
        }
        changes = documents.get(place, {f"hooks.{place}": hook})
        assert start(root, "true", changes).startswith("refused: ")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("linux.cgroupsPath", "../../../../../etc"), ("linux.cgroupsPath", "/../.."), ("linux.cgroupsPath", "/a/../../b"),
        ("linux.cgroupsPath", "a\nb"), ("linux.cgroupsPath", "/" + "a/" * 400 + "b" * 300), ("linux.cgroupsPath", "/" + "x" * 300),
        ("linux.sysctl", {"kernel.core_pattern": "|/x"}), ("linux.sysctl", {"net.ipv4/../../kernel/core_pattern": "|/x"}),
        ("linux.sysctl", {"kernel.shm_rmid_forced": "1\nkernel.core_pattern=|/x"}), ("linux.sysctl", {"vm.overcommit_memory": "1"}),
        ("process.cwd", "/proc/self/fd/9"), ("process.cwd", "/proc/1/fd/7/.."), ("process.args", ["/proc/self/exe"]),
        ("hooks.prestart", [{"path": "relative"}]), ("root.path", "/proc/self/exe"),
    ],
)  # fmt: skip
def test_a_value_of_the_document_that_leads_elsewhere(place: str, value: Any, root: Path, tmp_path: Path) -> None:
    with decoys(tmp_path / "decoy"):
        assert start(root, "true", {place: value}).startswith("refused: ")


def test_the_odd_things_are_not_what_refuses(root: Path, tmp_path: Path) -> None:
    """The same documents with something that works."""
    hook = [{"path": "/bin/true"}]
    (tmp_path / "dir").mkdir()
    assert start(root, "echo ran", {"hooks.prestart": hook, "hooks.createRuntime": hook}) == "0 ran\n"
    assert start(root, "echo ran", {"mounts[3]": bind(tmp_path / "dir", "/data")}) == "0 ran\n"
    assert start(root, "echo ran", {"linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}) == "0 ran\n"


@pytest.mark.race
def test_dev_exchanged_for_a_volume_gets_no_nodes_there(root: Path, tmp_path: Path) -> None:
    """Both are mounts of the container; who may rename in its root makes /dev the volume while the nodes are made."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (root / "v").mkdir()
    with decoys(tmp_path / "decoy", volume):
        said = race(root, "dev", "v", "true", {"mounts": [PROC, bind(volume, "/v"), DEV, PTS]}, starts=100)
    assert [text for text in said if "renames directories in the root" in text], said  # it did happen
