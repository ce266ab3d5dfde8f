"""Commits and exports that are killed, meet each other, or meet the container's end; volumes that an image should not have."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from test_commit import base, changing, roots  # noqa: F401 - a fixture
from test_store_removal import check_whole

import pycontain
from pycontain.engine import images
from pycontain.errors import Conflict, InvalidArgument, PycontainError
from pycontain.image.compress import write_layer
from pycontain.runtime import cgroups, stillness
from pycontain.runtime.foreground import of_running
from pycontain.runtime.stillness import held_still

pytestmark = pytest.mark.kernel

HOLDER = """
import sys, time
from pycontain.runtime.foreground import Foreground
from pycontain.image.rootfs import ImageConfig
from pycontain.runtime.stillness import held_still
with held_still({found}):
    print("held", flush=True)
    time.sleep(1000)
"""


def ticking() -> pycontain.Container:
    c = pycontain.Container(
        "base", ["/bin/sh", "-c", "while :; do echo tick; sleep 0.01; done"], stdout=pycontain.PIPE, stop_timeout=0
    )
    assert c.stdout is not None and c.stdout.readline() == b"tick\n"
    return c


def is_still(c: pycontain.Container) -> bool:
    """The freezer's answer, wherever this host has one: in a cgroup of its own, or in one that a pause adds."""
    found = of_running(c._running)
    members = [cgroups.Member(controllers=a, version=v, directory=d) for a, v, d in found.members]
    return any(cgroups.is_frozen(each) for each in (*members, stillness._late_member(found)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_who_holds_it_still_dies_and_it_goes_on(number: int) -> None:
    base()
    with ticking() as c:
        code = HOLDER.format(found=repr(of_running(c._running)))
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            held = holder.stdout.readline() == b"held\n" and is_still(c)
            holder.send_signal(number)
        assert held and holder.returncode == -number
        assert c.stdout is not None
        os.set_blocking(c.stdout.fileno(), True)
        for _ in range(20_000):  # more than a pipe holds: written since
            assert c.stdout.readline() == b"tick\n"
            if not is_still(c):
                break
        assert not is_still(c)
        c.pause()  # and its owner can still pause it
        c.unpause()


def test_two_at_once_hold_it_one_after_the_other() -> None:
    base()
    entered, released = threading.Event(), threading.Event()
    seen: list[bool] = []
    with ticking() as c:
        found = of_running(c._running)

        def second() -> None:
            with held_still(found):
                entered.set()
                released.wait()
                seen.append(is_still(c))

        thread = threading.Thread(target=second)
        with held_still(found):
            thread.start()
            assert not entered.wait(0.3)
        released.set()
        thread.join()
        assert seen == [True] and not is_still(c)


def test_a_pause_during_a_commit_is_not_undone_by_its_end() -> None:
    base()
    with ticking() as c:
        thread = threading.Thread(target=c.pause)
        with held_still(of_running(c._running)):
            thread.start()
            thread.join(0.3)
            assert thread.is_alive()  # it waits for its turn
        thread.join()
        assert is_still(c)
        c.unpause()
        assert not is_still(c)


def test_one_that_ends_while_it_is_committed_makes_no_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its files are removed one after the other, and what is gone is left out of a layer: half of it looked like all."""
    base()
    c = changing("for n in 1 2 3 4; do echo x > /f$n; done")

    def ends_first(*given: Any) -> Any:
        c.close()
        return write_layer(*given)

    monkeypatch.setattr("pycontain.image.commit.write_layer", ends_first)
    with pytest.raises(Conflict, match="it has ended meanwhile"):
        c.commit("made", pause=False)
    assert [each.names for each in pycontain.images()] == [("base:latest",)]
    check_whole(str(tmp_path / "data"), nothing_else=False)


def test_one_that_ends_while_it_is_exported_is_an_error() -> None:
    base()
    c = changing("echo x > /f")

    class Ends(io.BytesIO):
        def write(self, data: Any) -> int:
            c.close()
            return super().write(data)

    with pytest.raises(Conflict, match="it has ended meanwhile"):
        c.export(Ends())


def test_one_of_a_bundle_is_paused_though_it_has_no_directory_of_ours(busybox_root: str) -> None:
    from bundles import bundle

    with bundle(busybox_root, "sleep 1000") as image, pycontain.Container(image, stop_timeout=0) as c:
        c.pause()
        c.unpause()


@pytest.mark.parametrize(
    ("volume", "why"),
    [
        ("/proc", "in place of the kernel's own files"),
        ("x/../proc/self/fd", "in place of the kernel's own files"),
        ("/proc/sys/kernel", "in place of the kernel's own files"),
        ("/etc/hosts", "cannot be mounted on each other"),
        ("/" + "d" * 300, "ENAMETOOLONG"),
        ("/" + "d/" * 3000, "ENAMETOOLONG"),
        ("/..", "its whole root"),
        ("/bin/busybox", "mounted on each other|not a directory"),
    ],
)
def test_a_volume_at_no_possible_place_is_one_line(volume: str, why: str) -> None:
    base(f"VOLUME {json.dumps([volume])}")
    with pytest.raises(PycontainError, match=why) as caught:
        pycontain.run("base", ["/bin/ls"])
    assert "\n" not in str(caught.value)


def test_three_thousand_volumes() -> None:
    base("VOLUME " + json.dumps([f"/v{number}" for number in range(3000)]))
    with pytest.raises(InvalidArgument, match="it declares 3000 volumes, the limit is 128"):
        pycontain.run("base", ["/bin/ls"])
    base("VOLUME " + json.dumps([f"/v{number}" for number in range(128)]))
    assert str(pycontain.run("base", ["/bin/ls"], text=True, check=True).stdout).count("v") == 128 + len(["dev"])


def test_more_mounts_than_a_plan_can_have_is_said(tmp_path: Path) -> None:
    base()
    mounts = [pycontain.bind(str(tmp_path), f"/m{number}") for number in range(400)]
    with pytest.raises(InvalidArgument, match=r"so many mounts.*\(at most 256\)"):
        pycontain.run("base", ["/bin/ls"], mounts=mounts)


@pytest.mark.parametrize("record", [b"", b"(1, (", b"[" * 10_000, b"\xff", b"1", b"(1, ('a',))", b"open('/x')"])
def test_a_damaged_record_of_a_container_is_one_line(record: bytes) -> None:
    base()
    with changing(":") as c:
        Path(c._running.directory, "record").write_bytes(record)
        run_root = os.environ["PYCONTAIN_RUN_ROOT"]
        with pytest.raises(InvalidArgument, match=r"damaged|another version") as caught:
            images.commit(os.environ["PYCONTAIN_DATA_ROOT"], run_root, c.id)
        assert "\n" not in str(caught.value)
