"""Where cgroups are made by an ordinary user, and inside a container: each case in processes of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path("/sys/fs/cgroup")
USER = 1000


@pytest.fixture
def place() -> Iterator[Path]:
    """A cgroup with all controllers, and a leaf ``shell`` below it."""
    made = TOP / "nested"
    (made / "shell").mkdir(parents=True)
    yield made
    from pycontain import _native

    _native.remove_cgroup(str(made))
    assert not made.exists()


def python(source: str, *before: str, cgroup: Path, uid: int = 0) -> str:
    """What a new Python says that starts in ``cgroup``, after the shell commands ``before``, as ``uid``."""
    drop = f"import os; os.setgid({uid}); os.setuid({uid})\n" if uid else ""
    script = "\n".join(("set -e", f"echo $$ > {cgroup}/cgroup.procs", *before, 'exec python3 -c "$SOURCE"'))
    done = subprocess.run(
        ["sh", "-c", script], env={**os.environ, "SOURCE": drop + source}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


OF_A_USER = """
import os
from pycontain.host import probe
from pycontain.runtime.cgroup_tree import claim, read
from pycontain.runtime.cgroups import Member, update
from pycontain.spec.runtime import Memory, Resources
facts = probe()
print(facts.cgroup_base, facts.cgroup_obstacle, [n for n, c in facts.controllers.items() if c.obstacle])
asked = Resources(memory=Memory(limit=32 << 20), pids_limit=1)
made = claim(asked, facts, "a/b")
(group,) = made.groups
directory = group.mount + group.path
update((Member(controllers=group.controllers, version=2, directory=directory),), asked, facts)
print(directory, read(directory + "/memory.max"), read(directory + "/pids.max"))
pid = os.fork()
if pid == 0:
    open(directory + "/cgroup.procs", "w").write("0")
    try: os.fork()
    except BlockingIOError: os._exit(9)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
made.release()
print(os.path.exists(directory))
"""


def delegate(directory: Path) -> None:
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(directory / name, USER, USER)


def test_an_ordinary_user_in_a_delegated_cgroup(place: Path) -> None:
    (place / "cgroup.subtree_control").write_text("")
    delegate(place)
    lines = python(OF_A_USER, cgroup=place / "shell", uid=USER).splitlines()
    assert lines[0].rstrip() == "/nested  []"
    assert lines[1] == f"{place}/pycontain/a/b {32 << 20} 1"
    assert lines[2] == "9"
    assert lines[3].startswith("False") and not (place / "pycontain").exists()


def test_an_ordinary_user_without_one_is_told(place: Path) -> None:
    source = "from pycontain.host import probe; print(probe().cgroup_obstacle)"
    said = python(source, cgroup=place / "shell", uid=USER)
    assert said == f"this user may write to no cgroup between {TOP} and {place}/shell"


NAMESPACE = (
    "exec unshare -C -m sh -c 'umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && {more} "
    'exec python3 -c "$SOURCE"\' || exit'
)
RUN = """
import pycontain
from pycontain.errors import PycontainError
try:
    r = pycontain.run("host", ["sh", "-c", "cat /sys/fs/cgroup/memory.max"], memory="64m", text=True)
    print(r.stdout)
except PycontainError as e:
    print(type(e).__name__, e)
print(open("/proc/self/cgroup").read())
from pycontain.runtime.session import close_all
close_all()
print(open("/proc/self/cgroup").read())
"""


def inside(source: str, cgroup: Path, more: str = "") -> list[str]:
    return [line for line in python(source, NAMESPACE.format(more=more), cgroup=cgroup).splitlines() if line]


def test_alone_at_its_namespaces_root_it_steps_aside_and_back(place: Path) -> None:
    limit, during, after = inside(RUN, place)
    assert limit == str(64 << 20)
    assert during.startswith("0::/pycontain-self-") and after == "0::/"
    assert not list(place.glob("pycontain*"))


def test_with_others_at_its_namespaces_root_a_limit_is_refused(place: Path) -> None:
    other = subprocess.Popen(["sleep", "1000"])
    try:
        (place / "cgroup.procs").write_text(str(other.pid))
        said = inside(RUN, place)[0]
        assert said.startswith(
            "Unsupported cannot limit memory: the memory controller cannot be used: processes other than"
        )
        plain = "import pycontain; print(pycontain.run('host', ['true']).exit_code)"
        assert inside(plain, place) == ["0"]  # without a limit a cgroup without controllers will do
    finally:
        other.kill()
        other.wait()


def test_with_its_cgroups_read_only_nothing_can_be_limited(place: Path) -> None:
    said = inside(RUN, place, "mount -o remount,bind,ro /sys/fs/cgroup &&")[0]
    assert "memory controller cannot be used: /sys/fs/cgroup is mounted read-only" in said
