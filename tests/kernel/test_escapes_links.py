"""Escapes by links and races: mount targets swapped on a shared volume, stray files, binds renamed away, hidden files."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attacks import PRELUDE, attack, decoys, evil_image, outcome, plant, swapper
from probes import SECRET, living, sh
from test_escapes_devices import on_terminal

import pycontain
from pycontain.errors import SetupFailed

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

ROUNDS = 10_000  # swaps and starts together, of each race


@pytest.fixture
def image(tmp_path: Path, busybox_root: str) -> Path:
    return evil_image(tmp_path / "image", busybox_root)


def far(kept: Path) -> list[str]:
    return [str(kept), "../" * 40 + str(kept).lstrip("/"), f"/proc/self/root{kept}", "/proc/1/cwd", f"/./../..{kept}"]


# --- without a race ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bind", "file", "tmpfs", "device", "workdir"])
def test_cve_2019_18837_a_link_on_a_volume_leads_no_mount_target_out(kind: str, image: Path, tmp_path: Path) -> None:
    """The link lies on a volume, which is the host's directory itself: what is made below it would be made on the host."""
    volume, source = tmp_path / "vol", tmp_path / "source"
    volume.mkdir()
    source.mkdir()
    (tmp_path / "file").write_text("f")
    options: dict[str, dict[str, Any]] = {
        "bind": {"mounts": [f"{volume}:/v", f"{source}:/v/a/new"]},
        "file": {"mounts": [f"{volume}:/v", f"{tmp_path / 'file'}:/v/a/new"]},
        "tmpfs": {"mounts": [f"{volume}:/v"], "tmpfs": ["/v/a/new"]},
        "device": {"mounts": [f"{volume}:/v"], "devices": ["/dev/null:/v/a/new"]},
        "workdir": {"mounts": [f"{volume}:/v"], "workdir": "/v/a/new"},
    }
    with decoys(tmp_path / "decoy", source) as kept:
        for to in far(kept):
            plant(volume, "a", to)
            said = outcome(image, "cat /v/a/new/secret /v/a/secret; echo x >/v/a/sub/x", **options[kind])
            assert SECRET not in said
            assert os.listdir(volume) == ["a"]


def test_cve_2019_18837_dangling_links_make_nothing_on_the_host(image: Path, tmp_path: Path) -> None:
    """A target that does not exist yet, named by a link: whoever follows it on the host makes it there."""
    new = tmp_path / "never-made"
    volume = tmp_path / "vol"
    volume.mkdir()
    for at in ("sbin/docker-init", "etc/hosts", "etc/hostname", "dev/console", "dev/shm", "dev/mqueue", "data", "w"):
        plant(image, at, str(new))
    options: dict[str, Any] = {"init": True, "hostname": "web", "add_host": {"db": "10.0.0.1"}, "workdir": "/w"}
    for extra in ({}, {"read_only": True}, {"mounts": [f"{volume}:/data"]}, {"tmpfs": ["/data/x"]}):
        for terminal in (False, True):
            outcome(image, "true", **options, **extra) if not terminal else on_terminal(
                image, "true", **options, **extra
            )
            assert not os.path.lexists(new)
    assert os.listdir(volume) == []


# --- races on a shared volume ------------------------------------------------------------------------------------------


def tree(path: Path) -> set[str]:
    return {str(p) for p in path.rglob("*")}


def race(image: Path, volume: Path, starts: int, script: str, **options: Any) -> tuple[Counter[str], int]:
    """``starts`` starts by two threads, while a container swaps volume/a (a directory) and volume/b (a link)."""
    with swapper(volume, "a", "b") as swaps, ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda _: outcome(image, script, **options), range(starts)))
        return Counter(said), swaps()


@pytest.mark.race
@pytest.mark.parametrize("kind", ["tmpfs", "bind", "file"])
def test_cve_2021_30465_a_mount_target_swapped_while_the_container_starts(
    kind: str, image: Path, tmp_path: Path
) -> None:
    """Each start has failed cleanly, or its mount can be seen from its root: what is mounted outside of it cannot."""
    volume, source = tmp_path / "vol", tmp_path / "source"
    (volume / "a/t").mkdir(parents=True)
    source.mkdir()
    (source / "file").write_text("mine")
    with decoys(tmp_path / "decoy", source) as kept:
        plant(volume, "b", "../" * 30 + f"{kept}")
        (image / str(kept).lstrip("/")).mkdir(parents=True)  # the same path inside, so that the link leads to something
        mount = {"tmpfs": [], "bind": [f"{source}:/v/a/t"], "file": [f"{source}/file:/v/a/f"]}[kind]
        extra: dict[str, Any] = {"tmpfs": ["/v/a/t:size=12k"]} if kind == "tmpfs" else {}
        script = "grep -e 'size=12k' -e '/source' /proc/self/mountinfo | cut -d ' ' -f 5"
        said, swaps = race(image, volume, 300, script, mounts=[f"{volume}:/v", *mount], **extra)
    mounted = {s[2:].strip(): n for s, n in said.items() if s.startswith("0 ")}
    leaf = "f" if kind == "file" else "t"
    assert set(mounted) <= {f"/v/{name}/{leaf}" for name in "ab"} | {f"{kept}/{leaf}"}, mounted
    assert len(mounted) > 1, "no start was raced"
    assert all(s.startswith(("0 ", "refused: ")) for s in said)
    assert swaps + sum(said.values()) >= ROUNDS, (swaps, said)


def where_mounted(image: Path, volume: Path) -> str:
    """The place of the one tmpfs, told by a program that is one execve; or that the start was refused."""
    mounts = [pycontain.bind(str(volume), "/v")]
    argv = ["grep", "size=12k", "/proc/self/mountinfo"]
    try:
        r = pycontain.run(
            str(image), argv, mounts=mounts, tmpfs=["/v/a/t:size=12k"], text=True, network="host", ipc="host", uts="host"
        )  # fmt: skip
    except SetupFailed as e:
        return f"refused at {e.step}"
    return " ".join(line.split()[4] for line in str(r.stdout).splitlines()) if r.exit_code == 0 else f"odd: {r}"


@pytest.mark.race
@pytest.mark.timeout(600)
def test_cve_2021_30465_ten_thousand_starts_against_one_who_swaps(image: Path, tmp_path: Path) -> None:
    """The starts themselves are the ten thousand; half a minute of each of two cores, beside the swapper's."""
    volume = tmp_path / "vol"
    (volume / "a/t").mkdir(parents=True)
    with decoys(tmp_path / "decoy") as kept:
        plant(volume, "b", "../" * 30 + f"{kept}")
        (image / str(kept).lstrip("/") / "t").mkdir(parents=True)
        with swapper(volume, "a", "b") as swaps, ThreadPoolExecutor(2) as pool:
            found = Counter(pool.map(lambda _: where_mounted(image, volume), range(ROUNDS)))
            assert swaps() > ROUNDS
        assert Path("/proc/self/mountinfo").read_text().count("size=12k") == 0
    places = {place for place in found if not place.startswith("refused at ")}
    assert places <= {"/v/a/t", "/v/b/t", f"{kept}/t"}, found
    assert len(places) > 1 and sum(found.values()) == ROUNDS, found


@pytest.mark.race
def test_cve_2024_45310_no_stray_file_outside_of_the_volume(image: Path, tmp_path: Path) -> None:
    """Missing targets are made while their parent is swapped for links; whatever is made is inside or on the volume."""
    volume, source = tmp_path / "vol", tmp_path / "source"
    (volume / "a").mkdir(parents=True)
    source.mkdir()
    with decoys(tmp_path / "decoy", source) as kept:
        before = tree(tmp_path)
        plant(volume, "b", "../" * 30 + f"{kept}/sub")
        mounts = [f"{volume}:/v", f"{source}:/v/a/one/two/three"]
        said, swaps = race(image, volume, 300, "true", mounts=mounts, workdir="/v/a/w", tmpfs=["/v/a/x/y"])
        made = tree(tmp_path) - before
    allowed = {
        f"{volume}/{p}"
        for p in ("a", "b", *(f"{d}/{p}" for d in "ab" for p in ("one", "one/two", "one/two/three", "w", "x", "x/y")))
    }
    assert made <= allowed, made - allowed
    assert {s[:2] for s in said} == {"0 ", "re"}, "no start was raced"
    assert swaps + sum(said.values()) >= ROUNDS, (swaps, said)


# --- the host renames what is bound ------------------------------------------------------------------------------------

RENAMED = """
os.chdir('/b/in/deep')
held = os.open('.', os.O_RDONLY)
say('ready')
for line in sys.stdin:
    climbed = []
    for _ in range(8):
        climbed.append(attempt(os.chdir, '..'))
    try: names = os.listdir('.')
    except OSError as e: names = [why(e.errno)]
    by_fd = attempt(lambda: os.open('../../secret', os.O_RDONLY, dir_fd=held))
    try: where = os.getcwd()
    except OSError as e: where = why(e.errno)
    say([climbed, names, by_fd, where])
"""


def test_a_directory_renamed_out_of_its_bind_does_not_lead_out(tmp_path: Path) -> None:
    """The classic: its working directory is moved, on the host, to where ``..`` would be the host's."""
    (tmp_path / "bound/in/deep").mkdir(parents=True)
    args = ("python3", "-I", "-S", "-c", PRELUDE + RENAMED)
    with decoys(tmp_path / "decoy") as kept:
        mounts = [pycontain.bind(str(tmp_path / "bound"), "/b")]
        with living(*args, mounts=mounts, stdin=pycontain.PIPE, stdout=pycontain.PIPE, text=True) as c:
            assert c.stdin is not None and c.stdout is not None
            c.stdout.readline()
            os.rename(tmp_path / "bound/in", kept / "sub/in")
            c.stdin.write("now\n")
            answer = c.stdout.readline()
        os.rename(kept / "sub/in", tmp_path / "bound/in")
    assert SECRET not in answer and "secret" not in answer
    assert '"ENOENT"' in answer or '"/"' in answer


# --- hidden files of the image "host" ----------------------------------------------------------------------------------

HIDDEN = """
def opened(path): return attempt(lambda: os.close(os.open(path, os.O_RDONLY)))
def everything(path):
    attempt(os.unlink, '/tmp/s')
    os.symlink(path, '/tmp/s')
    return [opened(path), opened('/tmp/s'), opened('/proc/1/root' + path), attempt(os.link, path, '/tmp/l'),
            attempt(os.rename, path, path + '2'), attempt(os.lstat, path), attempt(os.listxattr, path)]
first = everything('/etc/shadow')
open('/etc/shadow', 'w').close(); os.unlink('/etc/shadow')
again = everything('/etc/shadow')
attempt(os.rename, '/etc', '/etc2')
after = [opened(d + '/shadow') for d in ('/etc', '/etc2')]
found = []
for d in ('/root', '/home', '/srv', '/mnt', '/run'):
    if not os.path.isdir(d): continue
    attempt(os.rmdir, d), attempt(os.mkdir, d)
    found += os.listdir(d)
    attempt(os.rename, d, '/moved')
    found += os.listdir('/moved') if os.path.isdir('/moved') else []
    attempt(os.rmdir, '/moved')
steered = [attempt(os.removexattr, '/root', 'trusted.overlay.opaque'), attempt(os.setxattr, '/tmp', 'trusted.overlay.redirect', b'/root')]
say([first, again, after, found, steered])
"""


def test_hidden_files_of_the_host_image_stay_hidden() -> None:
    """By link, by rename of what hides them, by removing and making it again, by the overlay's own attributes."""
    first, again, after, found, steered = attack(HIDDEN)
    assert set(first) == set(again) == set(after) == {"ENOENT"}
    assert found == []
    assert "ok" not in steered


def test_nor_are_they_found_below_a_copied_directory() -> None:
    said = sh(
        "cp -a /etc /tmp/etc 2>/dev/null; ls /tmp/etc/shadow /tmp/etc/gshadow /tmp/etc/sudoers 2>/dev/null; ls -A /root /home"
    )
    assert "shadow" not in said and "sudoers" not in said


HARDLINK = """
made = attempt(os.link, '/ro/secret', '/rw/stolen')
cross = attempt(os.rename, '/ro/secret', '/rw/stolen')
say([made, cross, attempt(touch, '/ro/secret'), attempt(os.link, '/proc/self/fd/0', '/rw/x')])
"""


def test_a_hard_link_from_a_read_only_bind_into_a_writable_one_is_refused(tmp_path: Path) -> None:
    """Both on one file system: by a link in the other the file could be written."""
    (tmp_path / "rw").mkdir()
    with decoys(tmp_path / "decoy") as kept:
        mounts = [pycontain.bind(str(kept), "/ro", read_only=True), pycontain.bind(str(tmp_path / "rw"), "/rw")]
        made, cross, written, _ = attack(HARDLINK, mounts=mounts)
    assert (made, cross, written) == ("EXDEV", "EXDEV", "EROFS")
    assert list((tmp_path / "rw").iterdir()) == []


# Puts a link where a node has just been made, and takes it away again.
REPLACE = """
os.chdir('/s')
say('ready')
while True:
    attempt(os.symlink, '/mine/secret', 'l')
    attempt(os.rename, 'l', 'null')
    attempt(os.unlink, 'null')
"""


@pytest.mark.race
def test_a_device_node_swapped_for_a_link_leaves_other_files_as_they_are(image: Path, tmp_path: Path) -> None:
    """A container that shares a volume with another makes the other's start change the mode of a file it cannot reach."""
    shared, mine = tmp_path / "shared", tmp_path / "mine"
    shared.mkdir()
    args = ("python3", "-I", "-S", "-c", PRELUDE + REPLACE)
    with decoys(mine) as kept:
        os.chmod(kept / "secret", 0o600)
        with living(*args, mounts=[pycontain.bind(str(shared), "/s")], stdout=pycontain.PIPE, text=True) as c:
            assert c.stdout is not None and c.stdout.readline() == '"ready"\n'
            modes: list[int] = []
            while len(modes) < 400 and set(modes) <= {0o600}:
                outcome(image, "true", mounts=[f"{shared}:/s", f"{mine}:/mine"], devices=["/dev/full:/s/null"])
                modes.append((kept / "secret").stat().st_mode & 0o7777)
        os.chmod(kept / "secret", 0o644)
    assert set(modes) == {0o600}, f"after {len(modes)} starts"
