"""What a command may load: start-up is a feature, and one careless import costs more than the container."""

from __future__ import annotations

import subprocess
import sys

import pytest

# modules of more than a millisecond that a start has no use for
HEAVY = frozenset(
    (
        "asyncio", "bz2", "concurrent.futures", "ctypes", "difflib", "email", "hashlib", "http", "importlib.metadata",
        "ipaddress", "json", "logging", "lzma", "msgspec", "multiprocessing", "pathlib", "pickle", "platform", "random",
        "rich", "shlex", "shutil", "socket", "ssl", "subprocess", "tarfile", "tempfile", "threading", "traceback",
        "typing", "unittest", "urllib", "urllib3", "uuid", "zipfile",
    )
)  # fmt: skip
# our own, for other commands or other options than a plain run's
NOT_OURS = frozenset(
    (
        "pycontain.aio", "pycontain.cli.terminal", "pycontain.container", "pycontain.disassemble", "pycontain.doctor",
        "pycontain.explain", "pycontain.idmap", "pycontain.image.importer", "pycontain.image.unpack", "pycontain.mounts",
        "pycontain.options", "pycontain.security_options", "pycontain.spec.document", "pycontain.spec.node",
        "pycontain.streams",
    )
)  # fmt: skip


def loaded(code: str) -> frozenset[str]:
    """Names of the modules that ``code`` loads in an interpreter without site's own."""
    paths = [p for p in sys.path if p]
    program = f"import sys; sys.path[:0] = {paths!r}\n{code}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return frozenset(done.stderr.splitlines()[-1].split())


def heavy(modules: frozenset[str]) -> list[str]:
    return sorted(each for each in modules if each in HEAVY or each.partition(".")[0] in HEAVY)


RUN = "from pycontain.cli import main, run; from pycontain.cli.arguments import read"


def test_arguments_of_run_need_nothing_heavy() -> None:
    modules = loaded(
        f"{RUN}\nrun.request_of(*read(run.COMMAND, ['--rm', '-m', '64m', '-e', 'A=b', 'host', 'sh']), {{}})"
    )
    assert heavy(modules) == []
    assert sorted(modules & NOT_OURS) == []


def test_run_with_its_runtime_needs_nothing_heavy() -> None:
    modules = loaded(f"{RUN}\nfrom pycontain.cli import supervise\nfrom pycontain import parse\nparse.check")
    assert "pycontain.runtime.running" in modules
    assert heavy(modules) == []
    assert sorted(modules & NOT_OURS) == []


@pytest.mark.parametrize("module", ["version", "doctor", "import_", "login", "logout"])
def test_other_commands_do_not_load_the_runtime(module: str) -> None:
    modules = loaded(f"from pycontain.cli import main, {module}")
    assert heavy(modules) == []
    assert "pycontain._native" not in modules
