"""``pycontain login`` and ``logout`` as they are typed; and what Docker's kin make of what is kept."""

from __future__ import annotations

import base64
import json
import os
import pty
import select
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

import pycontain
from tests import registries

pytestmark = pytest.mark.clients

PYCONTAIN = str(Path(sys.executable).parent / "pycontain")
USER, SECRET = "ann", "s3cr3t-p4ssw0rd"
DEADLINE_S = 60.0


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[registries.DebianRegistry]:
    with registries.start(tmp_path, htpasswd=(USER, SECRET)) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


def _environ(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}", **more}


def _run(home: Path, *words: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYCONTAIN, *words], input=stdin, capture_output=True, text=True, timeout=DEADLINE_S, env=_environ(home, **more)
    )


def _kept(home: Path) -> dict[str, object]:
    document: dict[str, dict[str, object]] = json.loads((home / ".docker/config.json").read_text())
    return document["auths"]


AUTH = {"auth": base64.b64encode(f"{USER}:{SECRET}".encode()).decode()}


def test_in_with_the_password_on_standard_input_and_out(registry: registries.DebianRegistry, home: Path) -> None:
    done = _run(home, "login", "-u", USER, "--password-stdin", registry.host, stdin=f"{SECRET}\n")
    assert (done.returncode, done.stdout) == (0, "Login Succeeded\n")
    assert done.stderr.startswith(
        f"\nWARNING! Your credentials are stored unencrypted in '{home}/.docker/config.json'.\n"
    )
    assert _kept(home) == {registry.host: AUTH}
    assert stat.S_IMODE((home / ".docker/config.json").stat().st_mode) == 0o600
    again = _run(home, "login", registry.host)
    assert (again.returncode, again.stdout) == (0, "Login Succeeded\n")
    assert again.stderr == "Authenticating with existing credentials...\n"
    out = [_run(home, "logout", registry.host).stdout for _ in range(2)]
    assert out == [f"Removing login credentials for {registry.host}\n", f"Not logged in to {registry.host}\n"]
    assert _kept(home) == {}


def test_a_password_on_the_command_line_is_warned_about(registry: registries.DebianRegistry, home: Path) -> None:
    done = _run(home, "login", f"-u{USER}", "-p", SECRET, f"http://{registry.host}/v2/")
    assert done.returncode == 0 and _kept(home) == {registry.host: AUTH}
    assert done.stderr.startswith("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("-u", USER, "-p", f"not-{SECRET}"), "denied: cannot log in to .*401 .*Check the user name and the password"),
        (("-u", USER), "Cannot perform an interactive login from a non TTY device"),
        ((), "Cannot perform an interactive login from a non TTY device"),
        (("--password-stdin",), "Must provide --username with --password-stdin"),
        (("-u", USER, "--password-stdin"), "the password on standard input is empty"),
        (("-u", USER, "--password-stdin", "-p", SECRET), "mutually exclusive"),
        (("-u", "", "-p", SECRET), "--username is empty"),
        (("-u", USER, "-p", ""), "--password is empty"),
        (("-u", "a:b", "-p", SECRET), "a user name cannot have a ':'"),
        (("-u", USER, "-p", SECRET, "second"), "2 servers at once"),
        (("-u", USER, "-p", SECRET, "--paswword"), "did you mean --password"),
    ],
)
def test_mistakes(registry: registries.DebianRegistry, home: Path, words: tuple[str, ...], phrase: str) -> None:
    import re

    done = _run(home, "login", *words, registry.host)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == (125 if "--paswword" in words else 1), done.stderr  # as of docker login
    assert re.search(phrase, last), done.stderr
    assert last.startswith("pycontain: ") and SECRET not in done.stderr + done.stdout
    assert not (home / ".docker").exists()


@pytest.mark.parametrize("server", ["a b", "..", "user@host", "host:port", "http://", "ho\nst"])
def test_what_is_no_server(home: Path, server: str) -> None:
    for command in (("login", "-u", USER, "-p", SECRET), ("logout",)):
        done = _run(home, *command, server)
        assert done.returncode == 1 and "the form is HOST[:PORT]" in done.stderr


def test_nobody_there(home: Path) -> None:
    done = _run(home, "login", "-u", USER, "--password-stdin", "127.0.0.1:1", stdin=SECRET)
    assert done.returncode == 1 and "Connection refused (ECONNREFUSED)" in done.stderr
    assert SECRET not in done.stderr and not (home / ".docker").exists()


def test_a_password_that_is_not_utf_8(registry: registries.DebianRegistry, home: Path) -> None:
    done = subprocess.run(
        [PYCONTAIN, "login", "-u", USER, "--password-stdin", registry.host], input=b"\xff\xfe", capture_output=True,
        timeout=DEADLINE_S, env=_environ(home),
    )  # fmt: skip
    assert done.returncode == 1 and b"is not UTF-8" in done.stderr


def test_an_old_login_that_is_not_good_any_more(registry: registries.DebianRegistry, home: Path) -> None:
    (home / ".docker").mkdir()
    old = {"auth": base64.b64encode(f"{USER}:old-{SECRET}".encode()).decode()}
    (home / ".docker/config.json").write_text(json.dumps({"auths": {registry.host: old}}))
    done = _run(home, "login", registry.host)
    assert done.returncode == 1 and "denied: cannot log in" in done.stderr
    assert _kept(home) == {registry.host: old}


def test_a_broken_entry_is_written_anew(registry: registries.DebianRegistry, home: Path) -> None:
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(json.dumps({"auths": {registry.host: {"auth": "???"}}}))
    done = _run(home, "login", "-u", USER, "--password-stdin", registry.host, stdin=SECRET)
    assert done.returncode == 0 and _kept(home) == {registry.host: AUTH}


class _Terminal:
    """A login on a terminal of its own, as a user sits at it."""

    def __init__(self, home: Path, *words: str) -> None:
        self.fd, inner = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [PYCONTAIN, "login", *words],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=_environ(home),
            start_new_session=True,
        )
        os.close(inner)

    def answer(self, prompt: str, text: str) -> None:
        self.read(prompt)
        os.write(self.fd, text.encode() + b"\n")

    def read(self, until: str = "") -> None:
        end = time.monotonic() + DEADLINE_S
        while not until or until not in self.shown:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"deadline: {self.shown!r}"
            try:
                self.shown += os.read(self.fd, 4096).decode()
            except OSError:  # the last one has closed it
                assert not until, self.shown
                return

    def end(self) -> int:
        self.read()
        os.close(self.fd)
        return self.process.wait(DEADLINE_S)


def test_at_a_terminal(registry: registries.DebianRegistry, home: Path) -> None:
    terminal = _Terminal(home, registry.host)
    try:
        terminal.answer("Username: ", USER)
        terminal.answer("Password: ", SECRET)
        assert terminal.end() == 0
    finally:
        terminal.process.kill()
    assert "Login Succeeded" in terminal.shown and SECRET not in terminal.shown and USER in terminal.shown
    assert _kept(home) == {registry.host: AUTH}


def test_at_a_terminal_after_an_old_login(registry: registries.DebianRegistry, home: Path) -> None:
    (home / ".docker").mkdir()
    old = {"auth": base64.b64encode(f"{USER}:old".encode()).decode()}
    (home / ".docker/config.json").write_text(json.dumps({"auths": {registry.host: old}}))
    terminal = _Terminal(home, registry.host)
    try:
        terminal.answer(f"Username ({USER}): ", "")
        terminal.answer("Password: ", SECRET)
        assert terminal.end() == 0
    finally:
        terminal.process.kill()
    assert "Login did not succeed" in terminal.shown and _kept(home) == {registry.host: AUTH}


def test_an_interrupted_prompt_gives_the_echo_back(registry: registries.DebianRegistry, home: Path) -> None:
    import termios

    terminal = _Terminal(home, "-u", USER, registry.host)
    try:
        terminal.read("Password: ")
        assert not termios.tcgetattr(terminal.fd)[3] & termios.ECHO
        terminal.process.send_signal(2)
        assert terminal.process.wait(DEADLINE_S) == 130
        assert termios.tcgetattr(terminal.fd)[3] & termios.ECHO
    finally:
        terminal.process.kill()
        os.close(terminal.fd)


def test_a_helper_keeps_it(registry: registries.DebianRegistry, home: Path) -> None:
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(json.dumps({"credsStore": "fake"}))
    (home / "bin").mkdir()
    helper = home / "bin/docker-credential-fake"
    helper.write_text(
        '#!/bin/sh\ncase $1 in\nstore) cat > "$HOME/kept" ;;\n'
        'get) cat > /dev/null; cat "$HOME/kept" 2> /dev/null || { echo credentials not found; exit 1; } ;;\n'
        'erase) cat > /dev/null; rm -f "$HOME/kept" ;;\nesac\n'
    )
    helper.chmod(0o755)
    done = _run(home, "login", "-u", USER, "--password-stdin", registry.host, stdin=SECRET)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Login Succeeded\n", "")
    assert json.loads((home / "kept").read_text())["Secret"] == SECRET
    assert SECRET not in (home / ".docker/config.json").read_text()
    assert _run(home, "login", registry.host).stdout == "Login Succeeded\n"
    assert _run(home, "logout", registry.host).returncode == 0 and not (home / "kept").exists()


def test_skopeo_and_we_use_each_others_logins(registry: registries.DebianRegistry, home: Path, tmp_path: Path) -> None:
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed (tests/peers/install.sh)")
    _run(home, "login", "-u", USER, "--password-stdin", registry.host, stdin=SECRET)

    def tags(of: Path) -> str:
        """Of a repository that is not there: 404 for those who are let in. skopeo reads ~/.docker/config.json, too."""
        words = [skopeo, "list-tags", "--tls-verify=false", f"docker://{registry.host}/none"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, env=_environ(of))
        return done.stderr

    assert "404 (Not Found)" in tags(home)
    assert "404" not in tags(tmp_path / "nobody")
    theirs = tmp_path / "auth.json"
    words = [
        skopeo,
        "login",
        "--tls-verify=false",
        "--authfile",
        str(theirs),
        "-u",
        USER,
        "--password-stdin",
        registry.host,
    ]
    subprocess.run(
        words, input=SECRET, text=True, check=True, capture_output=True, timeout=DEADLINE_S, env=_environ(home)
    )
    other = tmp_path / "other"
    other.mkdir()
    assert _run(other, "login", registry.host, REGISTRY_AUTH_FILE=str(theirs)).stdout == "Login Succeeded\n"
    out = _run(other, "logout", registry.host, REGISTRY_AUTH_FILE=str(theirs))
    assert out.stdout.startswith("Not logged in") and f"{theirs} still has a login for {registry.host}" in out.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become an ordinary user")
def test_as_an_ordinary_user(registry: registries.DebianRegistry, tmp_path: Path) -> None:
    """With the system's Python, since he cannot read a developer's; in a directory that he can reach."""
    uid = 54321
    base = Path("/dev/shm") / f"pct-login-{os.getpid()}"
    base.mkdir(mode=0o755)
    try:
        packages, home = base / "packages", base / "home"
        for package in (pycontain, urllib3):
            source = Path(str(package.__file__)).parent
            shutil.copytree(source, packages / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        home.mkdir()
        os.chown(home, uid, uid)
        (packages / "run.py").write_text("from pycontain.cli.entry import console; console()\n")
        done = subprocess.run(
            ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "/usr/bin/python3", str(packages / "run.py"),
             "login", "-u", USER, "--password-stdin", registry.host],
            input=SECRET, capture_output=True, text=True, timeout=DEADLINE_S, env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
            cwd="/",
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "Login Succeeded\n"), done.stderr
        info = (home / ".docker/config.json").stat()
        assert (info.st_uid, stat.S_IMODE(info.st_mode)) == (uid, 0o600)
    finally:
        shutil.rmtree(base)
