"""Images as a new user meets them: a registry with a password and TLS, and the command line alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import registries
from tests.cutting_proxy import CuttingProxy
from tests.registries import DebianRegistry

pytestmark = [pytest.mark.clients, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
PYCONTAIN = str(Path(sys.executable).parent / "pycontain")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DebianRegistry]:
    with registries.start(tmp_path, tls=True, htpasswd=("ann", "secret")) as started:
        yield started


@pytest.fixture
def environment(tmp_path: Path, registry: DebianRegistry) -> dict[str, str]:
    own = {
        "PYCONTAIN_DATA_ROOT": str(tmp_path / "data"),
        "PYCONTAIN_RUN_ROOT": str(tmp_path / "run"),
        "DOCKER_CONFIG": str(tmp_path / "config"),
        "SSL_CERT_FILE": str(registry.ca),
    }
    return {**os.environ, **own}


@pytest.fixture
def pycontain(environment: dict[str, str]) -> Command:
    def run(*words: str, code: int = 0, input: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PYCONTAIN, *words], input=input, capture_output=True, text=True, env=environment, timeout=60, check=False
        )
        assert done.returncode == code, f"pycontain {' '.join(words)}: {done.returncode}: {done.stderr}"
        return done

    return run


@pytest.fixture
def root_tar(tmp_path: Path) -> str:
    root = tmp_path / "root"
    for name in ("bin", "etc", "srv"):
        (root / name).mkdir(parents=True)
    for applet in ("sh", "cat", "echo", "rm", "sleep", "ls", "touch"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin/busybox").chmod(0o755)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "srv/old").write_text("old\n")
    path = tmp_path / "root.tar"
    subprocess.run(["tar", "-C", str(root), "--owner=0", "--group=0", "-cf", str(path), "."], check=True)
    return str(path)


def test_pull_run_change_commit_push_remove_pull_run(
    pycontain: Command, environment: dict[str, str], registry: DebianRegistry, root_tar: str
) -> None:
    base, app = f"{registry.host}/base:1", f"{registry.host}/team/app:2"
    pycontain("import", "--change", 'CMD ["/bin/cat", "/srv/old"]', root_tar, base)
    assert "denied" in pycontain("push", base, code=1).stderr
    pycontain("login", "--username", "ann", "--password-stdin", registry.host, input="secret")
    pycontain("push", "--quiet", base)
    pycontain("rmi", base)
    assert pycontain("images", "--quiet").stdout == ""
    first = pycontain("run", "--rm", base)
    assert first.stdout == "old\n" and f"Unable to find image '{base}' locally" in first.stderr
    assert "Pull complete" in first.stderr
    assert pycontain("run", "--rm", base).stderr == ""
    change = "rm /srv/old; echo new > /srv/new; touch /srv/ready; sleep 60"
    with subprocess.Popen(
        [PYCONTAIN, "run", "--rm", "--name", "work", "-e", "GREETING=hello", base, "/bin/sh", "-c", change],
        env=environment,
    ) as running:
        try:
            _wait_for(environment, "ready")
            pycontain(
                "commit", "-a", "Ann", "-m", "new for old", "--change", 'CMD ["/bin/sh", "-c", "echo $GREETING; cat /srv/new; ls /srv"]',
                "work", app,
            )  # fmt: skip
        finally:
            running.send_signal(signal.SIGKILL)
    pushed = pycontain("push", app)
    assert "Mounted from base" in pushed.stdout or "Layer already exists" in pushed.stdout
    pycontain("rmi", app, base)
    assert not os.listdir(f"{environment['PYCONTAIN_DATA_ROOT']}/layers")
    assert pycontain("run", "--quiet", app).stdout == "hello\nnew\nnew\nready\n"
    history = pycontain("history", "--format", "{{.CreatedBy}} | {{.Comment}}", app).stdout.splitlines()
    assert history[0].startswith("/bin/sh -c rm /srv/old") and history[0].endswith("| new for old")
    assert pycontain("image", "inspect", "--format", "{{.Author}}", app).stdout == "Ann\n"
    pycontain("logout", registry.host)
    assert f"Log in with `pycontain login {registry.host}`" in pycontain("pull", base, code=1).stderr


def _wait_for(environment: dict[str, str], name: str) -> None:
    """Until the container has written the file: its upper directory is the host's."""
    deadline = time.monotonic() + 30
    while not list(Path(environment["PYCONTAIN_DATA_ROOT"]).glob(f"ephemeral/*/*/upper/srv/{name}")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_pull_policies(pycontain: Command, registry: DebianRegistry, root_tar: str) -> None:
    name = f"{registry.host}/app:1"
    missing = pycontain("run", "--pull", "never", name, "/bin/true", code=125).stderr
    assert missing.startswith("pycontain: cannot find image") and missing.count("\n") == 1
    pycontain("login", "-u", "ann", "--password-stdin", registry.host, input="secret")
    absent = pycontain("run", name, code=125).stderr.splitlines()
    assert len(absent) == 1 and "manifest unknown" in absent[0].lower()
    pycontain("import", "-c", 'CMD ["/bin/echo", "one"]', root_tar, name)
    pycontain("push", "-q", name)
    pycontain("import", "-c", 'CMD ["/bin/echo", "two"]', root_tar, name)
    assert pycontain("run", name).stdout == "two\n"
    assert pycontain("run", "-q", "--pull", "always", name).stdout == "one\n"
    wrong = pycontain("run", "--platform", "linux/arm64", "--pull", "never", name, code=125).stderr
    assert "linux/amd64, and linux/arm64 was asked for" in wrong
    assert "linux/arm64 was asked for" in pycontain("run", "-q", "--platform", "linux/arm64", name, code=125).stderr
    pycontain("run", "--pull", "sometimes", name, code=125)


def test_an_interrupted_pull_leaves_nothing(
    pycontain: Command, environment: dict[str, str], registry: DebianRegistry, root_tar: str
) -> None:
    """SIGINT while the layer is on its way: the whole process ends at once, and nothing half stored stays."""
    big = Path(root_tar).with_name("big.tar")
    blob = Path(root_tar).with_name("blob")
    blob.write_bytes(random.Random(1).randbytes(8 << 20))
    with tarfile.open(big, "w") as archive:
        archive.add(blob, "blob")
    pycontain("login", "-u", "ann", "--password-stdin", registry.host, input="secret")
    name = f"{registry.host}/big:1"
    pycontain("import", str(big), name)
    pycontain("push", "-q", name)
    pycontain("rmi", name)
    with CuttingProxy(registry.host, [1 << 20] * 9, stalls=True) as proxy:
        through = name.replace(registry.host, proxy.host)
        pycontain("login", "-u", "ann", "--password-stdin", proxy.host, input="secret")
        with subprocess.Popen(
            [PYCONTAIN, "pull", through], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as pulling:
            assert proxy.stalled.wait(30)
            pulling.send_signal(signal.SIGINT)
            pulling.communicate(timeout=10)
            assert pulling.returncode == 130
    data = environment["PYCONTAIN_DATA_ROOT"]
    assert not os.listdir(f"{data}/tmp") and not os.listdir(f"{data}/layers") and not os.listdir(f"{data}/names")
