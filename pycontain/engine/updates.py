"""``update``: other limits, and another restart policy, of containers of both kinds, whether they run or not.

What a container that stays has is in three places, which must say the same: its cgroups, when it runs; the Plan that its monitor
starts it again from; its configuration, which the next start by the engine goes by. Either all of them change, or none.
"""

from __future__ import annotations

import os
import time

from .. import limits, parse
from ..errors import Conflict, InvalidArgument, PycontainError, SetupFailed, errno_name
from ..host import probe
from ..image.workspace import replace_file
from ..limits import CGROUP_BASE
from ..plan_limits import NewLimits, with_limits
from ..record import replaced
from ..runtime import cgroups, detached, foreground, monitor, stillness
from ..runtime.cgroups import Member
from ..runtime.container_events import emit_of
from ..runtime.late_cgroup import late_cgroup
from ..runtime.request_limits import changed_limits, effective_swap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..host import HostFacts
    from ..request import RunRequest
    from ..runtime.detached import Detached, Restart
    from ..runtime.foreground import Foreground
    from ..runtime.roots import Roots
    from ..spec.runtime import Resources

__all__ = ["update"]

_START_S = 0.5


def update(roots: Roots, text: str, changes: Mapping[str, Any], restart: Restart | None = None) -> None:
    """``changes``: fields of a RunRequest that are limits. What is not named stays as it is.

    Raises: ContainerNotFound; InvalidArgument: a value that makes no sense, contradicts another one, or is refused by the kernel, as a
    memory limit below what is in use; Unsupported: not on this host; Conflict.
    """
    kept = detached.find(roots, text)
    try:
        if kept is None:
            found = foreground.find(roots, text)
            _update_foreground(found, changes, restart)
            emit_of(roots, found, "update")
            return
        with detached.changing(roots, kept.id):
            _update_kept(roots, detached.load(roots, kept.id), changes, restart)
        emit_of(roots, kept, "update")
    except OSError as e:
        number = e.errno or 0
        raise SetupFailed(
            f"cannot update container {text}: {e.strerror} ({errno_name(number)}). Nothing was changed",
            step="update",
            errno=number,
        ) from None


# --- what is asked for ------------------------------------------------------------------------------------------------


def _asked(request: RunRequest, changes: Mapping[str, Any], facts: HostFacts) -> RunRequest:
    """The request with the changes. Raises: InvalidArgument, in Docker's words where it has some."""
    for field, name, others in (
        ("cpu_period_us", "CPU Period", ("cpus",)), ("cpu_quota_us", "CPU Quota", ("cpus",)),
        ("cpus", "NanoCPUs", ("cpu_period_us", "cpu_quota_us")),
    ):  # fmt: skip
        for other in others:
            if field in changes and other not in changes and getattr(request, other):
                what = {"cpus": "NanoCPUs", "cpu_period_us": "CPU Period", "cpu_quota_us": "CPU Quota"}[other]
                raise InvalidArgument(f"Conflicting options: {name} cannot be updated as {what} has already been set")
    asked = replaced(request, **changes)
    if "memory_bytes" in changes and "memory_swap_bytes" not in changes:
        swap = effective_swap(request)
        if swap is not None and 0 < swap < (asked.memory_bytes or 0):
            raise InvalidArgument(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time: "
                f"--memory-swap is {swap}"
            )
        if swap is not None and (facts.swap_accounting or request.memory_swap_bytes is not None):
            asked = replaced(asked, memory_swap_bytes=swap)  # it does not grow with the memory
    parse.check(asked)
    return asked


def _resources(request: RunRequest, names: frozenset[str], facts: HostFacts) -> Resources:
    found = changed_limits(request, names)
    if request.memory_swap_bytes is None and not facts.swap_accounting:
        found = replaced(found, memory=replaced(found.memory, swap=None))
    return found


# --- one that stays ---------------------------------------------------------------------------------------------------


def _update_kept(roots: Roots, now: Detached, changes: Mapping[str, Any], restart: Restart | None) -> None:
    facts = probe()
    if restart is not None and restart.policy != "no" and now.auto_remove:
        raise Conflict(
            f"cannot update container {now.name}: Restart policy cannot be updated because AutoRemove is enabled for the container"
        )
    request = _asked(now.request, changes, facts)
    new = replaced(now, request=request, restart=restart or now.restart)
    state = detached.state_of(roots, now, locked=True)
    resources = _resources(request, frozenset(changes), facts)
    if state.is_alive and changes:
        _update_alive(roots, now, new, resources, facts)
    else:
        limits.writes_of(resources, facts)  # what this host cannot do is refused now, not at the next start
        detached.write(roots, new)
    if restart is not None and state.is_alive:
        try:
            with monitor.Control(detached.run_directory_of(roots, now.id)) as control:
                control.set_policy(restart.policy, restart.most)
        except (OSError, monitor.Refused):
            pass  # it has ended: its next start goes by its configuration


def _update_alive(roots: Roots, now: Detached, new: Detached, resources: Resources, facts: HostFacts) -> None:
    directory = detached.directory_of(roots, now.id)
    found = detached.as_running(roots, now, detached.state_of(roots, now, locked=True))
    members = stillness.members_of(found)
    late = _late_members(found, members, resources, facts)
    both = (*members, *late)
    files = _Files([f"{directory}/{name}" for name in ("plan", "health-plan", "place", "config")])
    done: list[tuple[str, str]] = []
    try:
        # the Plan first: whatever its monitor starts from here on has the new limits
        changes = _new_limits(both, resources, facts)
        files.change("plan", lambda data: with_limits(data, changes))
        files.change("health-plan", lambda data: with_limits(data, changes))
        if _runs(roots, now):
            for each in late:
                if each.version == 1:
                    cgroups.move_all(members, each.directory)
            done = cgroups.update(both, resources, facts)
        if late:
            detached.add_members(
                roots, now.id, tuple((each.controllers, each.version, each.directory) for each in late)
            )
        detached.write(roots, new)
    except BaseException:
        cgroups.put_back(done)
        files.restore()
        raise


def _runs(roots: Roots, found: Detached) -> bool:
    """Whether there is something to be limited now. One that is just being started again may have read the Plan before us."""
    end = time.monotonic() + _START_S
    while True:
        state = detached.state_of(roots, found, locked=True)
        if state.status != "restarting" or time.monotonic() > end:
            return bool(state.pid)
        time.sleep(0.005)


def _late_members(
    found: Foreground, members: tuple[Member, ...], resources: Resources, facts: HostFacts
) -> tuple[Member, ...]:
    """Cgroups in the hierarchies of controllers that it has gone without until now."""
    parent = f"{CGROUP_BASE}/{found.owner}"
    made = []
    for name in limits.writes_of(resources, facts):
        if not any(name in each.controllers for each in members):
            one = late_cgroup(name, parent, found.cgroup_name, facts)
            if one.version == 1:  # in cgroup v2 it is in the one directory already
                made.append(one)
    return tuple(made)


def _new_limits(members: tuple[Member, ...], resources: Resources, facts: HostFacts) -> tuple[NewLimits, ...]:
    return tuple(
        [
            NewLimits(path=where.directory, version=where.version, writes=tuple(writes))
            for name, writes in cgroups.writes_now(members, resources, facts).items()
            for where in (cgroups.member_of(members, name, facts),)
        ]
    )


class _Files:
    """What was in files, to be put back."""

    def __init__(self, paths: list[str]) -> None:
        self._before: dict[str, bytes] = {}
        for path in paths:
            try:
                with open(path, "rb") as file:
                    self._before[path] = file.read()
            except FileNotFoundError:
                pass  # no health checks

    def change(self, name: str, make: Any) -> None:
        for path, data in self._before.items():
            if os.path.basename(path) == name:
                replace_file(path, make(data))

    def restore(self) -> None:
        for path, data in self._before.items():
            try:
                with open(path, "rb") as file:
                    same = file.read() == data
                if not same:
                    replace_file(path, data)
            except OSError:
                pass  # it has been removed, or the disk is full: then nothing of ours is there either


# --- one in the foreground of another command -------------------------------------------------------------------------


def _update_foreground(found: Foreground, changes: Mapping[str, Any], restart: Restart | None) -> None:
    from ..request import RunRequest

    if restart is not None:
        raise Conflict(
            f"container {found.name} runs in the foreground of another command, which it does not outlive: it has no restart policy"
        )
    facts = probe()
    request = _asked(RunRequest(image=found.image), changes, facts)
    resources = _resources(request, frozenset(changes), facts)
    members = stillness.members_of(found)
    with stillness.alone(found.directory, found.name):
        late = _late_members(found, members, resources, facts)
        try:
            for each in late:
                if each.version == 1:
                    cgroups.move_all(members, each.directory)
            cgroups.update((*members, *late), resources, facts)
        except PycontainError:
            stillness.check_lives(found, "update")
            raise
