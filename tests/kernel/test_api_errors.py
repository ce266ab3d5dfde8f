"""Every way in which a start can fail: class, errno, step, exit code, and one line that says what to do."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from probes import refused

import pycontain
from pycontain.errors import (
    Conflict,
    ImageNotFound,
    InvalidArgument,
    NotExecutable,
    ProgramNotFound,
    PycontainError,
    SetupFailed,
    Unsupported,
)

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]


@pytest.fixture
def programs(tmp_path: Path) -> list[Any]:
    """A bind of: a script without its interpreter, garbage, an empty file, a file that may not be executed."""
    for name, content, mode in (
        ("script", b"#!/no/such/interpreter\n", 0o755), ("garbage", b"\x00\x01\x02garbage", 0o755), ("plain", b"#!/bin/sh\n", 0o644),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(mode)
    return [pycontain.bind(str(tmp_path), "/p", read_only=True)]


@pytest.mark.parametrize(
    ("program", "error", "code", "phrase", "number"),
    [
        (
            "no-such",
            ProgramNotFound,
            127,
            "executable file not found in $PATH: 'no-such' (ENOENT; PATH is /usr/local/sbin:",
            2,
        ),
        ("/no/such", ProgramNotFound, 127, "no such file in the image: '/no/such' (ENOENT)", 2),
        ("/etc/passwd/x", ProgramNotFound, 127, "no such file in the image: '/etc/passwd/x' (ENOTDIR)", 20),
        ("", ProgramNotFound, 127, "''", 2),
        ("/p/script", ProgramNotFound, 127, "the interpreter that it names", 2),
        ("/p/plain", NotExecutable, 126, "permission denied: it has no execute permission for this user", 13),
        ("/usr", NotExecutable, 126, "cannot execute '/usr': it is a directory (EISDIR)", 21),
        ("/p/garbage", NotExecutable, 126, "exec format error", 8),
        ("/dev/null", NotExecutable, 126, "permission denied", 13),
    ],
)
def test_programs_that_cannot_run(
    program: str, error: type[SetupFailed], code: int, phrase: str, number: int, programs: list[Any]
) -> None:
    with pytest.raises(SetupFailed) as e:
        pycontain.run("host", [program], mounts=programs, name="web")
    assert type(e.value) is error and str(e.value).startswith("cannot start web: ") and phrase in str(e.value)
    assert (e.value.errno, e.value.exit_code, "\n" in str(e.value)) == (number, code, False)
    assert e.value.step in ("find program", "execve")


def test_the_path_searched_is_the_containers(programs: list[Any]) -> None:
    message = refused(ProgramNotFound, "true", env={"PATH": "/nowhere"})
    assert "PATH is /nowhere" in message
    message = refused(NotExecutable, "plain", env={"PATH": "/nowhere:/p:/usr/bin"}, mounts=programs)
    assert "(EACCES)" in message


def test_too_long_arguments() -> None:
    assert "larger than the kernel takes (E2BIG)" in refused(NotExecutable, "true", "x" * 200_000)


@pytest.mark.parametrize(
    ("options", "error", "phrase"),
    [
        ({"cap_add": ["NET_ADMN"]}, InvalidArgument, "unknown capability 'NET_ADMN': did you mean CAP_NET_ADMIN?"),
        ({"cap_drop": ["X"]}, InvalidArgument, "unknown capability 'X'"),
        ({"memory": "64q"}, InvalidArgument, "invalid size '64q'"),
        ({"memory": "1m"}, InvalidArgument, "below 6 MB"),
        ({"memory": -5}, InvalidArgument, "it is negative"),
        ({"memory_swap": "1g"}, InvalidArgument, "needs --memory as well"),
        ({"memory": "64m", "memory_swap": "32m"}, InvalidArgument, "is below --memory"),
        ({"cpus": -1.0}, InvalidArgument, "number of CPUs"),
        ({"cpus": "many"}, InvalidArgument, "cpus='many'"),
        ({"pids": -7}, InvalidArgument, "limit of processes"),
        ({"uts": "host", "hostname": "x"}, InvalidArgument, "contradict each other"),
        ({"ipc": "host", "shm_size": "1m"}, InvalidArgument, "contradict each other"),
        ({"network": "host", "sysctls": {"net.core.somaxconn": "1"}}, InvalidArgument, "contradict each other"),
        ({"sysctls": {"kernel.panic": "1"}}, InvalidArgument, "kernel.panic"),
        ({"sysctls": {"net/../kernel/x": "1"}}, InvalidArgument, "not allowed"),
        ({"tmpfs": ["/t", "/t/"]}, InvalidArgument, "two mounts have the target '/t'"),
        ({"tmpfs": ["/proc/x"]}, InvalidArgument, "would cover what guards /proc"),
        ({"tmpfs": ["t"]}, InvalidArgument, "not an absolute path"),
        ({"mounts": [pycontain.bind("relative", "/b")]}, InvalidArgument, "relative"),
        ({"name": "a/b"}, InvalidArgument, "invalid name"),
        ({"name": "../x"}, InvalidArgument, "invalid name"),
        ({"hostname": "a b"}, InvalidArgument, "invalid host name"),
        ({"user": "no body"}, InvalidArgument, "invalid user"),
        ({"user": "nosuchuser"}, InvalidArgument, "nosuchuser"),
        ({"ulimits": {"nofiles": 5}}, InvalidArgument, "did you mean nofile?"),
        ({"env": {"": "x"}}, InvalidArgument, "may not be empty"),
        ({"env": {"A": "x\0y"}}, InvalidArgument, "NUL"),
        ({"seccomp": "/no/such/profile"}, InvalidArgument, "No such file or directory (ENOENT)"),
        ({"network": "private"}, PycontainError, "network"),
        ({"network": "none", "pid": "container:x"}, InvalidArgument, "pid"),
        ({"add_host": {"db": "nonsense"}}, InvalidArgument, "no IP address"),
        ({"group_add": "tty"}, InvalidArgument, "expected a list of strings"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], error: type[PycontainError], phrase: str) -> None:
    with pytest.raises(error) as e:
        pycontain.run("host", ["true"], **options)
    assert phrase in str(e.value) and "\n" not in str(e.value) and len(str(e.value)) < 300


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(InvalidArgument, match=r"write \['ls -l'\], or \['sh', '-c', 'ls -l'\]"):
        pycontain.run("host", "ls -l")
    with pytest.raises(InvalidArgument, match="args must be strings, not int: 5"):
        pycontain.run("host", [5])  # type: ignore[list-item]
    with pytest.raises(InvalidArgument, match="NUL byte"):
        pycontain.run("host", ["echo", "a\0b"])
    with pytest.raises(InvalidArgument, match="stdin and input may not both be used"):
        pycontain.run("host", ["true"], input=b"", stdin=pycontain.PIPE)
    with pytest.raises(InvalidArgument, match="STDOUT is for stderr only"):
        pycontain.run("host", ["true"], stdout=pycontain.STDOUT)
    with pytest.raises(TypeError, match=r"no option 'memroy': did you mean 'memory'\?"):
        pycontain.run("host", ["true"], memroy="64m")  # type: ignore[call-arg]


@pytest.mark.parametrize("image", ["no-such-image", "/no/such/directory", "./nothing", "oci:/no/such/layout"])
def test_images_that_there_are_none_of(image: str) -> None:
    message = refused(ImageNotFound, image=image)
    assert image.split(":")[-1] in message


def test_files_as_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((InvalidArgument, ImageNotFound)) as e:
        pycontain.run(str(tmp_path / "file"), ["true"])
    assert str(tmp_path / "file") in str(e.value)


def test_no_command() -> None:
    assert pycontain.run("host").exit_code == 0  # the image's own: a shell, which reads the end of /dev/null
    with pytest.raises(InvalidArgument, match="no command: the image host has none of its own"):
        pycontain.run("host", [], entrypoint="")


def test_a_data_root_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupFailed, match=r"cannot use the data root .*/file/data: Not a directory \(ENOTDIR\)") as e:
        pycontain.run("host", ["true"], data_root=f"{tmp_path}/file/data")
    assert (e.value.step, e.value.errno) == ("data root", 20)
    assert "must be an absolute path" in refused(InvalidArgument, data_root="relative")


def test_errors_travel_between_processes() -> None:
    found: list[PycontainError] = []
    calls: list[Callable[[], object]] = [
        lambda: pycontain.run("host", ["no-such"]),
        lambda: pycontain.run("host", ["false"], check=True),
        lambda: pycontain.run("host", ["sleep", "9"], timeout=0.05, check=True),
        lambda: pycontain.run("nope", ["true"]),
        lambda: pycontain.run("host", ["true"], memory="x"),
    ]
    for call in calls:
        with pytest.raises(PycontainError) as e:
            call()
        found.append(e.value)
    for error in (*found, Conflict("c"), Unsupported("u")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error)
        assert vars(again).keys() == vars(error).keys() and again.exit_code == error.exit_code


def test_a_failed_start_leaves_the_streams_alone(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with open(tmp_path / "out", "wb") as out:
        for _ in range(3):
            with pytest.raises(ProgramNotFound):
                pycontain.run("host", ["no-such"], stdout=out, input=b"x")
        out.write(b"still open")
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 6  # the session's own, opened by the first


def test_an_error_is_the_standard_librarys_kind_too() -> None:
    for error, base in ((InvalidArgument, ValueError), (ImageNotFound, LookupError)):
        assert issubclass(error, base) and issubclass(error, PycontainError)
    assert InvalidArgument("x").exit_code == 125
