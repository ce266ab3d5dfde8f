"""Fixtures of the kernel tests: roots of the test's own, a busybox root, and the census around every test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import census
import pytest
from bundles import bundle, user_namespace
from forks import make_roots
from ordinary_user import OrdinaryUser, make_user
from staying import clear
from terminals import Session

from pycontain.runtime import session
from pycontain.runtime.roots import Roots

_PASSWD = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
_GROUP = "root:x:0:\ntty:x:5:\nuser:x:1000:\nextra:x:2000:user\nnogroup:x:65534:\n"


@pytest.fixture(autouse=True)
def needs_root(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("kernel") and os.geteuid() != 0:
        user = pwd.getpwuid(os.geteuid()).pw_name
        pytest.skip(f"needs root (namespaces, mounts, cgroups), and this is {user}")


@pytest.fixture(scope="session")
def base() -> Iterator[str]:
    """A short directory on a real file system: below it lie the roots of every test of this session."""
    made = tempfile.mkdtemp(prefix="pct-", dir="/var/tmp")
    os.chmod(made, 0o711)
    yield made
    remove_root(made)


def remove_root(path: str) -> None:
    """rm -rf that refuses when something is mounted below: it would empty the mount's source."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        mounted = [line.split()[4] for line in f if line.split()[4].startswith(path)]
    assert not mounted, f"still mounted below {path}: {mounted}"
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def roots(base: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Roots]:
    """A data root and a run root of the test's own, also the default of everything that it starts."""
    made = make_roots(base)
    monkeypatch.setenv("PYCONTAIN_DATA_ROOT", made.data_root)
    monkeypatch.setenv("PYCONTAIN_RUN_ROOT", made.run_root)
    yield made
    session.close_all()
    left = census.left_by(made.data_root, made.run_root)
    remove_root(os.path.dirname(made.data_root))
    assert not left, "left in the roots: " + ", ".join(left)


@pytest.fixture
def staying(roots: Roots) -> Iterator[Roots]:
    """As ``roots``, for tests whose containers stay: they are removed afterwards."""
    yield roots
    session.close_all()  # of the test's own runs, which do not stay
    clear(roots)


@pytest.fixture
def sessions() -> Iterator[Callable[..., Session]]:
    made: list[Session] = []

    def make(*words: str) -> Session:
        made.append(Session(*words))
        return made[-1]

    yield make
    for each in made:
        if each.code is None:
            os.kill(each.pid, signal.SIGKILL)
            os.waitpid(each.pid, 0)
            os.close(each.fd)


def _static_busybox() -> str:
    found = shutil.which("busybox")
    if found is None:
        pytest.skip("needs a static busybox: install the Debian package busybox-static")
    with open(found, "rb") as f:
        if b"/ld-" in f.read(4096):  # an ELF interpreter: it would need its libraries in the root
            pytest.skip(f"{found} is not static: install the Debian package busybox-static")
    return found


@pytest.fixture(scope="session")
def busybox_root(base: str) -> str:
    """A directory to be given as an image: static busybox with all its links, a passwd and a group."""
    busybox = _static_busybox()
    root = Path(base) / "busybox"
    for name in ("bin", "etc", "dev", "proc", "sys", "root", "home/user", "usr/bin", "sbin", "var/tmp", "tmp"):
        (root / name).mkdir(parents=True, mode=0o755)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    os.chown(root / "home/user", 1000, 1000)
    shutil.copy2(busybox, root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(_PASSWD)
    (root / "etc/group").write_text(_GROUP)
    return str(root)


@pytest.fixture(scope="session")
def user(base: str) -> Iterator[OrdinaryUser]:
    """An ordinary user with subordinate ids, who is on this machine only as far as the tests look."""
    yield from make_user(base)


@pytest.fixture
def nothing_of_the_user_left(user: OrdinaryUser) -> Iterator[None]:
    """No process, file or reservation of his is there afterwards."""
    yield
    left: list[str] = []

    def clean() -> bool:
        left[:] = [*user.processes(), *census.left_by(str(user.data_root), str(user.run_root))]
        left[:] = [each for each in left if not each.endswith("/userns")]  # the directory of reservations, empty
        left.extend(str(p) for p in (user.run_root / "userns").glob("*"))
        return not left

    assert census.poll_until(clean), left


@pytest.fixture(scope="session")
def warm(base: str, busybox_root: str) -> None:
    """Two runs before anything is counted: what a process opens once (the lean mount namespaces) is open then."""
    if os.geteuid() != 0:
        return
    import pycontain
    from pycontain.errors import PycontainError

    made = make_roots(base)
    try:
        pycontain.run("host", ["true"], data_root=made.data_root, run_root=made.run_root)
        with bundle(busybox_root, "true", user_namespace()) as image:  # which older kernels can as well
            pycontain.run(image, data_root=made.data_root, run_root=made.run_root)
    except PycontainError:
        pass  # the tests will tell
    session.close_all()


@pytest.fixture(autouse=True)
def kernel_census(warm: None, base: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing is left behind: no process, mount, cgroup, interface, fd or file. `roots` looks into its directories."""
    before = census.take(below=(base,))
    yield
    session.close_all()
    left = census.gone(before, below=(base,))
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
