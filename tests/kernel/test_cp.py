"""Files in and out of containers: running, paused, created, stopped, in the foreground; with mounts, and of every kind.

What the path rules are, tests/clients/test_cp_docker.py asks docker itself.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import census
import pytest
from copies import facts, special_tree
from ordinary_user import OrdinaryUser
from staying import PYCONTAIN, SLEEPER, command, run

from pycontain.engine import containers, copying
from pycontain.errors import InvalidArgument, NotFound
from pycontain.runtime import detached
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]


@pytest.fixture
def place(base: str, tmp_path: Path) -> Iterator[Path]:
    """A directory on a real file system."""
    yield tmp_path


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def archive_of(*words: str) -> bytes:
    return subprocess.run([*PYCONTAIN, "cp", *words, "-"], capture_output=True, check=True, timeout=60).stdout


# --- states -----------------------------------------------------------------------------------------------------------


def _in_state(name: str, state: str, *options: str) -> None:
    if state == "created":
        command("create", "--name", name, *options, *SLEEPER)
        return
    run("--name", name, *options, *SLEEPER)
    if state == "paused":
        command("pause", name)
    if state == "stopped":
        command("stop", "-t", "0", name)


@pytest.mark.parametrize("state", ["running", "paused", "created", "stopped"])
def test_there_and_back_in_each_state(state: str, place: Path) -> None:
    special_tree(place / "tree")
    _in_state("web", state)
    command("cp", "-a", str(place / "tree"), "web:/srv")
    command("cp", "-a", "web:/srv/tree", str(place / "back"))
    expected = facts(place / "tree", owners=True)
    found = facts(place / "back", owners=True)
    # the mode of a device is cut on its way out
    assert found.pop(b"null")[0] == "0o20600" and expected.pop(b"null")[0] == "0o20666"
    assert found == expected
    assert os.stat(place / "back/holes").st_blocks < 1000
    assert os.stat(place / "back/file").st_ino == os.stat(place / "back/same").st_ino
    if state == "running":
        seen = command("exec", "web", "stat", "-c", "%u:%g %Y %a", "/srv/tree/file").stdout
        assert seen == "1234:2345 1234567890 640\n"


def test_a_created_one_starts_with_what_was_copied(place: Path) -> None:
    (place / "program").write_text("#!/bin/sh\necho copied; exit 5\n")
    (place / "program").chmod(0o755)
    command("create", "--name", "job", "host", "/srv/program")
    command("cp", str(place / "program"), "job:/srv/program")
    command("start", "job")
    assert command("wait", "job").stdout == "5\n" and command("logs", "job").stdout == "copied\n"
    assert command("diff", "job").stdout == "C /srv\nA /srv/program\n"


def test_one_in_the_foreground(place: Path) -> None:
    (place / "file").write_text("in")
    words = [*PYCONTAIN, "run", "--rm", "-i", "--name", "front", "host", "sh", "-c", "echo up; read word"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as front:
        assert front.stdout is not None and front.stdout.readline() == b"up\n"
        command("cp", str(place / "file"), "front:/tmp/file")
        command("cp", "front:/tmp/file", str(place / "out"))
        assert (place / "out").read_text() == "in"
        front.communicate(b"end\n", timeout=30)
    assert "No such container" in command("cp", "front:/tmp/file", "-", code=1).stderr


def test_a_container_whose_program_is_missing(place: Path) -> None:
    """`create` and `cp` is how files are taken out of an image."""
    command("create", "--name", "files", "host", "/no/such/program")
    command("cp", "files:/etc/passwd", str(place / "passwd"))
    assert (place / "passwd").read_bytes() == Path("/etc/passwd").read_bytes()


def test_what_the_host_image_hides_stays_hidden() -> None:
    _in_state("web", "created")
    assert (
        "Could not find the file /etc/shadow in container web" in command("cp", "web:/etc/shadow", "-", code=1).stderr
    )


# --- owners -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize("userns", [False, True])
def test_owners(state: str, userns: bool, place: Path) -> None:
    (place / "file").write_text("x")
    os.chown(place / "file", 1234, 2345)
    _in_state("web", state, *(("--userns", "0:200000:65536") if userns else ()))
    command("cp", str(place / "file"), "web:/srv/plain")
    command("cp", "-a", str(place / "file"), "web:/srv/kept")
    with tarfile.open(fileobj=io.BytesIO(archive_of("web:/srv"))) as archive:
        owners = {each.name: (each.uid, each.gid) for each in archive}
    assert owners == {"srv": (0, 0), "srv/plain": (0, 0), "srv/kept": (1234, 2345)}
    command("cp", "web:/srv/kept", str(place / "mine"))
    command("cp", "-a", "web:/srv/kept", str(place / "kept"))
    found = [(os.stat(place / name).st_uid, os.stat(place / name).st_gid) for name in ("mine", "kept")]
    assert found == [(0, 0), (1234, 2345)]


def test_an_owner_that_the_container_does_not_have(place: Path) -> None:
    (place / "file").write_text("x")
    os.chown(place / "file", 1234, 2345)
    _in_state("web", "created", "--userns", "0:200000:1000")
    done = command("cp", "-a", str(place / "file"), "web:/srv/kept", code=1)
    assert "uid 1234 is not in the id map" in done.stderr and done.stderr.count("\n") == 1


# --- mounts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "created", "stopped"])
@pytest.mark.parametrize("userns", [(), ("--userns", "0:200000:65536")])
def test_in_and_through_mounts(state: str, userns: tuple[str, ...], place: Path) -> None:
    (place / "data").mkdir()
    (place / "data/there").write_text("of the host")
    (place / "file").write_text("new")
    _in_state("web", state, "-v", f"{place}/data:/srv/deep/data", *userns)
    assert names(archive_of("web:/srv")) == ["srv", "srv/deep", "srv/deep/data", "srv/deep/data/there"]
    command("cp", str(place / "file"), "web:/srv/deep/data/made")
    assert (place / "data/made").read_text() == "new"
    command("cp", "web:/srv/deep/data/.", str(place / "out"))
    assert sorted(os.listdir(place / "out")) == ["made", "there"]


@pytest.mark.parametrize("state", ["running", "created"])
def test_what_is_read_only_is_refused_as_docker_does(state: str, place: Path) -> None:
    (place / "data").mkdir()
    (place / "file").write_text("new")
    _in_state("web", state, "--read-only", "-v", f"{place}/data:/srv:ro", "-v", f"{place}:/mnt")
    file = str(place / "file")
    assert command("cp", file, "web:/srv/x", code=1).stderr == "pycontain: mounted volume is marked read-only\n"
    assert command("cp", file, "web:/root/x", code=1).stderr == "pycontain: container rootfs is marked read-only\n"
    command("cp", file, "web:/mnt/made")
    assert (place / "made").read_text() == "new"


def test_a_mount_over_a_file_stays(place: Path) -> None:
    (place / "file").write_text("new")
    (place / "mounted").write_text("old")
    _in_state("web", "running", "-v", f"{place}/mounted:/srv/file")
    assert "Device or resource busy (EBUSY)" in command("cp", str(place / "file"), "web:/srv/file", code=1).stderr
    assert (place / "mounted").read_text() == "old"


def test_the_kernels_files_are_not_copied(place: Path) -> None:
    _in_state("web", "running", "--tmpfs", "/srv/tmp")
    command("exec", "web", "sh", "-c", "echo x > /srv/tmp/file")
    assert names(archive_of("web:/srv")) == ["srv", "srv/tmp", "srv/tmp/file"]
    assert [each for each in names(archive_of("web:/dev")) if "pts" in each] == ["dev/pts"]
    assert "the kernel makes it up" in command("cp", "web:/proc/version", str(place / "x"), code=1).stderr
    assert "the kernel makes it up" in command("cp", "/proc/version", "web:/srv/x", code=1).stderr
    assert not (place / "x").exists()


# --- much -------------------------------------------------------------------------------------------------------------


def test_ten_thousand_files(place: Path, roots: Roots) -> None:
    (place / "many").mkdir()
    for number in range(10_000):
        (place / "many" / f"{number % 100:02}").mkdir(exist_ok=True)
        (place / "many" / f"{number % 100:02}" / f"{number}").write_bytes(b"%d" % number)
    _in_state("web", "created")
    copying.copy_in(roots, "web", str(place / "many"), "/srv")
    size = copying.copy_out(roots, "web", "/srv/many", str(place / "back"))
    assert size == (1 + 100 + 20_000 + 2) * 512
    assert facts(place / "back") == facts(place / "many")


def test_a_huge_file_in_bounded_memory(place: Path) -> None:
    with open(place / "huge", "wb") as file:
        file.truncate(1 << 30)
    _in_state("web", "created")
    limited = ["prlimit", "--as=400000000", *PYCONTAIN]
    for words in (("cp", str(place / "huge"), "web:/srv/huge"), ("cp", "web:/srv/huge", str(place / "back"))):
        subprocess.run([*limited, *words], check=True, timeout=120)
    assert os.stat(place / "back").st_size == 1 << 30 and os.stat(place / "back").st_blocks < 1000


# --- streams, stat and words ------------------------------------------------------------------------------------------


def _tar(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid = len(text), 77
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.mark.parametrize("program", ["cat", "gzip", "xz", "zstd"])
def test_a_tar_on_standard_input(program: str, roots: Roots) -> None:
    _in_state("web", "created")
    data = subprocess.run([program], input=_tar(one="1", two="2"), capture_output=True, check=True).stdout
    done = subprocess.run([*PYCONTAIN, "cp", "-", "web:/srv"], input=data, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    with copying.archive_out(roots, "web", "/srv/one") as archive:
        buffer = bytearray(4096)
        assert archive.readinto(buffer) and b"one" in buffer
        assert (archive.info.name, archive.info.size) == ("one", 1)


def test_a_tar_that_is_cut_short() -> None:
    _in_state("web", "created")
    done = subprocess.run(
        [*PYCONTAIN, "cp", "-", "web:/srv"], input=_tar(one="1")[:600], capture_output=True, timeout=60
    )
    assert done.returncode == 1 and b"cannot copy to web:/srv: malformed tar" in done.stderr


def test_what_a_path_is(place: Path, roots: Roots) -> None:
    special_tree(place / "tree")
    _in_state("web", "created")
    command("cp", str(place / "tree"), "web:/srv")
    file = copying.path_info(roots, "web", "/srv/tree/file")
    assert (file.name, file.size, oct(file.mode), file.mtime_ns, file.link_target) == (
        "file", 8, "0o100640", 1_234_567_890_123_456_789, "",
    )  # fmt: skip
    assert copying.path_info(roots, "web", "srv/tree/link").link_target == "/nowhere/at/all"
    assert copying.path_info(roots, "web", "/").name == "/"
    with pytest.raises(NotFound, match="Could not find the file /srv/none in container web"):
        copying.path_info(roots, "web", "/srv/none")
    with pytest.raises(InvalidArgument, match="NUL"):
        copying.path_info(roots, "web", "/srv/\0")


def test_what_it_says(place: Path) -> None:
    (place / "file").write_text("x")
    _in_state("web", "created")
    script = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    for options, said in (((), "Successfully copied 2.05kB to web:/srv/x"), (("-q",), "")):
        done = subprocess.run(
            [PYCONTAIN[0], "-c", script, *PYCONTAIN, "cp", *options, str(place / "file"), "web:/srv/x"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == said
    assert command("cp", "web:/srv/x", str(place / "y")).stderr == ""  # no terminal
    assert command("container", "cp", "web:/srv/x", str(place / "z")).stdout == ""


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("web:/a", "web:/b"), "copying between containers is not supported"),
        (("a", "b"), "must specify at least one container source"),
        (("-", "b"), "must specify at least one container source"),
        (("", "web:/b"), "source can not be empty"),
        (("web:/b", ""), "destination can not be empty"),
        (("web:/srv/none", "-"), "Could not find the file /srv/none in container web"),
        (("./a:b", "web:/srv"), "cannot copy"),
        (("nosuch:/a", "-"), "No such container: nosuch"),
        (("web:/etc/passwd", "/dev/null"), 'destination "/dev/null" must be a directory or a regular file'),
        (("/etc", "web:/etc/passwd"), "cannot copy directory"),
        (("/etc/passwd", "web:/srv/none/"), "no such directory"),
    ],
)
def test_one_line_for_what_cannot_be(words: tuple[str, ...], phrase: str) -> None:
    _in_state("web", "created")
    done = command("cp", *words, code=1)
    assert phrase in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""


def test_a_start_waits_for_a_copy(roots: Roots) -> None:
    _in_state("web", "created")
    with copying.archive_out(roots, "web", "/srv"):
        starting = subprocess.Popen([*PYCONTAIN, "start", "web"], stdout=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            starting.wait(1)
        assert command("ps", "-q").stdout == ""
    assert starting.wait(30) == 0
    assert command("ps", "-q").stdout != ""


@pytest.mark.parametrize("userns", [(), ("--userns", "0:1:1000")])
def test_an_ordinary_users(userns: tuple[str, ...], user: OrdinaryUser) -> None:
    def done(*words: str) -> str:
        ended = user.pycontain(*words)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    tree = user.home / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_text("in\n")
    (user.home / "data").mkdir()
    for path in (tree, tree / "sub", tree / "sub/file", user.home / "data"):
        os.chown(path, user.uid, user.uid)
    done("create", "--name", "kept", "-v", f"{user.home}/data:/mnt", *userns, "host", "sleep", "100")
    try:
        done("cp", "tree", "kept:/tmp")
        done("cp", "kept:/tmp/tree", "out1")
        done("start", "kept")
        done("cp", "kept:/tmp/tree/sub/file", "out2")
        assert done("exec", "kept", "stat", "-c", "%u", "/tmp/tree/sub/file") == "0\n"
        names = ["out1/sub/file", "out2"]
        if not userns:  # the volume is the user's, who is nobody in a namespace of other ids
            done("cp", "tree/sub/file", "kept:/mnt/file")
            names.append("data/file")
    finally:
        done("rm", "-f", "kept")
    for name in names:
        path = user.home / name
        assert path.read_text() == "in\n" and os.stat(path).st_uid == user.uid
    subprocess.run(["rm", "-r", *(str(user.home / name) for name in ("tree", "data", "out1", "out2"))], check=True)
    for root in (user.data_root, user.run_root):  # empty
        for name in ("containers/names", "containers"):
            if (root / name).is_dir():
                (root / name).rmdir()


def test_a_copy_that_is_killed_leaves_the_container_as_it_was(roots: Roots) -> None:
    """What was mounted for it goes with it, and the container can be started."""
    _in_state("web", "created")
    copying_in = subprocess.Popen([*PYCONTAIN, "cp", "-", "web:/srv"], stdin=subprocess.PIPE)
    assert copying_in.stdin is not None
    try:
        copying_in.stdin.write(_tar(one="1", two="2" * 1_000_000)[:500_000])
        copying_in.stdin.flush()
        layer = Path(detached.directory_of(roots, containers.find_container(roots, "web").id), "layer")
        assert census.poll_until((layer / "upper/srv/one").exists)
    finally:
        copying_in.kill()
    copying_in.wait(30)
    copying_in.stdin.close()
    command("start", "web")
    assert command("exec", "web", "cat", "/srv/one").stdout == "1"
    command("stop", "-t", "0", "web")


def test_one_that_waits_for_its_next_start(roots: Roots) -> None:
    run("--name", "web", "--restart", "always", "host", "false")
    assert census.poll_until(lambda: containers.find_container(roots, "web").state == "restarting")
    found = containers.find_container(roots, "web").state
    done = subprocess.run([*PYCONTAIN, "cp", "web:/etc/passwd", "-"], capture_output=True, timeout=60)
    assert (
        done.returncode == 0 or b"is about to be restarted: try again" in done.stderr or b"has ended" in done.stderr
    ), found
    command("rm", "-f", "web")
