"""An ordinary user's command line and Python: messages, terminals, what is left behind, what is missing."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from census import left_by, poll_until
from ordinary_user import CLI, PYTHON, OrdinaryUser, inner, one_line, sh

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("nothing_of_the_user_left")]


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "phrase"),
    [
        (("host", "sh", "-c", "exit 7"), 7, ""),
        (("host", "no-such-program"), 127, "executable file not found"),
        (("host", "/etc/passwd"), 126, "cannot execute"),
        (("--timeout", "0.2", "host", "sleep", "20"), 124, "ran longer than 0.2 s and was killed"),
        (("--workdir", "x", "host", "true"), 125, "not an absolute path"),
        (
            ("--memory", "64m", "host", "true"),
            125,
            "Begin in a cgroup of your own (systemd-run --user --scope -p Delegate=yes",
        ),
        (("--hostname", "web", "host", "true"), 125, "Leave out --hostname"),
        (("--user", "70000", "host", "true"), 125, "user 70000 is outside the ordinary user's user namespace"),
        (("-v", "/root/x:/x", "host", "true"), 125, "bind /root/x on /x: Permission denied (EACCES)"),
        (("--device", "/dev/vda", "host", "head", "-c1", "/dev/vda"), 1, ""),
        (("nothing-here", "true"), 125, "no such image"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_exit_codes_and_messages(user: OrdinaryUser, words: tuple[str, ...], code: int, phrase: str) -> None:
    done = user.pycontain("run", *words)
    if phrase:
        assert phrase in one_line(done, code)
    assert done.returncode == code


def test_stdin_and_init(user: OrdinaryUser) -> None:
    assert user.pycontain("run", "-i", "host", "cat", stdin="hello").stdout == "hello"
    assert user.pycontain("run", "host", "cat", stdin="hello").stdout == ""
    assert sh(user, "echo $$; tr '\\0' ' ' < /proc/1/cmdline | cut -c1-16", "--init").split() == [
        "2",
        "/run/docker-init",
    ]


def test_options_of_the_program_are_not_ours(user: OrdinaryUser) -> None:
    assert user.pycontain("run", "host", "df", "-h", "/").stdout.startswith("Filesystem")


def test_network_of_the_host(user: OrdinaryUser) -> None:
    assert sh(user, "readlink /proc/self/ns/net", "--network", "host").strip() == os.readlink("/proc/self/ns/net")
    assert sh(user, "ls /sys/class/net").split() == ["lo"]


def test_a_terminal(user: OrdinaryUser) -> None:
    ours, theirs = pty.openpty()
    argv = user.cli("run", "-t", "-i", "host", "sh", "-c", "tty; stty size; exit 3")
    with user.start(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while chunk := os.read(ours, 1000):
                said += chunk
        assert process.wait(20) == 3
    os.close(ours)
    assert said.splitlines()[0] in (b"/dev/pts/0", b"/dev/console"), said


def test_explained_as_the_user_runs_it(user: OrdinaryUser) -> None:
    done = user.pycontain("run", "--explain", "--format", "json", "host", "true")
    ops = json.loads(done.stdout)["prepare"]
    assert any("USERXATTR" in op.get("flags", ()) for op in ops), done.stdout[:2000]


# --- from Python -----------------------------------------------------------------------------------------------------

_PROGRAM = """
import asyncio, os, pycontain
assert os.geteuid() == 0
r = pycontain.run("host", ["id", "-u"], text=True)
print(r.exit_code, r.stdout.strip())
with pycontain.Container("host", ["sleep", "600"], stop_timeout=0) as c:
    print(open(f"/proc/{c.pid}/status").read().partition("NSpid:")[2].split()[1])
async def both():
    return await asyncio.gather(*(pycontain.aio.run("host", ["sh", "-c", f"exit {n}"]) for n in (3, 4)))
import pycontain.aio
print(*(r.exit_code for r in asyncio.run(both())))
"""


def test_every_python_face_works_under_unshare(user: OrdinaryUser) -> None:
    done = user.python(_PROGRAM)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["0 0", "1", "3 4"]


_ENGINE = """
import asyncio, pycontain
from pycontain import aio
eng = pycontain.Engine()
script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"
with eng.containers.run("host", ["sh", "-c", script], detach=True, name="it") as c:
    said = c.logs(text=True, follow=True)
    print(next(said), c.exec(["id", "-u"], text=True).stdout, c.name, c.status)
    async def stopped():
        found = await aio.Engine().containers.get("it")
        waiting = [asyncio.create_task(found.wait()) for _ in range(8)]
        await found.stop()
        return await asyncio.gather(*waiting)
    print(asyncio.run(stopped()), list(said), c.exit_code)
print(eng.containers.list(all=True))
"""


def test_an_engines_containers_under_unshare(user: OrdinaryUser) -> None:
    done = user.python(_ENGINE)
    assert " ".join(done.stdout.split()) == "up 0 it running [7, 7, 7, 7, 7, 7, 7, 7] [] 7 []", done.stderr
    for name in ("names", ""):  # directories that stay, empty
        (user.data_root / "containers" / name).rmdir()
    (user.run_root / "containers").rmdir()


def test_without_unshare_python_is_told_of_it(user: OrdinaryUser) -> None:
    done = user.run(user.argv([PYTHON, "-c", "import pycontain; pycontain.run('host', ['true'])"]))
    assert done.returncode == 1 and "start it by `pycontain unshare PROGRAM`" in done.stderr.splitlines()[-1]


def test_unshare_is_refused_to_root_and_for_what_is_no_program(user: OrdinaryUser) -> None:
    assert "no such program" in one_line(user.pycontain("unshare", "no-such-program"), 127)
    done = subprocess.run(
        [sys.executable, "-c", "from pycontain.cli.entry import console; console()", "unshare", "true"],
        capture_output=True, text=True, check=False, timeout=20,
        env={**os.environ, "_PYCONTAIN_ROOTLESS": "1000:1000"},
    )  # fmt: skip
    assert "root needs no user namespace" in one_line(done)


# --- what is left ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--userns", "auto:size=1000")], ids=["own", "auto"])
def test_kill_9_of_the_command_leaves_nothing(user: OrdinaryUser, options: tuple[str, ...]) -> None:
    script = "mkdir /tmp/d; chmod 0 /tmp/d; chown 33 /tmp/d; sleep 500 & setsid sleep 501 & echo ready; sleep 502"
    argv = user.cli("run", *options, "host", "sh", "-c", script)
    with user.start(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        pid = inner(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert poll_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert poll_until(lambda: not left_by(str(user.data_root), str(user.run_root / "nothing")))
    sh(user, "true", *options)  # reservations of ids are links that name a dead owner: the next start takes them away


def test_a_signal_ends_it_in_good_order(user: OrdinaryUser) -> None:
    argv = user.cli("run", "host", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done")
    with user.start(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 9


def test_the_next_run_sweeps_when_the_guardian_was_killed_too(user: OrdinaryUser) -> None:
    argv = user.cli("run", "host", "sh", "-c", "chown 33 /tmp; echo ready; sleep 500")
    with user.start(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for line in user.processes():
            if "pycontain-guardian" in line:
                os.kill(int(line.split()[1]), signal.SIGKILL)
        process.kill()
        process.wait(20)
    assert poll_until(lambda: not user.processes())
    assert left_by(str(user.data_root), str(user.run_root))
    assert sh(user, "echo fine") == "fine\n"


# --- what is missing -------------------------------------------------------------------------------------------------

_NO_SUBIDS = "mount --bind /dev/null /etc/subuid"
_NO_HELPER = "mount --bind /dev/null /usr/bin/newuidmap"


def test_no_subordinate_ids(user: OrdinaryUser) -> None:
    line = one_line(user.pycontain("run", "host", "true", before=_NO_SUBIDS))
    assert "/etc/subuid gives it no subordinate ids" in line and "usermod --add-subuids" in line


def test_newuidmap_is_missing(user: OrdinaryUser) -> None:
    assert "newuidmap is not installed. Install uidmap" in one_line(
        user.pycontain("run", "host", "true", before=_NO_HELPER)
    )


def test_newuidmap_without_its_powers_is_quoted(user: OrdinaryUser) -> None:
    plain = user.directory / "newuidmap"
    plain.write_bytes(Path("/usr/bin/newuidmap").read_bytes())
    plain.chmod(0o755)
    line = one_line(user.pycontain("run", "host", "true", before=f"mount --bind {plain} /usr/bin/newuidmap"))
    assert "write to uid_map failed: Operation not permitted" in line and "setuid root" in line


def test_explain_and_help_need_no_subordinate_ids(user: OrdinaryUser) -> None:
    assert user.pycontain("run", "--help", before=_NO_SUBIDS).returncode == 0
    assert "clone3" in user.pycontain("run", "--explain", "host", "true", before=_NO_SUBIDS).stdout


def test_user_namespaces_are_forbidden(user: OrdinaryUser) -> None:
    """In the user's own namespace, whose limit he may set, as an ordinary user of it with subordinate ids."""
    table = user.directory / "nested"
    table.write_text(f"{(user.directory / 'subuid').read_text()}1:100:50\n")
    before = f"mount --bind {table} /etc/subuid; mount --bind {table} /etc/subgid"
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --reuid 1 --regid 1 --clear-groups "$@"'
    argv = user.cli("unshare", "sh", "-c", script, "sh", PYTHON, "-c", CLI, "run", "host", "true", before=before)
    assert "(ENOSPC): user.max_user_namespaces is 0. Raise it" in one_line(user.run(argv))


@pytest.mark.parametrize(
    ("runtime", "phrase"),
    [("/root", "belongs to another user"), ("/run/user/none", "No such file or directory (ENOENT)")],
)
def test_another_users_runtime_directory(user: OrdinaryUser, runtime: str, phrase: str) -> None:
    line = one_line(user.pycontain("run", "host", "true", env={"XDG_RUNTIME_DIR": runtime}))
    assert f"$XDG_RUNTIME_DIR, {runtime}" in line and phrase in line


@contextlib.contextmanager
def squatted(user: OrdinaryUser, how: str) -> Iterator[Path]:
    path = Path(f"/tmp/pycontain-run-{user.uid}")
    trap = user.directory / "trap"
    trap.mkdir(exist_ok=True)
    os.chown(trap, user.uid, user.uid)  # a link to what is the victim's own
    if how == "link":
        path.symlink_to(trap)
    elif how == "file":
        path.write_text("")
    else:
        path.mkdir()
        path.chmod(0o777)
        if how == "open":
            os.chown(path, user.uid, user.uid)
    try:
        yield trap
    finally:
        path.unlink() if how in ("link", "file") else path.rmdir()


@pytest.mark.parametrize("how", ["link", "file", "another's", "open"])
def test_a_squatted_run_root_is_not_used(user: OrdinaryUser, how: str) -> None:
    with squatted(user, how) as trap:
        done = user.pycontain("run", "--name", "web", "host", "true", env={"XDG_RUNTIME_DIR": None})
        assert f"/tmp/pycontain-run-{user.uid} is not a directory of this user's own" in one_line(done)
        assert list(trap.iterdir()) == []


def test_without_a_runtime_directory_tmp_is_used(user: OrdinaryUser) -> None:
    path = Path(f"/tmp/pycontain-run-{user.uid}")
    try:
        done = user.pycontain("run", "--name", "web", "host", "true", env={"XDG_RUNTIME_DIR": None})
        assert (done.returncode, done.stderr) == (0, "")
        assert path.stat().st_mode & 0o777 == 0o700 and path.stat().st_uid == user.uid
    finally:
        subprocess.run(["rm", "-r", str(path)], check=True)


@pytest.mark.parametrize("home", ["/proc", "/root/x", "/nonexistent"])
def test_a_home_that_cannot_be_written(user: OrdinaryUser, home: str) -> None:
    line = one_line(user.pycontain("run", "host", "true", env={"HOME": home}))
    assert f"cannot use the data root {home}/.local/share/pycontain" in line and "--data-root" in line


def test_a_run_root_that_cannot_be_written(user: OrdinaryUser) -> None:
    line = one_line(user.pycontain("--run-root", "/proc/x", "run", "--name", "web", "host", "true"))
    assert "run root" in line


def test_home_is_asked_of_passwd_without_the_variable(user: OrdinaryUser) -> None:
    assert user.pycontain("run", "host", "true", env={"HOME": None}).returncode == 0
    assert (user.data_root / "ephemeral").is_dir()


def test_looking_at_a_container(user: OrdinaryUser) -> None:
    """Its files belong to subordinate ids: the commands that look into them become root of the user's own namespace."""
    script = "umask 077; mkdir /tmp/d; echo hi > /tmp/d/x; chown -R 5:5 /tmp/d; echo up; sleep 1000"
    started = user.start(user.cli("run", "--name", "it", "host", "sh", "-c", script), stdout=subprocess.PIPE)
    assert started.stdout is not None and started.stdout.readline() == "up\n"
    try:
        assert poll_until(lambda: "it" in user.pycontain("ps").stdout)
        assert user.pycontain("ps", "--format", "{{.Names}} {{.Size}}").stdout == "it 3B\n"
        assert user.pycontain("inspect", "-s", "-f", "{{.SizeRw}} {{.State.Status}}", "it").stdout == "3 running\n"
        assert "A /tmp/d/x\n" in user.pycontain("diff", "it").stdout
        row = user.pycontain("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", "it")
        assert row.returncode == 0 and row.stdout.startswith("it "), row.stderr
    finally:
        user.pycontain("kill", "it")
        started.communicate(timeout=20)
