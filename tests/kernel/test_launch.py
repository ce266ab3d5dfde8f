"""pycontain-launch: a start makes a child of the launcher's parent and says its pid; a failed one says why and leaves nothing."""

from __future__ import annotations

import array
import os
import socket
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from detached import Prepared, cgroups_of, prepared
from forks import children

from pycontain.runtime.monitor import LAUNCH
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel

_ANSWER = struct.Struct("<ii IiII QQQQQQQ II")
_PREPARE, _CHILD = 0, 1


@dataclass(frozen=True)
class Answer:
    err: int
    pid: int
    section: int
    arg: int
    cpu_ns: int
    have: int
    fds: tuple[int, ...]


def launch(*words: str, given: Sequence[int] = ()) -> Answer:
    """``given``: descriptors to be inherited, above 3."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            for fd in given:
                if fd >= 0:
                    os.set_inheritable(fd, True)
            actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)]
            pid = os.posix_spawn(LAUNCH, [LAUNCH, *words], {}, file_actions=actions)
        ours.settimeout(60)
        data, ancillary, _, _ = ours.recvmsg(_ANSWER.size, socket.CMSG_SPACE(4))
        assert os.waitpid(pid, 0)[1] == 0
    fds = array.array("i")
    for _, _, passed in ancillary:
        fds.frombytes(passed)
    v = _ANSWER.unpack(data)
    return Answer(err=v[0], pid=v[1], section=v[4], arg=v[5], cpu_ns=v[8], have=v[13], fds=tuple(fds))


def start(c: Prepared, stdin: int, stdout: int, stderr: int) -> Answer:
    # above what is inherited as 0 to 3
    given = [fd if fd < 0 else os.dup(fd) for fd in (stdin, stdout, stderr, *c.slots)]
    try:
        return launch("start", c.plan_file, *map(str, given), given=given)
    finally:
        for fd in given:
            if fd >= 0:
                os.close(fd)


def start_into_pipe(c: Prepared) -> tuple[Answer, int]:
    null = os.open("/dev/null", os.O_RDWR)
    read, write = os.pipe()
    try:
        return start(c, null, write, null), read
    finally:
        os.close(write)
        os.close(null)


def everything(fd: int) -> bytes:
    with open(fd, "rb") as f:
        return f.read()


def test_the_container_is_a_child_of_the_launchers_parent(roots: Roots) -> None:
    with prepared(roots, "sh", "-c", "echo $$ hello; exit 3") as c:
        answer, out = start_into_pipe(c)
        assert answer.err == 0 and answer.pid in children()
        assert everything(out) == b"1 hello\n"
        assert os.waitstatus_to_exitcode(os.waitpid(answer.pid, 0)[1]) == 3
        assert cgroups_of(c.id)
        assert launch("finish", c.plan_file).err == 0
        assert not cgroups_of(c.id)


def test_finish_answers_with_the_usage(roots: Roots) -> None:
    with prepared(
        roots, "sh", "-c", "i=0; while test $i -lt 20000; do i=$((i+1)); done", cpus=1.0, memory_bytes=64 << 20
    ) as c:
        answer, out = start_into_pipe(c)
        os.close(out)
        os.waitpid(answer.pid, 0)
        finished = launch("finish", c.plan_file)
        assert finished.err == 0 and finished.have and finished.cpu_ns > 1_000_000


def test_a_plan_can_be_executed_again_on_the_layer_that_it_has_left(roots: Roots) -> None:
    with prepared(roots, "sh", "-c", "cat /n 2>/dev/null; echo again >>/n") as c:
        said = []
        for _ in range(3):
            answer, out = start_into_pipe(c)
            assert answer.err == 0
            said.append(everything(out))
            os.waitpid(answer.pid, 0)
            assert launch("finish", c.plan_file).err == 0
        assert said == [b"", b"again\n", b"again\n" * 2]


def test_the_ptys_master_comes_with_the_answer(roots: Roots) -> None:
    with prepared(roots, "sh", "-c", "stty size", terminal=True, size=(40, 100)) as c:
        answer, out = start_into_pipe(c)
        os.close(out)
        (master,) = answer.fds
        os.waitpid(answer.pid, 0)
        assert os.read(master, 100) == b"40 100\r\n"
        os.close(master)
        assert launch("finish", c.plan_file).err == 0


def test_a_program_that_is_not_there_is_reported_and_nothing_is_left(roots: Roots) -> None:
    with prepared(roots, "/no/such/program") as c:
        answer, out = start_into_pipe(c)
        os.close(out)
        assert (answer.err, answer.pid, answer.section) == (2, -1, _CHILD)
        assert os.waitpid(-1, os.WNOHANG)[0] > 0  # the child that has failed is ours to reap
        assert not cgroups_of(c.id)


def test_a_failing_prepare_op_is_reported_by_its_number(roots: Roots) -> None:
    with prepared(roots, "true") as c:
        os.rmdir(c.upper)
        answer, out = start_into_pipe(c)
        os.close(out)
        assert (answer.err, answer.pid, answer.section) == (2, -1, _PREPARE)
        assert not cgroups_of(c.id)


@pytest.mark.parametrize(("data", "errno"), [(b"", 74), (b"no Plan", 74), (None, 2)])
def test_a_file_that_holds_no_plan_is_an_answer(roots: Roots, data: bytes | None, errno: int) -> None:
    with prepared(roots, "true") as c:
        os.unlink(c.plan_file)
        if data is not None:
            with open(c.plan_file, "wb") as f:
                f.write(data)
        answer, out = start_into_pipe(c)
        os.close(out)
        assert (answer.err, answer.pid) == (errno, -1)
        assert launch("finish", c.plan_file).err == errno


def test_the_container_inherits_no_descriptor_but_its_streams(roots: Roots) -> None:
    with prepared(roots, "sleep", "600") as c:
        answer, out = start_into_pipe(c)
        os.close(out)
        inherited = os.listdir(f"/proc/{answer.pid}/fd")
        os.kill(answer.pid, 9)
        os.waitpid(answer.pid, 0)
        assert sorted(inherited) == ["0", "1", "2"]
        assert launch("finish", c.plan_file).err == 0


def test_wrong_words_are_a_usage_error() -> None:
    for words in ([], ["start"], ["finish"], ["stop", "x"]):
        r = subprocess.run([LAUNCH, *words], stderr=subprocess.PIPE, text=True)
        assert r.returncode == 2 and r.stderr.startswith("usage: ")
