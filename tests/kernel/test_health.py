"""Health checks: what a monitor executes in its container, when, and what that makes of it; checks that mean harm."""

from __future__ import annotations

import fcntl
import functools
import io
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import census
import pytest
from image_cases import member, tar
from ordinary_user import OrdinaryUser
from staying import SLEEPER, command, monitor_pid, run, state

import pycontain
from pycontain.runtime import detached, monitor
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]

QUICK = ("--health-interval", "50ms")
_DEADLINE_S = 20.0


def health(name: str) -> dict[str, Any]:
    (found,) = json.loads(command("inspect", name).stdout)
    return dict(found["State"].get("Health") or {})


def until(name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def met() -> bool:
        nonlocal seen
        seen = health(name)
        return wanted(seen)

    assert census.poll_until(met, _DEADLINE_S), seen
    return seen


def is_now(status: str) -> Callable[[dict[str, Any]], bool]:
    return lambda seen: seen["Status"] == status


def pid_of(name: str) -> int:
    (found,) = json.loads(command("inspect", name).stdout)
    return int(found["State"]["Pid"])


def last_output(name: str) -> str:
    return str(until(name, lambda seen: bool(seen["Log"]))["Log"][-1]["Output"])


def shown(name: str) -> str:
    return command("ps", "-a", "--format", "{{.Status}}", "-f", f"name=^{name}$").stdout.strip()


def inside(name: str) -> list[str]:
    """The command lines of everything that runs in it."""
    return [line.split(None, 7)[-1] for line in command("top", name).stdout.splitlines()[1:]]


def check_cgroups(container_id: str) -> list[str]:
    return [where for where, _, _ in os.walk("/sys/fs/cgroup") if container_id in where and "pycontain-health" in where]


def image(name: str, *changes: str) -> None:
    program = member("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755)
    links = [member(f"bin/{each}", b"2", linkname="busybox") for each in ("sh", "sleep", "test", "touch", "echo")]
    pycontain.Image.import_tar(io.BytesIO(tar(program, *links)), name, changes=changes)


# --- states -----------------------------------------------------------------------------------------------------------


def test_from_starting_to_healthy_to_unhealthy_and_back() -> None:
    run(
        "--name",
        "web",
        "--health-cmd",
        "echo seen; test -e /ok",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
        *SLEEPER,
    )
    assert shown("web").endswith("(health: starting)")
    first = until("web", lambda seen: bool(seen["Log"]))
    assert (first["Log"][0]["ExitCode"], first["Log"][0]["Output"]) == (1, "seen\n")
    assert first["Log"][0]["Start"] < first["Log"][0]["End"]
    assert until("web", is_now("unhealthy"))["FailingStreak"] >= 2
    assert shown("web").endswith("(unhealthy)")
    command("exec", "web", "touch", "/ok")
    assert until("web", is_now("healthy"))["FailingStreak"] == 0
    assert shown("web").endswith("(healthy)")
    command("exec", "web", "rm", "/ok")
    until("web", lambda seen: len(seen["Log"]) == 5 and seen["Status"] == "unhealthy")
    command("stop", "-t", "5", "web")
    assert (shown("web")[:10], health("web")["Status"]) == ("Exited (7)", "unhealthy")


def test_filters_and_a_container_without_checks() -> None:
    run("--name", "plain", *SLEEPER)
    run("--name", "good", "--health-cmd", "true", *QUICK, *SLEEPER)
    run("--name", "young", "--health-cmd", "true", *SLEEPER)
    until("good", is_now("healthy"))
    for wanted, names in (("healthy", "good"), ("starting", "young"), ("none", "plain"), ("unhealthy", "")):
        assert command("ps", "--filter", f"health={wanted}", "--format", "{{.Names}}").stdout.split() == names.split()
    assert not health("plain") and "(" not in shown("plain")
    assert "Unrecognised filter value for health: 'well'" in command("ps", "-f", "health=well", code=1).stderr
    command("create", "--name", "new", "--health-cmd", "true", *SLEEPER)
    assert not health("new")


def test_failures_in_the_start_period_do_not_count() -> None:
    period = ("--health-start-period", "10m", "--health-start-interval", "50ms", "--health-retries", "1")
    run("--name", "slow", "--health-cmd", "test -e /ok", *period, *SLEEPER)
    seen = until("slow", lambda seen: len(seen["Log"]) >= 3)
    assert (seen["Status"], seen["FailingStreak"]) == ("starting", 0)
    command("exec", "slow", "touch", "/ok")
    until("slow", is_now("healthy"))


def test_every_exit_code_but_0_is_a_failure_and_a_signal_is_told() -> None:
    run("--name", "two", "--health-cmd", "exit 2", *QUICK, "--health-retries", "1", *SLEEPER)
    run("--name", "signal", "--health-cmd", "kill -9 $$", *QUICK, "--health-retries", "1", *SLEEPER)
    assert until("two", is_now("unhealthy"))["Log"][0]["ExitCode"] == 2
    assert until("signal", is_now("unhealthy"))["Log"][0]["ExitCode"] == 137


def test_templates() -> None:
    run("--name", "web", "--health-cmd", "true", *QUICK, "--health-timeout", "90s", *SLEEPER)
    until("web", is_now("healthy"))
    form = "{{.State.Health.Status}} {{.Config.Healthcheck.Timeout}} {{.Config.Healthcheck.Test}} {{(index .State.Health.Log 0).ExitCode}}"
    assert command("inspect", "-f", form, "web").stdout == "healthy 1m30s [CMD-SHELL true] 0\n"
    found = json.loads(command("inspect", "web").stdout)[0]["Config"]["Healthcheck"]
    assert found == {"Test": ["CMD-SHELL", "true"], "Interval": 50_000_000, "Timeout": 90_000_000_000}


# --- whose check it is ------------------------------------------------------------------------------------------------


def test_an_images_check_and_what_the_command_line_makes_of_it() -> None:
    image("checked:1", 'HEALTHCHECK --interval=50ms --retries=7 CMD ["echo", "by image"]', 'CMD ["sleep", "600"]')
    run("--name", "as-it-is", "checked:1")
    assert last_output("as-it-is") == "by image\n"
    run("--name", "longer", "--health-timeout", "3s", "checked:1")
    (found,) = json.loads(command("inspect", "longer").stdout)
    assert found["Config"]["Healthcheck"] == {
        "Test": ["CMD", "echo", "by image"], "Interval": 50_000_000, "Timeout": 3_000_000_000, "Retries": 7,
    }  # fmt: skip
    run("--name", "other", "--health-cmd", "echo by command", "checked:1")
    assert last_output("other") == "by command\n"
    run("--name", "none", "--no-healthcheck", "checked:1")
    assert not health("none") and "(" not in shown("none")
    image("checked:2", "HEALTHCHECK NONE", 'CMD ["sleep", "600"]')
    run("--name", "no-more", "checked:2")
    assert not health("no-more")


def test_a_commit_keeps_the_check() -> None:
    image("checked:1", "HEALTHCHECK --interval=1m CMD true", 'CMD ["sleep", "600"]')
    run("--name", "base", "--health-retries", "4", "checked:1")
    command("commit", "base", "checked:2")
    (found,) = json.loads(command("image", "inspect", "checked:2").stdout)
    assert found["Config"]["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 60_000_000_000, "Retries": 4}


_WHO = "id -u; id -g; pwd; echo $A; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; cat /proc/self/oom_score_adj; ulimit -n"


@pytest.mark.parametrize(
    "options",
    [
        (), ("-u", "1000:1000"), ("--cap-add", "SYS_PTRACE"), ("--security-opt", "no-new-privileges", "--cap-drop", "ALL"),
        ("--privileged",), ("--userns", "0:200000:65536"), ("--pid", "host"), ("-t",), ("--init",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_it_is_what_the_containers_own_programs_are(options: tuple[str, ...]) -> None:
    own = (
        "-e",
        "A=b",
        "-w",
        "/var/tmp",
        "--ulimit",
        "nofile=77:77",
        "--oom-score-adj",
        "5",
        "--tmpfs",
        "/scratch:mode=1777",
    )
    program = f"{{ {_WHO}; }} >/scratch/it; sleep 600"
    run("--name", "it", *own, *options, "--health-cmd", f"{_WHO}; cat /scratch/it", *QUICK, "host", "sh", "-c", program)
    until("it", is_now("healthy"))
    lines = last_output("it").split("\n")[:-1]
    half = len(lines) // 2
    assert lines[:half] == lines[half:] and lines[2:4] == ["/var/tmp", "b"] and half > 10


def test_after_a_restart_by_policy_it_joins_the_new_run_and_begins_anew() -> None:
    program = "trap 'exit 1' TERM; while :; do sleep 0.05; done"
    container_id = run(
        "--name", "again", "--restart", "always", "--health-cmd", "readlink /proc/self/ns/pid; test -e /ok", *QUICK,
        "--health-retries", "1",
        "host", "sh", "-c", program,
    )  # fmt: skip

    def space_of(pid: int) -> str:
        return os.readlink(f"/proc/{pid}/ns/pid")

    def is_another(pid: int) -> bool:
        return pid_of("again") not in (0, pid)

    def all_from(space: str) -> Callable[[dict[str, Any]], bool]:
        return lambda seen: bool(seen["Log"]) and {each["Output"].strip() for each in seen["Log"]} == {space}

    for _ in range(2):
        until("again", is_now("unhealthy"))
        pid = pid_of("again")
        until("again", all_from(space_of(pid)))
        os.kill(pid, signal.SIGTERM)
        assert census.poll_until(functools.partial(is_another, pid))
        # already found bad in the new run, perhaps: but by results of that run alone
        until("again", all_from(space_of(pid_of("again"))))
    command("rm", "-f", "again")
    assert not check_cgroups(container_id)


# --- checks that mean harm --------------------------------------------------------------------------------------------


def test_what_it_says_is_kept_up_to_4096_bytes() -> None:
    run("--name", "long", "--health-cmd", "head -c 4096 /dev/zero | tr '\\0' x", *QUICK, *SLEEPER)
    run("--name", "longer", "--health-cmd", "head -c 300000 /dev/zero | tr '\\0' x", *QUICK, *SLEEPER)
    run("--name", "bytes", "--health-cmd", "printf 'a\\377\\0\"\\\\\\303\\244'", *QUICK, *SLEEPER)
    assert last_output("long") == "x" * 4096
    assert until("longer", is_now("healthy"))["Log"][0]["Output"] == "x" * 4096 + "..."
    assert last_output("bytes") == 'a\ufffd\0"\\\u00e4'


def test_one_that_never_ends_is_ended_with_all_that_it_has_started() -> None:
    script = "trap '' TERM; sleep 601 & setsid sleep 602 & (setsid sh -c 'trap \"\" TERM HUP; sleep 603 & sleep 604' &); sleep 605"
    container_id = run(
        "--name", "deaf", "--health-cmd", script, *QUICK, "--health-timeout", "300ms", "--health-retries", "1", *SLEEPER
    )
    seen = until("deaf", is_now("unhealthy"))
    assert (seen["Log"][0]["ExitCode"], seen["Log"][0]["Output"]) == (-1, "Health check exceeded timeout (300ms)")
    until("deaf", lambda seen: len(seen["Log"]) >= 3)
    assert sum("sleep 60" in each for each in inside("deaf")) <= 6  # of the one under way, at most
    command("pause", "deaf")  # no other begins
    command("unpause", "deaf")
    command("rm", "-f", "deaf")
    assert not check_cgroups(container_id)


def test_what_it_leaves_behind_is_ended(roots: Roots) -> None:
    script = "for i in 1 2 3; do setsid sleep 60$i </dev/null >/dev/null 2>&1 & done; sleep 604 & echo started"
    container_id = run("--name", "untidy", "--health-cmd", script, "--health-interval", "400ms", *SLEEPER)
    until("untidy", lambda seen: bool(seen["Log"]) and seen["Log"][-1]["Output"] == "started\n")
    assert census.poll_until(
        lambda: not any("sleep 60" in each for each in inside("untidy")) and not check_cgroups(container_id)
    )
    assert until("untidy", lambda seen: len(seen["Log"]) >= 2)["Status"] == "healthy"


def test_one_that_fills_its_output_for_ever(roots: Roots) -> None:
    container_id = run("--name", "loud", "--health-cmd", "exec yes", *QUICK, "--health-timeout", "500ms", *SLEEPER)
    # on a busy machine the first one's time may be up before it has said anything
    seen = until("loud", lambda seen: any("y\n" in each["Output"] for each in seen["Log"]))
    output = next(each["Output"] for each in seen["Log"] if "y\n" in each["Output"])
    assert output.startswith("Health check exceeded timeout (500ms): y\ny\n") and output.endswith("y\n...")
    assert census.poll_until(lambda: pss_kb(monitor_pid(roots, container_id)) <= 60)
    command("stop", "-t", "5", "loud")
    assert state("loud") == "exited"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--health-cmd", "true", "--entrypoint", "sleep", "shell-less:1", "600"), "no such file in the image: '/bin/sh' (ENOENT)"),
        (("program-less:1",), "executable file not found in $PATH: 'no-such-check' (ENOENT"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_started_is_a_failure(options: tuple[str, ...], said: str) -> None:
    program = member("bin/sleep", data=Path("/bin/busybox").read_bytes(), mode=0o755)
    for name, change in (
        ("shell-less:1", 'CMD ["sleep", "600"]'),
        ("program-less:1", 'HEALTHCHECK CMD ["no-such-check"]'),
    ):
        pycontain.Image.import_tar(io.BytesIO(tar(program)), name, changes=('CMD ["sleep", "600"]', change))
    run("--name", "it", *QUICK, "--health-retries", "1", *options)
    seen = until("it", is_now("unhealthy"))
    assert seen["Log"][0]["ExitCode"] == -1 and said in seen["Log"][0]["Output"]
    assert seen["Log"][0]["Output"].startswith("cannot start the health check of it: ")


def test_at_the_limit_of_processes_it_fails_and_recovers() -> None:
    fill = (
        "trap 'kill $pids; go=1' USR1; for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & pids=\"$pids $!\"; done; "
        'until [ "$go" ]; do wait; done; wait; sleep 600'
    )
    options = ("--pids-limit", "10", "--health-cmd", "true", *QUICK, "--health-retries", "1")
    run("--name", "full", *options, "host", "sh", "-c", fill)
    seen = until("full", is_now("unhealthy"))
    assert seen["Log"][-1]["ExitCode"] != 0
    command("kill", "-s", "USR1", "full")
    until("full", is_now("healthy"))


def test_stop_during_a_check_and_a_container_that_ends_by_itself() -> None:
    container_id = run(
        "--name", "busy", "--health-cmd", "touch /begun; sleep 600", *QUICK, "--health-timeout", "10m", *SLEEPER
    )
    assert census.poll_until(lambda: any("sleep 600" in each for each in inside("busy")))
    assert command("stop", "-t", "30", "busy").stdout == "busy\n"
    assert state("busy") == "exited" and command("wait", "busy").stdout == "7\n"
    assert health("busy")["Log"] == []  # how the check has ended is no word on the container
    ends = "until test -e /begun; do sleep 0.01; done; exit 3"
    run("--name", "short", "--health-cmd", "touch /begun; sleep 600", *QUICK, "host", "sh", "-c", ends)
    assert command("wait", "short").stdout == "3\n"
    assert not check_cgroups(container_id)


def test_with_the_hosts_process_numbers_nothing_outlives_the_container(tmp_path: Path) -> None:
    script = f"echo $$ >{tmp_path}/pid; sleep 600"
    volume = ("-v", f"{tmp_path}:{tmp_path}")
    run("--name", "open", "--pid", "host", *volume, "--health-cmd", script, *QUICK, "--health-timeout", "10m", *SLEEPER)
    assert census.poll_until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()), _DEADLINE_S)
    pid = int((tmp_path / "pid").read_text())
    command("stop", "-t", "5", "open")
    assert census.poll_until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_check_dies_with_the_monitor(roots: Roots, tmp_path: Path) -> None:
    container_id = run("--name", "lost", "--health-cmd", "sleep 600", *QUICK, "--health-timeout", "10m", *SLEEPER)
    assert census.poll_until(lambda: any("sleep 600" in each for each in inside("lost")))
    os.kill(monitor_pid(roots, container_id), signal.SIGKILL)
    assert census.poll_until(lambda: state("lost") == "exited")
    assert health("lost")["Status"] == "unhealthy" and not check_cgroups(container_id)
    command("start", "lost")
    assert health("lost")["Status"] == "starting"


# --- standing still ---------------------------------------------------------------------------------------------------


def test_one_that_is_paused_is_not_checked(roots: Roots) -> None:
    container_id = run(
        "--name",
        "still",
        "--health-cmd",
        "sleep 0.2",
        *QUICK,
        "--health-timeout",
        "2s",
        "--health-retries",
        "1",
        *SLEEPER,
    )
    until("still", is_now("healthy"))
    command("pause", "still")
    directory = detached.directory_of(roots, container_id)
    assert census.poll_until(lambda: not launchers(roots, container_id))
    before = sorted((each.name, each.stat().st_mtime_ns) for each in Path(directory).glob("health.*"))
    assert shown("still").endswith("(Paused)")
    assert not launchers(roots, container_id)
    assert before == sorted((each.name, each.stat().st_mtime_ns) for each in Path(directory).glob("health.*"))
    command("unpause", "still")
    newest = max(each[1] for each in before)
    assert census.poll_until(
        lambda: any(each.stat().st_mtime_ns > newest for each in Path(directory).glob("health.*")), _DEADLINE_S
    )
    seen = health("still")
    assert seen["Status"] == "healthy" and all(each["ExitCode"] == 0 for each in seen["Log"])


def launchers(roots: Roots, container_id: str) -> list[str]:
    """Children of the monitor beside the container."""
    parent = monitor_pid(roots, container_id)
    pid = monitor.read_state(detached.directory_of(roots, container_id))["pid"]
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        each for each in children if int(each) != pid and "pycontain-launch" in Path(f"/proc/{each}/comm").read_text()
    ]


def test_none_begins_while_somebody_looks_at_the_layer(roots: Roots) -> None:
    container_id = run("--name", "held", "--health-cmd", "true", "--health-interval", "1s", *SLEEPER)
    layer = os.open(f"{detached.directory_of(roots, container_id)}/layer", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(layer, fcntl.LOCK_EX)
        # until the monitor has tried, and has been told to come again
        assert not census.poll_until(lambda: bool(health("held")["Log"]), 1.5)
    finally:
        os.close(layer)
    until("held", is_now("healthy"))


# --- the monitor ------------------------------------------------------------------------------------------------------


def pss_kb(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:")))


def switches(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("voluntary_ctxt")))


def test_memory_and_rest_of_the_monitor(roots: Roots) -> None:
    busy = run("--name", "busy", "--health-cmd", "head -c 5000 /dev/zero", *QUICK, *SLEEPER)
    until("busy", lambda seen: len(seen["Log"]) == 5)
    assert pss_kb(monitor_pid(roots, busy)) <= 60
    idle = run("--name", "idle", "--health-cmd", "true", "--health-interval", "10h", "host", "sleep", "600")
    pid = monitor_pid(roots, idle)

    def rests() -> bool:
        before = switches(pid)
        time.sleep(0.3)
        return switches(pid) == before

    assert census.poll_until(rests)  # once it has reaped who has started the container


def test_a_result_that_is_damaged_is_left_out(roots: Roots) -> None:
    container_id = run("--name", "web", "--health-cmd", "true", *QUICK, *SLEEPER)
    until("web", is_now("healthy"))
    directory = detached.directory_of(roots, container_id)
    for damage in (b"", b"{", b'{"number":1}', b"\xff"):
        Path(directory, "health.0").write_bytes(damage)
        assert health("web")["Status"] == "healthy"


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wrong", "code"),
    [
        (("-d", "--health-interval", "1x"), "--health-interval: invalid duration '1x': there is no unit 'x'", 125),
        (("-d", "--health-timeout", "-1s"), "--health-timeout: invalid duration '-1s': it cannot be negative", 125),
        (("-d", "--health-cmd", "true", "--health-interval", "999us"), "Interval in Healthcheck cannot be less than 1ms", 125),
        (("-d", "--health-cmd", "true", "--health-start-period", "1ns"), "StartPeriod in Healthcheck cannot be less than 1ms", 125),
        (("-d", "--health-retries", "-1"), "--health-retries: invalid number '-1'", 125),
        (("-d", "--no-healthcheck", "--health-cmd", "true"), "--no-healthcheck conflicts with --health-* options", 125),
        (("--health-cmd", "true"), "--health-cmd is for a container that stays: add -d, or leave it out", 125),
    ],
)  # fmt: skip
def test_what_cannot_be(words: tuple[str, ...], wrong: str, code: int) -> None:
    assert wrong in command("run", *words, "host", "true", code=code).stderr
    assert command("ps", "-aq").stdout == ""


# --- an ordinary user's -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_of_the_user_left")
def test_an_ordinary_users(user: OrdinaryUser) -> None:
    def done(*words: str) -> str:
        ended = user.pycontain(*words)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    script = "id -u; sleep 601 & test -e /ok || sleep 602"
    options = ("--health-interval", "100ms", "--health-timeout", "500ms", "--health-retries", "1")
    done("run", "-d", "--name", "it", "--health-cmd", script, *options, *SLEEPER)
    form = "{{.State.Health.Status}} {{range .State.Health.Log}}{{.Output}}{{end}}"
    assert census.poll_until(lambda: done("inspect", "-f", form, "it").startswith("unhealthy "), _DEADLINE_S)
    assert "Health check exceeded timeout (500ms): 0\n" in done("inspect", "-f", form, "it")
    done("exec", "it", "touch", "/ok")
    assert census.poll_until(lambda: done("inspect", "-f", form, "it").startswith("healthy "), _DEADLINE_S)
    # without a cgroup what is left in its process group is ended all the same: at most one check's is there
    assert census.poll_until(lambda: done("top", "it").count("sleep 60") <= 1)
    done("rm", "-f", "it")
    for root, *names in ((user.data_root, "containers/names", "containers"), (user.run_root, "containers")):
        for name in names:
            Path(root, name).rmdir()
