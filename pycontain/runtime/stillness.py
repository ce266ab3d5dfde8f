"""Another process's container, stopped where it stands: paused, or held still for as long as a commit looks at its files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .. import _native
from ..errors import Conflict, SetupFailed, Unsupported, errno_name
from ..host import probe
from ..limits import CGROUP_BASE, Cgroup, path_of
from . import cgroups
from .session import GUARDIAN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .foreground import Foreground

__all__ = ["alone", "check_lives", "held_still", "is_paused", "members_of", "pause", "unpause"]


@contextmanager
def held_still(found: Foreground) -> Iterator[None]:
    """None of its processes makes progress meanwhile; one that was paused before stays so.

    However we end, it goes on: a helper thaws it when we could not. One at a time: who comes second waits.
    Raises: Conflict: it has ended; Unsupported: this host has no freezer; SetupFailed.
    """
    with alone(found.directory, found.name):
        if is_paused(found):
            yield
            return
        with _thawed_after(_freezer(found)):
            _freeze(found)
            yield


def is_paused(found: Foreground) -> bool:
    """Whether it stands still, by whomever. Raises: nothing when it has ended: then it does not."""
    members = members_of(found)
    if not _is_late(members):
        return any(cgroups.is_frozen(each) for each in members)
    member = _late_directory(found)
    if member is None or not os.path.isdir(member.directory):
        return False
    return cgroups.is_frozen(member) and bool(cgroups.pids((member,)))


def pause(found: Foreground) -> None:
    """Until :func:`unpause`. Raises: Conflict: it is paused, or has ended; Unsupported: no freezer; SetupFailed."""
    with alone(found.directory, found.name):
        if is_paused(found):
            raise Conflict(f"Container {found.id} is already paused")
        try:
            _freeze(found)
        except BaseException:
            _thaw(found)
            raise


def unpause(found: Foreground) -> None:
    """Raises: Conflict: it is not paused, or has ended; Unsupported."""
    with alone(found.directory, found.name):
        if not is_paused(found):
            raise Conflict(f"Container {found.id} is not paused")
        _thaw(found)


def members_of(found: Foreground) -> tuple[cgroups.Member, ...]:
    """The cgroups that it alone is in."""
    return tuple(cgroups.Member(controllers=c, version=v, directory=d) for c, v, d in found.members)


def _is_late(members: tuple[cgroups.Member, ...]) -> bool:
    return not any(m.version == 2 or "freezer" in m.controllers for m in members)


def _freezer(found: Foreground) -> cgroups.Member:
    members = members_of(found)
    return _late_member(found) if _is_late(members) else cgroups.freezer(members, "pause")


def _freeze(found: Foreground) -> None:
    """Frozen first, then filled: who arrives stands still and cannot fork."""
    member = _freezer(found)
    cgroups.freeze((member,))
    if _is_late(members_of(found)):
        cgroups.move_all(members_of(found), member.directory)


def _thaw(found: Foreground) -> None:
    try:
        cgroups.thaw((_freezer(found),))
    except Conflict:
        pass  # it has ended


def check_lives(found: Foreground, verb: str) -> None:
    """What was read of it until now is whole: at its end its files go, one after the other. Raises: Conflict: it has ended."""
    members = members_of(found)
    if (members and not cgroups.pids(members)) or not os.path.isdir(found.upper):
        raise Conflict(f"cannot {verb} {found.name}: it has ended meanwhile, and its files are gone")


@contextmanager
def alone(directory: str, name: str, *, own: bool = False, shared: bool = False) -> Iterator[None]:
    """Nobody else freezes or thaws the container of this directory meanwhile. Raises: Conflict: it has ended.

    ``own``: by the process that it belongs to. One of a bundle has no directory, and nobody else knows of it. ``shared``: with
    others who only want that.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        if own:
            yield
            return
        raise Conflict(f"container {name} has ended") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough, when somebody has forked meanwhile
        os.close(fd)


@contextmanager
def _thawed_after(member: cgroups.Member) -> Iterator[None]:
    """Nobody in a frozen cgroup can help himself, and SIGTERM, kill -9 or lack of memory can end us at any moment."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            _, pidfd = _native.spawn_helper((GUARDIAN, "thaw", *cgroups.thawing(member)), read_end)
        finally:
            os.close(read_end)
    except OSError as e:
        os.close(write_end)
        raise SetupFailed(
            f"cannot start the helper that thaws it if we end: {GUARDIAN}: {e.strerror} ({errno_name(e.errno or 0)})",
            step="pause", errno=e.errno or 0,
        ) from None  # fmt: skip
    try:
        yield
    finally:
        try:
            cgroups.thaw((member,))
        except Conflict:
            pass  # it has ended: what was read of it says so, or is whole
        finally:
            os.close(write_end)
            _native.reap(pidfd, _native.Exit(), block=True)  # so that it thaws nothing that others freeze next
            os.close(pidfd)


def _late_member(found: Foreground) -> cgroups.Member:
    """A cgroup with a freezer, which a start goes without; removed with all that is its owner's."""
    member = _late_directory(found)
    if member is None:
        raise Unsupported(
            "cannot pause: there is neither a cgroup v2 nor a v1 freezer here that this user may use. Run as root; a commit needs none "
            "with --pause=false"
        )
    try:
        os.makedirs(member.directory, 0o755, exist_ok=True)
    except OSError as e:
        raise Conflict(
            f"cannot pause {found.name}: {e.strerror} ({errno_name(e.errno or 0)}): {member.directory}"
        ) from None
    return member


def _late_directory(found: Foreground) -> cgroups.Member | None:
    """Where such a one is, or would be."""
    facts = probe()
    v2 = bool(facts.unified) and not facts.cgroup_obstacle
    where = None if v2 else facts.controllers.get("freezer")
    if not v2 and (where is None or where.obstacle):
        return None
    mount, base = (where.mount, where.base) if where is not None else (facts.unified, facts.cgroup_base)
    names = () if v2 else ("freezer",)
    group = Cgroup(controllers=names, version=2 if v2 else 1, mount=mount, base=base)
    directory = path_of(group, f"{CGROUP_BASE}/{found.owner}", found.cgroup_name)
    return cgroups.Member(controllers=names, version=group.version, directory=directory)
