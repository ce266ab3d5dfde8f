"""pycontain-monitor: a detached container's start, restarts, state and end, with no Python in between."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time

import pytest
from census import poll_until
from detached import INSTANT, Prepared, cgroups_of, end_monitor, monitored, prepared, sh
from probes import DEADLINE_S

from pycontain import _native
from pycontain.errors import SetupFailed
from pycontain.runtime import monitor
from pycontain.runtime.roots import Roots
from pycontain.spec.runtime import IDMapping

pytestmark = pytest.mark.kernel


# --- start and end ---------------------------------------------------------------------------------------------------


def test_it_runs_and_its_end_is_in_the_state(roots: Roots) -> None:
    before = time.time()
    with sh(roots, "read x; exit 3", words=("stdin",)) as m:
        running = m.state
        assert running["status"] == "running" and running["pid"] == m.pid and running["finished_at"] == ""
        with open(f"/proc/{m.pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        assert running["pid_started"] == int(fields[22 - 3])
        assert int(fields[4 - 3]) == m.monitor_pid
        with m.control() as c:
            c.send_stdin(b"\n")
            assert c.ended() == (3, 0, False)
        ended = m.wait()
    assert (ended["status"], ended["exit_code"], ended["signal"], ended["pid"]) == ("exited", 3, 0, 0)
    assert INSTANT.fullmatch(ended["started_at"]) and INSTANT.fullmatch(ended["finished_at"])
    assert ended["started_at"] < ended["finished_at"]
    began = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))
    assert began <= ended["started_at"] <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_the_monitor_is_no_child_of_who_started_it(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m:
        with open(f"/proc/{m.monitor_pid}/status", encoding="ascii") as f:
            parent = next(line for line in f if line.startswith("PPid:")).split()[1]
        assert int(parent) != os.getpid()
        assert os.listdir(f"/proc/{m.monitor_pid}/task") == [str(m.monitor_pid)]


def test_a_killed_container_ends_with_128_and_the_signal(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m:
        with m.control() as c:
            c.kill(signal.SIGKILL)
            assert c.ended() == (137, 9, False)
        assert m.wait()["signal"] == 9


def test_out_of_memory_is_in_the_state(roots: Roots) -> None:
    hungry = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"
    with sh(roots, hungry, memory_bytes=16 << 20, memory_swap_bytes=16 << 20) as m:
        assert m.wait()["oom_killed"] is True


def test_a_plan_that_fails_gives_its_report(roots: Roots) -> None:
    with prepared(roots, "/no/such/program") as c:
        with pytest.raises(_native.StartFailure) as failure:
            monitor.start(c.data_dir, c.run_dir, c.slots, ("restart=always",))
        assert (failure.value.step, failure.value.errno, failure.value.section) == ("find program", 2, "child")
        end_monitor(c.run_dir)
        state = monitor.read_state(c.data_dir)
        assert (state["status"], state["error_step"], state["error_errno"]) == ("created", "find program", 2)
        assert not cgroups_of(c.id) and not os.path.exists(f"{c.run_dir}/attach")


def test_a_second_monitor_is_refused(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m:
        with pytest.raises(_native.StartFailure) as failure:
            monitor.start(m.made.data_dir, m.made.run_dir, m.made.slots)
        assert (failure.value.step, failure.value.errno) == ("set up monitor", 11)
        assert m.state["status"] == "running"


@pytest.mark.parametrize(
    "word", ["", "restart=never", "restart=on-failure:", "log=journald", "max-size=1k", "max-file=0", "remove=x"]
)
def test_words_that_it_does_not_know_are_refused(roots: Roots, word: str) -> None:
    with prepared(roots, "true") as c:
        with pytest.raises(_native.StartFailure) as failure:
            monitor.start(c.data_dir, c.run_dir, c.slots, (word,))
        assert (failure.value.step, failure.value.errno, failure.value.arg) == ("set up monitor", 22, 0)


def test_slots_that_do_not_fit_the_plan_are_refused(roots: Roots) -> None:
    with prepared(roots, "true") as c:
        with pytest.raises(_native.StartFailure) as failure:
            monitor.start(c.data_dir, c.run_dir, c.slots[:-1])
        assert failure.value.step == "fill slots"
        end_monitor(c.run_dir)


def test_a_launcher_that_says_nothing_is_a_failed_start(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("/bin/true", "/no/such/launcher"):
        monkeypatch.setattr(monitor, "LAUNCH", program)
        with prepared(roots, "true") as c:
            with pytest.raises(_native.StartFailure) as failure:
                monitor.start(c.data_dir, c.run_dir, c.slots, ("restart=always",))
            assert failure.value.step == ("run launcher" if program == "/bin/true" else "set up monitor")
            end_monitor(c.run_dir)


def test_when_the_monitor_is_killed_the_container_dies_and_the_lock_is_free(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m:
        os.kill(m.monitor_pid, signal.SIGKILL)
        assert poll_until(lambda: not monitor.is_alive(m.made.run_dir))
        assert poll_until(lambda: not os.path.exists(f"/proc/{m.pid}"))
        assert m.state["status"] == "running"  # with a free lock: it is dead
        _native.finish(m.made.plan)


def _holder(lock: str) -> int:
    """The pid of who has taken the lock."""
    with open("/proc/locks", encoding="ascii") as f:
        return next(int(line.split()[4]) for line in f if f":{os.stat(lock).st_ino} " in line)


def _members(container_id: str) -> list[str]:
    found = []
    for cgroup in cgroups_of(container_id):
        with contextlib.suppress(OSError), open(f"{cgroup}/cgroup.procs", encoding="ascii") as f:
            found += f.read().split()
    return found


@pytest.mark.race
def test_a_monitor_killed_at_any_moment_of_a_start_leaves_nobody(roots: Roots) -> None:
    for i in range(20):
        with prepared(roots, "sleep", "600") as c:

            def begin(c: Prepared = c) -> None:
                with contextlib.suppress(OSError, _native.StartFailure, SetupFailed):
                    monitor.start(c.data_dir, c.run_dir, c.slots)

            thread = threading.Thread(target=begin)
            thread.start()
            assert poll_until(lambda c=c: os.path.exists(f"{c.run_dir}/attach"))  # type: ignore[misc]
            time.sleep(i * 0.0003)
            os.kill(_holder(f"{c.run_dir}/lock"), signal.SIGKILL)
            thread.join()
            # by then no launcher is at work any more, either
            assert poll_until(lambda c=c: not monitor.is_alive(c.run_dir))  # type: ignore[misc]
            assert poll_until(lambda c=c: not _members(c.id)), i  # type: ignore[misc]
            _native.finish(c.plan)


def test_with_rm_nothing_is_left(roots: Roots) -> None:
    with prepared(roots, "sh", "-c", "echo gone >/file") as c:
        name = f"{c.data_dir}.name"
        os.symlink(c.id, name)
        words = [f"remove={path}" for path in (c.data_dir, name, c.run_dir)]
        monitor.start(c.data_dir, c.run_dir, c.slots, words)
        assert poll_until(lambda: not any(os.path.lexists(path) for path in (c.data_dir, name, c.run_dir)))
        assert not cgroups_of(c.id)


def test_what_cannot_be_removed_makes_it_dead(roots: Roots) -> None:
    with prepared(roots, "true", mounts=()) as c:
        kept = f"{c.data_dir}/kept"
        os.mkdir(kept)
        subprocess.run(["mount", "-t", "tmpfs", "none", kept], check=True)
        try:
            monitor.start(c.data_dir, c.run_dir, c.slots, (f"remove={kept}",))
            assert poll_until(lambda: not monitor.is_alive(c.run_dir))
            state = monitor.read_state(c.data_dir)
            assert (state["status"], state["not_removed"]) == ("dead", kept)
        finally:
            subprocess.run(["umount", kept], check=True)


# --- stop, kill, restart ---------------------------------------------------------------------------------------------


def test_a_stop_ends_what_ignores_its_signal_after_the_grace(roots: Roots) -> None:
    with sh(roots, "trap '' TERM; echo ready; while :; do sleep 1; done", words=("restart=always",)) as m:
        with m.control() as c:
            assert poll_until(lambda: m.log() == "ready\n")
            c.stop(signal.SIGTERM, 1)
            assert c.ended() == (137, 9, False)
        state = m.wait()
        assert (state["status"], state["stopped_by_request"], state["restart_count"]) == ("exited", True, 0)


def test_a_stop_within_the_grace_is_the_programs_ownend_monitor(roots: Roots) -> None:
    with sh(roots, "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done") as m, m.control() as c:
        assert poll_until(lambda: m.log() == "ready\n")
        c.stop(signal.SIGUSR1, monitor.FOREVER)
        assert c.ended() == (7, 0, False)
        m.wait()


def test_sigterm_for_the_monitor_is_a_stop(roots: Roots) -> None:
    with sh(roots, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done", words=("restart=always",)) as m:
        assert poll_until(lambda: m.log() == "ready\n")
        os.kill(m.monitor_pid, signal.SIGTERM)
        state = m.wait()
        assert (state["exit_code"], state["stopped_by_request"]) == (7, False)


def test_a_wrong_signal_is_refused(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m, m.control() as c:
        for number in (0, 65):
            with pytest.raises(monitor.Refused, match="no such signal"):
                c.kill(number)
            with pytest.raises(monitor.Refused, match="no such signal"):
                c.stop(number, 0)
        assert m.state["stopped_by_request"] is False


def test_on_failure_starts_again_as_often_as_it_says(roots: Roots) -> None:
    with sh(roots, "echo run >>/runs; cat /runs; exit 9", words=("restart=on-failure:3",)) as m:
        state = m.wait()
        assert (state["status"], state["exit_code"], state["restart_count"]) == ("exited", 9, 3)
        assert m.log() == "run\n" * (1 + 2 + 3 + 4)  # its layer is kept from start to start


def test_on_failure_does_not_start_again_what_has_done_well(roots: Roots) -> None:
    with monitored(roots, "true", words=("restart=on-failure",)) as m:
        assert m.wait()["restart_count"] == 0


def test_the_pause_between_restarts_doubles(roots: Roots) -> None:
    with monitored(roots, "false", words=("restart=on-failure:4",)) as m:
        began = time.monotonic()
        m.wait()
        assert time.monotonic() - began >= 0.1 + 0.2 + 0.4 + 0.8 - 0.1


def test_a_client_is_told_of_eachend_monitor(roots: Roots) -> None:
    with sh(roots, "read x; exit $x", words=("restart=on-failure:1", "stdin")) as m, m.control() as c:
        c.send_stdin(b"4\n")
        assert c.ended() == (4, 0, True)
        assert poll_until(lambda: m.state["restart_count"] == 1 and m.state["status"] == "running")
        c.send_stdin(b"0\n")
        assert c.ended() == (0, 0, False)
        m.wait()


def test_a_stop_ends_the_wait_for_a_restart(roots: Roots) -> None:
    with sh(roots, "exit 6", words=("restart=always",)) as m, m.control() as c:
        while (end := c.ended()) is not None and m.state["restart_count"] < 2:
            assert end == (6, 0, True)
        c.stop(signal.SIGTERM, 10)
        state = m.wait()
        assert (state["status"], state["stopped_by_request"]) == ("exited", True)


def test_a_policy_can_be_changed_while_it_runs(roots: Roots) -> None:
    with sh(roots, "read x; exit 3", words=("restart=always", "stdin")) as m, m.control() as c:
        c.set_policy("no")
        c.send_stdin(b"\n")
        assert c.ended() == (3, 0, False)
        assert m.wait()["restart_count"] == 0


def test_a_restart_that_fails_ends_it_with_the_reason(roots: Roots) -> None:
    with sh(roots, "read x; exit 3", words=("restart=always", "stdin")) as m, m.control() as c:
        os.rename(m.made.plan_file, f"{m.made.plan_file}.away")
        c.send_stdin(b"\n")
        assert c.ended() == (3, 0, True)
        state = m.wait()
        assert (state["status"], state["exit_code"]) == ("exited", 3)
        assert (state["error_step"], state["error_errno"]) == ("read plan file", 2)
        os.rename(f"{m.made.plan_file}.away", m.made.plan_file)
        _native.finish(m.made.plan)


def test_a_terminal_comes_again_with_each_start(roots: Roots) -> None:
    with sh(roots, "tty; exit 1", words=("restart=on-failure:2", "tty"), terminal=True) as m:
        m.wait()
        assert m.log() == "/dev/pts/0\r\n" * 3


def test_translated_layers_are_there_for_each_start(roots: Roots) -> None:
    own = (IDMapping(container_id=0, host_id=700_000, size=65536),)
    script = "echo x >>/runs; stat -c %u /runs /etc/passwd; exit 1"
    with sh(roots, script, words=("restart=on-failure:2",), uid_mappings=own, gid_mappings=own) as m:
        m.wait()
        assert m.log() == "0\n0\n" * 3
        assert os.stat(f"{m.made.upper}/runs").st_uid == 700_000


def test_paused_is_noted(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m, m.control() as c:
        c.note_paused(True)
        assert m.state["status"] == "paused"
        c.note_paused(False)
        assert m.state["status"] == "running"


# --- cost ------------------------------------------------------------------------------------------------------------


def _pss_kb(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def _switches(pid: int) -> list[str]:
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return [line for line in f if "ctxt_switches" in line]


def test_short_lines_cost_little_either(roots: Roots) -> None:
    with sh(
        roots, "seq 1 1000; echo done; exec sleep 600"
    ) as m:  # less than a page, which JSON makes seventy kilobytes
        assert poll_until(lambda: m.log().endswith("done\n"), DEADLINE_S)
        assert poll_until(lambda: _pss_kb(m.monitor_pid) <= 60), _pss_kb(m.monitor_pid)


def test_it_costs_little_and_sleeps(roots: Roots) -> None:
    with sh(roots, "seq 1 100000; echo done; exec sleep 600") as m:
        assert poll_until(lambda: m.log().endswith("done\n"), DEADLINE_S)
        pid = m.monitor_pid
        assert poll_until(lambda: _pss_kb(pid) <= 60), _pss_kb(pid)  # what the busy time took is given back
        before = _switches(pid)
        time.sleep(2)
        assert _switches(pid) == before
