"""linux.cgroupsPath: what is made and removed for it, and which cgroups are refused."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from probes import cgroup_dirs, runs

from pycontain import _native, host
from pycontain.errors import Conflict, InvalidArgument, SetupFailed, Unsupported
from pycontain.runtime.cgroup_tree import Claim, claim, hand_down, read
from pycontain.spec.runtime import CPU, HugepageLimit, Memory, Resources
from tests.own_documents import at_path

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

NAME = f"pct-path-{os.getpid()}"
LIMITED = Resources(memory=Memory(limit=64 << 20), cpu=CPU(cpus="0"), pids_limit=9)


def places() -> list[Path]:
    """The top of each hierarchy."""
    facts = host.probe()
    return [Path(m) for m in dict.fromkeys([*(c.mount for c in facts.controllers.values()), facts.unified]) if m]


def found(name: str = NAME) -> list[str]:
    return [str(p / name) for p in places() if (p / name).exists()]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    left = found()
    for path in left:
        _native.remove_cgroup(path)
    assert not left


@contextlib.contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the test's own."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def existing(mount: str, name: str = NAME) -> Iterator[Path]:
    path = Path(mount) / name
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        _native.remove_cgroup(str(path))


def test_an_absolute_path_is_where_it_says_and_all_levels_go_again() -> None:
    with at_path(f"/{NAME}/a/b", LIMITED) as (pid, claimed):
        dirs = cgroup_dirs(pid)
        for name in ("memory", "pids", "cpuset", "freezer", "devices", "blkio"):
            if name in host.probe().controllers:
                v2 = host.probe().controllers[name].version == 2
                assert str(dirs["" if v2 else name]).endswith(f"/{NAME}/a/b")
        assert {read(f"{d}/pids.max") for n, d in dirs.items() if n in ("", "pids") and (d / "pids.max").exists()} == {
            "9"
        }
        assert all("/pct-path-" in path for path in claimed.made)
    assert not runs(pid)


def test_a_relative_path_is_below_our_own_base() -> None:
    with at_path(f"{NAME}/a", Resources()) as (pid, _):
        assert any(str(d).endswith(f"/pycontain/{NAME}/a") for d in cgroup_dirs(pid).values())
    assert not found(f"pycontain/{NAME}")


def test_levels_that_were_there_stay() -> None:
    mounts = [str(p) for p in places()]
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(existing(m)) for m in mounts]
        with at_path(f"/{NAME}/a", Resources()) as (pid, _):
            assert runs(pid)
        assert all(p.exists() and not (p / "a").exists() for p in kept)


def test_an_empty_cgroup_that_was_there_is_used_emptied_and_kept() -> None:
    mounts = [str(p) for p in places()]
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(existing(m)) for m in mounts]
        with at_path(f"/{NAME}", Resources(), "sh", "-c", "sleep 600 & wait") as (pid, claimed):
            assert not claimed.made and runs(pid)
        assert all(p.exists() and not (p / "cgroup.procs").read_text() for p in kept)


@pytest.mark.parametrize("below", ["", "x"])
def test_a_cgroup_with_processes_is_refused(below: str) -> None:
    mount = host.probe().controllers["memory"].mount
    with existing(mount) as path, sleeper() as process:
        (path / below).mkdir(exist_ok=True)
        (path / below / "cgroup.procs").write_text(str(process.pid))
        with pytest.raises(Conflict, match=rf"is in use: 1 processes are in it \({process.pid}\)"):
            claim(Resources(), host.probe(), f"/{NAME}")
        assert process.poll() is None and found() == [str(path)]  # what it had made elsewhere is gone again


def test_a_frozen_v1_cgroup_is_refused() -> None:
    where = host.probe().controllers.get("freezer")
    if where is None:
        pytest.skip("this host has no v1 freezer controller")
    with existing(where.mount) as path:
        (path / "freezer.state").write_text("FROZEN")
        with pytest.raises(Conflict, match="is frozen: nothing would run in it"):
            claim(Resources(), host.probe(), f"/{NAME}")


def test_a_frozen_v2_cgroup_is_refused() -> None:
    unified = host.probe().unified
    if not unified:
        pytest.skip("this host has no cgroup v2")
    with existing(unified) as path:
        (path / "cgroup.freeze").write_text("1")
        with pytest.raises(Conflict, match="is frozen: nothing would run in it"):
            claim(Resources(), host.probe(), f"/{NAME}")


def test_one_below_a_frozen_cgroup_is_refused() -> None:
    where = host.probe().controllers.get("freezer")
    if where is None:
        pytest.skip("this host has no v1 freezer controller")
    with existing(where.mount) as path:
        (path / "a").mkdir()
        (path / "freezer.state").write_text("FROZEN")
        with pytest.raises(Conflict, match="is frozen"):
            claim(Resources(), host.probe(), f"/{NAME}/a")
        with pytest.raises(Conflict, match="is frozen"):
            claim(Resources(), host.probe(), f"/{NAME}/new")


def test_a_threaded_cgroup_is_refused() -> None:
    unified = host.probe().unified
    if not unified:
        pytest.skip("this host has no cgroup v2")
    with existing(unified) as path:
        (path / "a").mkdir()
        (path / "a" / "cgroup.type").write_text("threaded")
        with pytest.raises(Conflict, match="is of the type 'threaded'"):
            claim(Resources(), host.probe(), f"/{NAME}/a")


def test_a_path_that_climbs_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"linux\.cgroupsPath"):
        claim(Resources(), host.probe(), f"/{NAME}/../x")


def test_a_name_that_is_taken_by_a_file_is_refused() -> None:
    with pytest.raises(SetupFailed, match=r"cannot make the cgroup .*/cgroup\.procs/x"):
        claim(Resources(), host.probe(), "/cgroup.procs/x")


def test_controllers_are_handed_down_at_every_level() -> None:
    where = host.probe().controllers.get("hugetlb")
    if where is None or where.version == 1:
        pytest.skip("this host has no hugetlb controller in cgroup v2")
    asked = Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=4 << 20),))
    with at_path(f"/{NAME}/a/b", asked) as (pid, _):
        directory = cgroup_dirs(pid)[""]
        assert str(directory) == f"{where.mount}/{NAME}/a/b"
        assert read(f"{directory}/hugetlb.2MB.rsvd.max") == read(f"{directory}/hugetlb.2MB.max") == str(4 << 20)


def test_a_level_with_processes_cannot_hand_down() -> None:
    where = host.probe().controllers.get("hugetlb")
    if where is None or where.version == 1:
        pytest.skip("this host has no hugetlb controller in cgroup v2")
    asked = Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=4 << 20),))
    with existing(where.mount) as path, sleeper() as process:
        (path / "cgroup.procs").write_text(str(process.pid))
        message = (
            rf"cannot hand down the hugetlb controller from {path} \(EBUSY\): processes are in it \({process.pid}\)"
        )
        with pytest.raises(Unsupported, match=message):
            claim(asked, host.probe(), f"/{NAME}/a")
        assert not (path / "a").exists() and read(f"{path}/cgroup.type") == "domain"


def test_one_controller_that_is_not_to_be_had_takes_no_other_with_it() -> None:
    where = host.probe().controllers.get("hugetlb")
    if where is None or where.version == 1:
        pytest.skip("this host has no hugetlb controller in cgroup v2")
    with existing(where.mount) as path:
        hand_down(where.mount, ("hugetlb",), frozenset())
        hand_down(str(path), ("nowhere", "hugetlb"), frozenset())
        assert read(f"{path}/cgroup.subtree_control") == "hugetlb"


def test_one_that_is_removed_meanwhile_is_named() -> None:
    def remove(claimed: Claim) -> None:
        os.rmdir(claimed.made[-1])

    with (
        pytest.raises(SetupFailed, match=rf"open the cgroup .*/{NAME}/a: it has been removed meanwhile \(ENOENT\)"),
        at_path(f"/{NAME}/a", meanwhile=remove),
    ):
        pass


def test_one_of_v2_that_gets_children_with_controllers_meanwhile_is_named() -> None:
    where = host.probe().controllers.get("hugetlb")
    if where is None or where.version == 1:
        pytest.skip("this host has no hugetlb controller in cgroup v2")

    def use(claimed: Claim) -> None:
        hand_down(f"{where.mount}/{NAME}/a", ("hugetlb",), frozenset())

    asked = Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=4 << 20),))
    with (
        pytest.raises(SetupFailed, match=r"clone3: its cgroup hands controllers down to others.*\(EBUSY\)"),
        at_path(f"/{NAME}/a", asked, meanwhile=use),
    ):
        pass
