"""Containers for pycontain-launch and pycontain-monitor: a Plan in a file and what its slots take, as an engine would have them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pycontain.host import probe
from pycontain.plan import Place, plan
from pycontain.plan_mounts import layers_given
from pycontain.plan_namespaces import host_id
from pycontain.request import RunRequest
from pycontain.runtime.look import look
from pycontain.runtime.roots import Roots
from pycontain.runtime.running import prepare_spec
from pycontain.runtime.session import session_for

__all__ = ["Prepared", "cgroups_of", "prepared"]


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
        if container_id in names:
            found.append(f"{directory}/{container_id}")
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
