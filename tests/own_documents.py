"""Containers whose document asks for what no option of ours does: resources and a cgroupsPath of the test's own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from pycontain import _native, host, options
from pycontain.plan import Place, plan
from pycontain.runtime import generate, shapes
from pycontain.runtime.cgroup_tree import Claim, claim
from pycontain.runtime.cgroups import Member, kill
from pycontain.runtime.failure import describe
from pycontain.runtime.look import look
from pycontain.runtime.roots import default_roots
from pycontain.runtime.session import session_for
from pycontain.spec.runtime import Resources

__all__ = ["at_path", "with_resources"]


@contextlib.contextmanager
def with_resources(resources: Resources) -> Iterator[None]:
    """Every container started in the block gets these, with our device rules unless it has its own."""
    usual = generate._resources

    def ours(request: Any, found: Any) -> Resources:
        return dataclasses.replace(resources, devices=resources.devices or usual(request, found).devices)

    # a Plan that is kept for the request's shape would not ask
    with mock.patch.object(generate, "_resources", ours), mock.patch.object(shapes, "_shapes", {}):
        yield


@contextlib.contextmanager
def at_path(
    path: str,
    resources: Resources | None = None,
    *args: str,
    meanwhile: Callable[[Claim], None] | None = None,
    tolerated: int = 0,
) -> Iterator[tuple[int, Claim]]:
    """A container in the cgroups that ``path`` names: (pid, what was made for it). It ends with the block.

    ``meanwhile``: happens when they are made, and it is not started yet.
    """
    roots, facts = default_roots(), host.probe()
    session = session_for(roots, facts)
    request = options.request("host", args or ("sleep", "600"), {})
    container_id = os.urandom(32).hex()
    spec = shapes.prepare_spec(request, roots, facts, container_id=container_id)
    wanted = dataclasses.replace(resources or Resources(), devices=spec.linux.resources.devices)
    spec = dataclasses.replace(spec, linux=dataclasses.replace(spec.linux, cgroups_path=path, resources=wanted))
    claimed = claim(wanted, facts, path, tolerated=tolerated)
    started, end = _native.Started(), _native.Exit()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        place = Place(
            container_id=container_id,
            directory=f"{session.directory}/{container_id}",
            cgroup_parent=session.cgroup_parent,
        )
        made = plan(spec, facts, place)
        template = session.template(look(request, data_root=roots.data_root).rootfs, hosts=True)
        if meanwhile is not None:
            meanwhile(claimed)
        given = (null, null, null, template.mount_fd, template.top_fd, -1, session.stub_fd)
        _native.start(made.data, given, started, deadline_ns=0)
        yield started.pid, claimed
    except _native.StartFailure as failure:
        raise describe(failure, made, who="it", program="sleep", env_path=None) from None
    finally:
        os.close(null)
        if started.pidfd >= 0:
            kill(
                tuple(
                    Member(controllers=g.controllers, version=g.version, directory=g.mount + g.path)
                    for g in claimed.groups
                )
            )
            _native.reap(started.pidfd, end, block=True)
            os.close(started.pidfd)
            _native.finish(made.data)
        claimed.release()
