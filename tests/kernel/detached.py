"""Containers for pycontain-launch and pycontain-monitor: a Plan in a file and what its slots take, as an engine would have them;
a monitor for it, and what can be seen of that."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from census import poll_until
from probes import DEADLINE_S

from pycontain.host import probe
from pycontain.plan import Place, plan
from pycontain.plan_mounts import layers_given
from pycontain.plan_namespaces import host_id
from pycontain.request import RunRequest
from pycontain.runtime import monitor
from pycontain.runtime.look import look
from pycontain.runtime.monitor import Control
from pycontain.runtime.roots import Roots
from pycontain.runtime.session import session_for
from pycontain.runtime.shapes import prepare_spec

__all__ = [
    "INSTANT", "Monitored", "Prepared", "cgroups_of", "end_monitor", "monitored", "output", "prepared", "sh", "until",
]  # fmt: skip

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


@dataclass(frozen=True)
class Prepared:
    """``slots``: what the Plan is given after the three streams."""

    id: str
    data_dir: str
    run_dir: str
    plan: bytes
    slots: tuple[int, ...]

    @property
    def plan_file(self) -> str:
        return f"{self.data_dir}/plan"

    @property
    def upper(self) -> str:
        return f"{self.data_dir}/layer/upper"


def cgroups_of(container_id: str) -> list[str]:
    """The cgroups that are there for this container."""
    found = []
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{directory}/{name}" for name in names if container_id in name]
    return found


@contextlib.contextmanager
def prepared(
    roots: Roots, *args: str, image: str = "host", kept: bool = True, size: tuple[int, int] = (0, 0), **options: Any
) -> Iterator[Prepared]:
    """Its owner, for cgroups and templates, is this process. ``size``: rows and columns of its terminal."""
    options.setdefault("pids_limit", 64)
    request = RunRequest(image=image, args=args, **options)
    facts = probe()
    session = session_for(roots, facts)
    container_id = os.urandom(32).hex()
    spec = prepare_spec(request, roots, facts, console_size=size, container_id=container_id)
    session.ensure_cgroups(spec.linux.resources)
    rootfs = look(request, data_root=roots.data_root, create=False).rootfs
    maps = session.ids.mappings(request)
    template = session.template(rootfs, hosts=request.network == "none", maps=maps)
    translation = session.ids.translation(maps)
    layers = session.ids.layers(template, rootfs.lower, maps) if layers_given(bool(maps[0]), facts) else ()
    data_dir, run_dir = (f"{root}/containers/{container_id}" for root in (roots.data_root, roots.run_root))
    layer = f"{data_dir}/layer"
    for directory in (run_dir, f"{layer}/upper", f"{layer}/work") if kept else (run_dir, data_dir):
        os.makedirs(directory, 0o755)
    if kept and maps[0]:
        os.chown(f"{layer}/upper", host_id(maps[0], 0) or 0, host_id(maps[1], 0) or 0)
    made = plan(
        spec,
        facts,
        Place(container_id=container_id, directory=layer, cgroup_parent=session.cgroup_parent, kept=kept),
    )
    with open(f"{data_dir}/plan", "wb") as f:
        f.write(made.data)
    slots = (template.mount_fd, template.top_fd, translation.fd, session.stub_fd, *(each.fd for each in layers))
    try:
        yield Prepared(id=container_id, data_dir=data_dir, run_dir=run_dir, plan=made.data, slots=slots)
    finally:
        for root in (roots.data_root, roots.run_root):
            shutil.rmtree(f"{root}/containers")


@dataclass(frozen=True)
class Monitored:
    made: Prepared
    pid: int  # the container's, at its first start

    @property
    def state(self) -> dict[str, Any]:
        return monitor.read_state(self.made.data_dir)

    @property
    def monitor_pid(self) -> int:
        return int(self.state["monitor_pid"])

    def control(self) -> Control:
        c = Control(self.made.run_dir)
        c.settimeout(DEADLINE_S)
        return c

    def wait(self) -> dict[str, Any]:
        """The last state, once the monitor has gone."""
        assert poll_until(lambda: not monitor.is_alive(self.made.run_dir), DEADLINE_S), self.state
        return self.state

    def lines(self, *files: str) -> list[dict[str, str]]:
        found = []
        for name in files or ("log",):
            with open(f"{self.made.data_dir}/{name}", encoding="utf-8") as f:
                found += [json.loads(line) for line in f]
        return found

    def log(self, stream: str = "stdout") -> str:
        return "".join(line["log"] for line in self.lines() if line["stream"] == stream)


def end_monitor(run_dir: str) -> None:
    with contextlib.suppress(OSError), Control(run_dir) as c:
        c.stop(signal.SIGKILL, 0)
    assert poll_until(lambda: not monitor.is_alive(run_dir))


@contextlib.contextmanager
def monitored(roots: Roots, *args: str, words: tuple[str, ...] = (), **options: Any) -> Iterator[Monitored]:
    with prepared(roots, *args, **options) as c:
        try:
            yield Monitored(c, monitor.start(c.data_dir, c.run_dir, c.slots, words))
        finally:
            end_monitor(c.run_dir)
        assert not cgroups_of(c.id)


def sh(roots: Roots, script: str, **options: Any) -> contextlib.AbstractContextManager[Monitored]:
    return monitored(roots, "sh", "-c", script, **options)


def output(c: Control) -> tuple[bytes, bytes]:
    """What comes on the two streams until the container has ended."""
    got = {monitor.STDOUT: b"", monitor.STDERR: b""}
    while (frame := c.receive()) is not None and frame[0] != monitor.ENDED:
        got[frame[0]] += frame[1]
    return got[monitor.STDOUT], got[monitor.STDERR]


def until(c: Control, wanted: bytes) -> bytes:
    got = b""
    while wanted not in got:
        frame = c.receive()
        assert frame is not None and frame[0] == monitor.STDOUT, (frame, got)
        got += frame[1]
    return got
