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


# --- the commands of images ---------------------------------------------------------------------------------------------

IMAGES = """
import os, sys
os.geteuid = lambda: 0
from pycontain.engine import images as engine
from pycontain.image.records import ImageInfo
info = ImageInfo(id="sha256:" + "0" * 64, names=("a:1",), digests=("a@sha256:" + "1" * 64,), created="2024-01-01T00:00:00Z", size=5)
engine.list_images = lambda root: [info] * 3
engine.find_image = lambda root, text: info
engine.remove_image = lambda *a, **k: []
engine.tag_image = engine.save = lambda *a, **k: None
engine.pull = engine.push = lambda *a, **k: "sha256:" + "0" * 64
sys.stdout = open(os.devnull, "w")
from pycontain.cli.main import main
main(["--data-root", "/nowhere", "--run-root", "/nowhere", *WORDS])
"""


@pytest.fixture(scope="module")
def of_the_engine() -> frozenset[str]:
    return loaded("import pycontain.engine.images")


@pytest.mark.parametrize(
    "words",
    [
        ["images"], ["images", "-q"], ["image", "ls", "--digests"], ["images", "-f", "label=x", "-f", "before=a"], ["images", "a*"],
        ["rmi", "a"], ["tag", "a", "b"], ["save", "-o", "/dev/null", "a"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_light_commands_add_nothing_heavy(words: list[str], of_the_engine: frozenset[str]) -> None:
    modules = loaded(IMAGES.replace("WORDS", repr(words)))
    assert heavy(modules - of_the_engine) == []
    assert not {each for each in modules if each.startswith(("pycontain.cli.gotemplate", "pycontain.cli.progress"))}
    for name in ("urllib3", "rich", "hashlib", "threading", "socket", "ssl", "subprocess", "asyncio"):
        assert name not in modules


@pytest.mark.parametrize("words", [["images", "--format", "{{.ID}}"], ["images", "--format", "json"]], ids=" ".join)
def test_templates_need_json_and_no_more(words: list[str], of_the_engine: frozenset[str]) -> None:
    modules = loaded(IMAGES.replace("WORDS", repr(words)))
    assert {each.partition(".")[0] for each in heavy(modules - of_the_engine)} <= {"json"}


@pytest.mark.parametrize("words", [["pull", "a:1"], ["push", "-q", "a:1"]], ids=" ".join)
def test_transfer_without_a_terminal_draws_nothing(words: list[str], of_the_engine: frozenset[str]) -> None:
    modules = loaded(IMAGES.replace("WORDS", repr(words)))
    assert set(heavy(modules - of_the_engine)) <= {"threading"}


def test_names_of_the_package_cost_nothing_until_they_are_used() -> None:
    bare = loaded("pass")
    ours = {each for each in loaded("import pycontain; dir(pycontain)") - bare if each.startswith("pycontain")}
    assert ours == {"pycontain", "pycontain._version"}
    assert "pycontain.aio_engine" not in loaded("from pycontain import aio")


def test_an_engine_is_made_without_what_is_heavy() -> None:
    """Not even of those that its containers need later: asyncio, an HTTP client, a thread."""
    modules = loaded("import pycontain; pycontain.Engine('/nowhere', '/nowhere')")
    assert not modules & {
        "asyncio",
        "subprocess",
        "urllib3",
        "datetime",
        "threading",
        "tarfile",
        "pycontain.image.pull",
    }
